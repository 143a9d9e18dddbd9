"""Flags of XLA for training on TPUs and GPUs, each with its reason and source. The only place.

A flag is here if it is off by default, exists in the compiler of the locked versions (a test asks
each compiler), and acts on what this training step has: gathers of weights and sums of gradients
around unrolled blocks. None of them was timed.

Left out: what is on without a flag (on TPUs the scheduler that hides latency, asynchronous gathers
and their fusion; on GPUs autotuning at its full level), and the GPU's flags that pipeline
collectives of loops, since a step has no loop around its blocks. Flags for sums within a slice
(`xla_tpu_enable_async_collective_fusion_fuse_all_reduce`, `xla_enable_async_all_reduce`) left the
ahead-of-time program of a small sharded network on v5e, v6e and v5p as it was, to the letter. So
did those of `MULTISLICE`, on two slices: they are here on their source's word.

What a job's [env] says of the same variable takes the place of all of these.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Flag:
  """One flag.

  Attributes:
    name: without dashes.
    value: as the compiler reads it.
    why: what it does for this workload.
    source: where that is said.
  """

  name: str
  value: str
  why: str
  source: str

  def __str__(self) -> str:
    return f"--{self.name}={self.value}"


# In LIBTPU_INIT_ARGS, which libtpu reads when it starts. Only where there are several slices.
MULTISLICE = (
  Flag(
    "xla_tpu_enable_data_parallel_all_reduce_opt",
    "true",
    "sums of gradients between slices, which take the slow network, are treated as those of data"
    " parallelism and overlap with the backward pass",
    "AI-Hypercomputer/maxtext, benchmarks/xla_flags_library.py, DATA_PARALLEL_OVERLAP",
  ),
  Flag(
    "xla_tpu_data_parallel_opt_different_sized_ops",
    "true",
    "the same for kernels of different sizes, as the levels of a UNet have",
    "AI-Hypercomputer/maxtext, benchmarks/xla_flags_library.py, DATA_PARALLEL_OVERLAP",
  ),
)

# In XLA_FLAGS.
GPU = (
  Flag(
    "xla_gpu_enable_latency_hiding_scheduler",
    "true",
    "collectives start as early and end as late as their operands allow, so that gathers of the"
    " next block run beside this one",
    "https://docs.jax.dev/en/latest/gpu_performance_tips.html",
  ),
  Flag(
    "xla_gpu_all_gather_combine_threshold_bytes",
    str(128 * 2**20),
    "SVD's weights are gathered in about 700 pieces of 8 MB a step; joined up to 128 MiB they are"
    " few enough for the network, and small enough to overlap",
    "https://docs.nvidia.com/jax-toolbox/performance-profiling/gpu-performance; size: judgement",
  ),
  Flag(
    "xla_gpu_reduce_scatter_combine_threshold_bytes",
    str(128 * 2**20),
    "gradients take the way back of the gathers",
    "https://docs.nvidia.com/jax-toolbox/performance-profiling/gpu-performance; size: judgement",
  ),
  Flag(
    "xla_gpu_all_reduce_combine_threshold_bytes",
    str(128 * 2**20),
    "sums over mesh.replica, and of the vectors, which are many and small",
    "https://docs.nvidia.com/jax-toolbox/performance-profiling/gpu-performance; size: judgement",
  ),
)
# JAX takes 75 % of a GPU's memory by default; nothing else runs on these. The rest is for CUDA,
# cuDNN and NCCL. Source: https://docs.jax.dev/en/latest/gpu_memory_allocation.html
_GPU_MEMORY = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}


def for_tpus(slices: int) -> dict[str, str]:
  """Environment variables of training on TPUs."""
  return {"LIBTPU_INIT_ARGS": _joined(MULTISLICE)} if slices > 1 else {}


def for_gpus() -> dict[str, str]:
  """Environment variables of training on GPUs."""
  return {"XLA_FLAGS": _joined(GPU), **_GPU_MEMORY}


def _joined(flags: tuple[Flag, ...]) -> str:
  return " ".join(map(str, flags))
