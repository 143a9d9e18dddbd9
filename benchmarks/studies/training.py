"""From the plan to commands of `vidjax`: materials, and training runs of a given cost."""

import sys
from typing import Any

import jax

from benchmarks.studies import films
from benchmarks.studies import plan as plans
from demo import run as demo
from vidjax import config as configs
from vidjax import errors
from vidjax import program as programs
from vidjax.data.config import DataConfig
from vidjax.observe import writers
from vidjax.parallel import mesh as meshes

_STOPPED = (75, 130, 143)  # exit codes of a command that was asked to stop
_SAVES = 3  # checkpoints of a training run: what a kill in its middle loses


class Commands:
  """Runs what the plan says, below one folder.

  Args:
    plan: the plan.
    out: folder of all that is made.
    real: folder of real videos; "" where there is none.
  """

  def __init__(self, plan: plans.Plan, out: str, real: str):
    self.plan, self.out, self.real = plan, out, real

  def make(self, name: str) -> dict[str, Any]:
    """Makes a material; the result says what came of it."""
    material = self.plan.materials[name]
    if material.films:
      return films.write(f"{self.out}/{name}", material.films)
    data = [f"--config.{o}" for o in self._data(material.data)] if material.data else []
    command = [self._filled(part) for part in material.command] + data
    self._run(command)
    return {"command": command}

  def workdir(self, stage: str, seed: int) -> str:
    """Folder of a training run."""
    return f"{self.out}/runs/{stage}_{seed}"

  def overrides(self, stage: str, seed: int) -> list[str]:
    """All that a run differs in from its config file, but for its length."""
    of = self.plan.stages[stage]
    found = [*self.plan.overrides, *of.overrides, f"seed={seed}", *self._data(of.data)]
    if of.after:
      found.append(f"init_from={self.workdir(of.after, seed)}")
    return [self._filled(override) for override in found]

  def config(self, stage: str, seed: int) -> configs.TrainConfig:
    """The config of a run, but for its length."""
    return configs.load(self.plan.stages[stage].config, self.overrides(stage, seed))

  def step_flops(self, stage: str) -> int:
    """Training FLOPs of a step, by `vidjax.flops`; the materials have to be there."""
    config = self.config(stage, 0)
    program = programs.make(config, meshes.make_mesh(config.mesh, jax.devices()[:1]))
    return program.model_flops()

  def train(self, stage: str, seed: int, step_flops: int) -> dict[str, Any]:
    """Trains a stage for a seed, or goes on with that.

    Args:
      stage: name.
      seed: of weights, order and noise.
      step_flops: of this stage, see `step_flops`.

    Returns:
      What was spent, and the losses that were logged.
    """
    of, overrides = self.plan.stages[stage], self.overrides(stage, seed)
    steps = of.steps or steps_of(of.share * self.plan.flops[of.flops], step_flops)
    config = self.config(stage, seed)
    every = -(-steps // _SAVES)
    overrides += [
      f"total_samples={steps * config.batch_size}",
      f"checkpoint.every_steps={every}",
      f"log_every_steps={min(config.log_every_steps, steps)}",
    ]
    workdir = self.workdir(stage, seed)
    flags = [f"--config={of.config}", f"--workdir={workdir}"]
    self._run(["train", *flags, *(f"--config.{override}" for override in overrides)])
    return {
      "steps": steps,
      "batch_size": config.batch_size,
      "step_flops": step_flops,
      "flops": steps * step_flops,
      "curve": curve(workdir),
    }

  def data_config(self, name: str, view: DataConfig, split: str) -> DataConfig:
    """A data set of the plan, shown as `view` shows its own."""
    own = ("num_frames", "fps", "height", "width")
    overrides = [f"data.{key}={getattr(view, key)}" for key in own]
    values = configs.apply_overrides(
      configs.TrainConfig, {}, [*overrides, *map(self._filled, self._data(name))]
    )
    config = configs.from_dict(DataConfig, values["data"], "data")
    if config.sets:
      sets = [{**configs.to_dict(one), "split": split} for one in config.sets]
      return configs.from_dict(DataConfig, {**values["data"], "sets": sets}, "data")
    return configs.from_dict(DataConfig, {**values["data"], "split": split}, "data")

  def _data(self, name: str) -> list[str]:
    return [
      f"data.{key}={value if isinstance(value, str) else repr(value)}"
      for key, value in self.plan.data[name].config.items()
    ]

  def _filled(self, text: str) -> str:
    return text.replace("{out}", self.out).replace("{real}", self.real)

  def _run(self, command: list[str]) -> None:
    code = demo.run_command([sys.executable, "-m", "vidjax.cli", *command], self.out)
    if code in _STOPPED:
      raise errors.Interrupted("stopped; the same command goes on")
    if code:
      raise RuntimeError(f"exit code {code} of: vidjax {' '.join(command)}")


def steps_of(flops: float, step_flops: int) -> int:
  """Steps that spend a budget most nearly, at least one."""
  return max(1, round(flops / step_flops))


def curve(workdir: str, points: int = 24) -> list[tuple[int, float]]:
  """(step, mean training loss up to it since the point before), at most so many points."""
  rows = writers.read_metrics(workdir)
  losses = {row["step"]: row["loss"] for row in rows if row.get("loss") is not None}
  steps = list(losses)
  size = -(-len(steps) // points) or 1
  parts = [steps[start : start + size] for start in range(0, len(steps), size)]
  return [(part[-1], round(sum(losses[s] for s in part) / len(part), 5)) for part in parts]
