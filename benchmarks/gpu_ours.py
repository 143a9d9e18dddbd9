"""Our side of `benchmarks.gpu`: a process of its own, see `gpu_worker`.

python -m benchmarks.gpu_ours
"""

from collections.abc import Callable
import dataclasses
import functools
import os
import time
import traceback
from typing import Any

# Takes what it needs and not three quarters of the device: the other side is there, too.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import gpu_setting, gpu_worker
from benchmarks.gpu_worker import Answer, Run
from vidjax import flops, guided, lazy
from vidjax import program as programs
from vidjax.conditioning import condition as conditions
from vidjax.diffusion import guidance, process
from vidjax.encoders import vae
from vidjax.interop import diffusers
from vidjax.models.unet import UNet
from vidjax.nn.kernels import flash_attention
from vidjax.nn.params import Params, network
from vidjax.parallel import mesh as meshes

_WARM = 2  # calls before the first that counts
_MANY = 10  # calls of attention for one of a step


def _timed(call: Callable[[], Any], calls: int) -> float:
  """Seconds of a call, of so many that are dispatched one after the other."""
  began = time.perf_counter()
  result = None
  for _ in range(calls):
    result = call()
  jax.block_until_ready(result)
  return (time.perf_counter() - began) / calls


def _compile(jitted: Any, *args: Any) -> tuple[Any, Answer]:
  """The compiled program, with what that took and the memory that it needs."""
  began = time.perf_counter()
  lowered = jitted.lower(*args)
  traced = time.perf_counter()
  compiled = lowered.compile()
  memory = compiled.memory_analysis()
  return compiled, {
    "trace_seconds": traced - began,
    "compile_seconds": time.perf_counter() - traced,
    "program_bytes": memory and memory.peak_memory_in_bytes,
  }


def _device() -> Answer:
  """Which device, and the most memory that was held on it."""
  device = jax.local_devices()[0]
  stats = device.memory_stats() or {}
  return {
    "device": device.device_kind,
    "software": f"jax {jax.__version__}",
    "peak_bytes": stats.get("peak_bytes_in_use"),
  }


def _one_device() -> jax.sharding.Mesh:
  return meshes.make_mesh(meshes.MeshConfig(), jax.local_devices()[:1])


def train(size: str, folder: str, clips: int, remat: str) -> tuple[Answer, Run]:
  """The step of `vidjax train`; weights come when it first runs."""
  setting, mesh = gpu_setting.SETTINGS[size], _one_device()
  config = gpu_setting.train_config(setting, folder, clips, remat)
  with jax.set_mesh(mesh):
    program = programs.make(config, mesh, weights=False)
    step, facts = _compile(program.step, program.state, program.frozen, program.batch)
    facts["model_flops"] = program.model_flops()
  facts["clips"] = clips
  held: list[Any] = []  # the state, which each step gives back anew

  def start() -> Answer:
    _, weights = diffusers.open_unet(f"{folder}/text_to_video")
    params = {name: lazy.place(weights[name], like) for name, like in program.params.items()}
    held.append(program.started(params))
    del params
    losses = [one() for _ in range(_WARM)]
    return {"first_loss": float(losses[0])}

  batch = gpu_setting.train_batch(setting, clips)
  placed = jax.device_put(batch, {name: like.sharding for name, like in program.batch.items()})

  def one() -> jax.Array:
    state, metrics = step(held.pop(), {}, placed)
    held.append(state)
    return metrics["loss"]

  def run(calls: int) -> Answer:
    with jax.set_mesh(mesh):
      said = {} if held else start()
      return said | {"times": {"step": _timed(one, calls)}} | _device()

  return facts, run


