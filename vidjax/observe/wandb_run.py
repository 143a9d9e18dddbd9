"""A copy of a run's numbers on Weights & Biases, where the config asks for one.

The package is an extra and is imported only then. The service is a copy: what fails there is said
once, and training goes on without it. All attempts of a workdir are one run of the service; its
`step` is ours, so that rows may come again after a resume.
"""

from collections.abc import Callable, Mapping
import importlib
from typing import Any
import uuid

from absl import logging
import jax

from vidjax import config as configs
from vidjax import storage

_ID = "wandb.json"


def require(config: configs.WandbConfig) -> None:
  """Checks early that what the config asks for is there.

  Raises:
    ValueError: a project is named, but the package is not installed.
  """
  if not config.project:
    return
  try:
    importlib.import_module("wandb")
  except ImportError as exc:
    raise ValueError(
      f"wandb.project={config.project!r} needs a package that is not installed: pip install wandb,"
      f" or set wandb.project='' ({exc})"
    ) from exc


class WandbRun:
  """Takes rows of numbers; see `vidjax.observe.writers.Copy`.

  Args:
    config: of the run; becomes that of the service's run.
    root: workdir. Remembers the service's name of the run in `wandb.json`.
  """

  def __init__(self, config: configs.TrainConfig, root: storage.Path):
    self._run: Any = None
    self._run = self._tried(lambda: self._start(config, root))

  def write(self, step: int, numbers: Mapping[str, float]) -> None:
    """Sends the numbers of one step, by their flat names."""
    if self._run is not None:
      self._tried(lambda: self._run.log({"step": step, **numbers}))

  def close(self) -> None:
    """Sends what is left."""
    if self._run is not None:
      self._tried(lambda: self._run.finish())

  def _start(self, config: configs.TrainConfig, root: storage.Path) -> Any:
    wandb: Any = importlib.import_module("wandb")
    run = wandb.init(
      project=config.wandb.project,
      name=root.name,
      id=_remembered_id(root),
      resume="allow",
      mode=config.wandb.mode or None,
      config=configs.to_dict(config),
      dir=str(root) if storage.is_local(root) else None,
    )
    run.define_metric("*", step_metric="step")
    return run

  def _tried(self, call: Callable[[], Any]) -> Any:
    try:
      return call()
    except Exception as exc:  # whatever it is, training does not need it
      logging.warning("no more metrics go to wandb: %s", exc)
      self._run = None
      return None


def copies(config: configs.TrainConfig, root: storage.Path) -> tuple[WandbRun, ...]:
  """The copies of its metrics that a run wants, in the process that writes them."""
  wanted = config.wandb.project and jax.process_index() == 0
  return (WandbRun(config, root),) if wanted else ()


def _remembered_id(root: storage.Path) -> str:
  path = root / _ID
  if not path.exists():
    storage.write_json(path, {"id": uuid.uuid4().hex[:8]})
  return storage.read_json(path)["id"]
