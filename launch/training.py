"""The command that trains, as every place runs it: under the supervisor, with its environment."""

from collections.abc import Sequence
import dataclasses
import shlex

from launch import job as jobs
from launch import xla_flags
from vidjax.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Training:
  """What all places have in common.

  Attributes:
    job: the description.
    config: that it results in.
    python: of the command that trains.
  """

  job: jobs.Job
  config: TrainConfig
  python: str = "python3"

  @property
  def words(self) -> list[str]:
    """What stands after `python -m launch.supervise`."""
    job, config = self.job, self.config
    if config.compile_cache or "JAX_COMPILATION_CACHE_DIR" in job.env:
      cache = []
    else:
      folder = job.compile_cache or f"{job.workdir.rstrip('/')}/compile_cache"
      cache = [f"compile_cache={folder}"]
    return [
      f"--workdir={job.workdir}",
      f"--grace={job.grace}",
      "--",
      *(self.python, "-m", "vidjax.cli", "train"),
      f"--workdir={job.workdir}",
      f"--config={job.config}",
      *(f"--config.{word}" for word in [*cache, *jobs.override_words(job)]),
    ]

  @property
  def environment(self) -> dict[str, str]:
    """Variables of the processes: XLA's flags, then those of the job, which win."""
    job = self.job
    if job.tpus is not None:
      flags = xla_flags.for_tpus(job.slices)
    elif job.gpu_nodes is not None:
      flags = xla_flags.for_gpus()
    else:
      flags = {}
    return flags | dict(job.env)

  @property
  def patience(self) -> int:
    """Seconds that a cluster gives the supervisor, which gives less to the command."""
    return self.job.grace + 30


def shown(words: Sequence[str]) -> str:
  """A command as a person would type it."""
  return shlex.join(words)