def sample(size: str, folder: str, frames: int) -> tuple[Answer, Run]:
  """What `Pipeline` compiles, without the encoders: noise to latents, latents to frames."""
  setting, mesh = gpu_setting.SETTINGS[size], _one_device()
  shape, unet_weights = diffusers.open_unet(f"{folder}/image_to_video")
  net = network(lambda rngs: UNet(dataclasses.replace(shape, dtype=setting.dtype), rngs))
  decoder = vae.describe(dataclasses.replace(setting.decoder, dtype=setting.dtype))
  diffusion = process.DiffusionConfig()
  sampling = guided.Sampling("euler", process.sampling_levels(diffusion, "karras", setting.steps))
  with np.load(f"{folder}/sample_{frames}.npz") as file:
    given = dict(file)

  def latents(params: Params, given: dict[str, jax.Array], keys: jax.Array) -> jax.Array:
    asked = conditions.Condition((given["context"],), given["vector"], given["concat"], False)
    branches = [asked, conditions.drop(asked, jnp.zeros(1))]
    weights = guidance.classifier_free(given["scale"])
    model = net.bind(params)
    return guided.sample_latents(
      diffusion, model, given["noise"], keys, branches, weights, sampling
    )

  def decode(weights: Params, latents: jax.Array) -> jax.Array:
    raw = latents / setting.decoder.scaling_factor
    return jnp.clip(decoder.bind(weights).decode(raw) * 0.5 + 0.5, 0.0, 1.0)

  with jax.set_mesh(mesh):
    params = _placed(net.abstract, unet_weights, mesh)
    weights = _placed(decoder.abstract, diffusers.open_vae(f"{folder}/vae")[1], mesh)
    given, keys = jax.device_put(given), jax.vmap(jax.random.key)(jnp.arange(1, dtype=jnp.uint32))
    to_latents, facts = _compile(jax.jit(latents), params, given, keys)
    facts["model_flops"] = flops.step_flops(latents, params, given, keys).forward
    count = gpu_setting.chunk(frames)
    chunk = jnp.zeros((1, count, *given["noise"].shape[2:]), jnp.float32)
    to_frames, of_decoder = _compile(jax.jit(decode), weights, chunk)
  facts |= {f"decoder_{name}": value for name, value in of_decoder.items()} | {"clips": 1}

  def frames_of(x: jax.Array) -> list[jax.Array]:
    return [to_frames(weights, x[:, i : i + count]) for i in range(0, frames, count)]

  warm: list[jax.Array] = []

  def run(calls: int) -> Answer:
    with jax.set_mesh(mesh):
      if not warm:
        warm.append(to_latents(params, given, keys))
        jax.block_until_ready(frames_of(warm[0]))
      latents_seconds = _timed(lambda: to_latents(params, given, keys), calls)
      decode_seconds = _timed(lambda: frames_of(warm[0]), calls)
    path = f"{folder}/sample_{frames}_vidjax.npy"
    np.save(path, np.asarray(warm[0]))
    return {
      "times": {
        "latents": latents_seconds,
        "decode": decode_seconds,
        "both": latents_seconds + decode_seconds,
      },
      "latents": path,
    } | _device()

  return facts, run


def _placed(abstract: dict[str, Any], weights: lazy.Weights, mesh: jax.sharding.Mesh) -> Params:
  """Weights on the device, as `Pipeline` has them: in float32."""
  where = jax.NamedSharding(mesh, jax.P())
  return {
    name: lazy.place(weights[name], jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where))
    for name, a in abstract.items()
  }


_ATTENTION = {"products": flash_attention.attend, "cudnn": flash_attention.attend_on_gpu}


def attention(size: str, backend: str) -> tuple[Answer, Run]:
  """Attention by itself at all shapes, without its gradient and with it."""
  setting = gpu_setting.SETTINGS[size]
  runs: dict[str, Callable[[], Any]] = {}
  failed: dict[str, str] = {}
  for name, over_time, shape in setting.attention:
    attend = functools.partial(_in_layers, _ATTENTION[backend], over_time)
    arrays = [jax.random.normal(jax.random.key(i), shape).astype(setting.dtype) for i in range(4)]

    def both(*arrays: jax.Array, attend: Any = attend) -> Any:
      *inputs, dy = arrays
      y, vjp = jax.vjp(attend, *inputs)
      return y, vjp(dy)

    try:
      for way, call, given in (("forward", attend, arrays[:3]), ("both", both, arrays)):
        compiled = functools.partial(jax.jit(call), *given)
        jax.block_until_ready(compiled())
        runs[f"{name}, {way}"] = compiled
    except Exception as error:  # of one shape, such as one that the back end does not take
      traceback.print_exc()
      failed[name] = f"{type(error).__name__}: {error}"[:500]

  def run(calls: int) -> Answer:
    return {"times": {n: _timed(call, _MANY * calls) for n, call in runs.items()}} | _device()

  return {"failed": failed}, run


def _in_layers(attend: Any, over_time: bool, q_TSND: Any, k_TSND: Any, v_TSND: Any) -> jax.Array:
  """As layers call it: positions of a frame, or frames of a position after a swap."""
  q_TSND = q_TSND * q_TSND.shape[-1] ** -0.5
  if not over_time:
    return attend(q_TSND, k_TSND, v_TSND)
  return attend(*(x.swapaxes(0, 1) for x in (q_TSND, k_TSND, v_TSND))).swapaxes(0, 1)


if __name__ == "__main__":
  gpu_worker.serve({"train": train, "sample": sample, "attention": attention})
