"""How a model meets noise: what it predicts, and from which levels it learns and samples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vidjax.diffusion import loss, precondition, schedules
from vidjax.diffusion import noise as noises
from vidjax.diffusion.levels import Level, added
from vidjax.diffusion.schedules import Betas

LEVELS = ("log_normal", "log_uniform", "discrete")


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
  """The diffusion process of a model, and the loss that it is trained with.

  The defaults are SVD's (2311.15127, app. D.2), whose stages differ in `p_mean` and `p_std`.

  Attributes:
    prediction: what the network says: v, eps, x0 or edm (`vidjax.diffusion.precondition`).
    levels: how training draws noise levels: "log_normal", "log_uniform", or "discrete", the time
      steps of `betas`, which are then what the network is told instead of 0.25 ln sigma.
    p_mean: of ln sigma, for "log_normal" (EDM, 2206.00364, tab. 1).
    p_std: of ln sigma, likewise.
    sigma_min: lowest level of "log_uniform", and of sampling.
    sigma_max: highest level of both.
    betas: schedule of "discrete".
    resolution_shift: sigma / alpha is multiplied with this: (resolution / that at which the levels
      were chosen), since larger frames need more noise to lose as much (2301.11093, sec. 3.1).
    offset_noise: strength of noise that is the same all over a clip (`noise.offset`).
    weighting: of the loss: unit, edm or min_snr (`vidjax.diffusion.loss`).
    min_snr_gamma: gamma of min_snr.
    sigma_data: standard deviation of the data, for "edm".

  Raises:
    ValueError: an unknown name, or a combination that has no meaning; names the config key.
  """

  prediction: str = "v"
  levels: str = "log_normal"
  p_mean: float = -1.2
  p_std: float = 1.0
  sigma_min: float = 0.002
  sigma_max: float = 700.0
  betas: Betas = dataclasses.field(default_factory=Betas)
  resolution_shift: float = 1.0
  offset_noise: float = 0.0
  weighting: str = "unit"
  min_snr_gamma: float = 5.0
  sigma_data: float = 1.0

  def __post_init__(self) -> None:
    for key, choices in (
      ("prediction", precondition.PREDICTIONS),
      ("levels", LEVELS),
      ("weighting", loss.WEIGHTINGS),
    ):
      if getattr(self, key) not in choices:
        raise ValueError(
          f"diffusion.{key}={getattr(self, key)!r}: choose from {', '.join(choices)}"
        )
    if not 0 < self.sigma_min < self.sigma_max:
      raise ValueError(
        f"diffusion.sigma_min={self.sigma_min}, diffusion.sigma_max={self.sigma_max}:"
        " 0 < sigma_min < sigma_max is needed"
      )
    for key in ("p_std", "resolution_shift", "sigma_data", "min_snr_gamma"):
      if getattr(self, key) <= 0:
        raise ValueError(f"diffusion.{key}={getattr(self, key)}: a positive number is needed")
    if self.discrete and self.betas.zero_terminal_snr and self.prediction == "eps":
      raise ValueError(
        "diffusion.prediction='eps' says nothing about x0 in pure noise, which"
        " diffusion.betas.zero_terminal_snr adds: use 'v'"
      )

  @property
  def discrete(self) -> bool:
    """Whether the network is told time steps."""
    return self.levels == "discrete"


def training_levels(config: DiffusionConfig, keys_B: jax.Array) -> Level:
  """One level for each sample (B,)."""
  if config.discrete:
    t_B = noises.timesteps(keys_B, config.betas.steps)
    table = _betas(config).levels(np.arange(config.betas.steps))
    return Level(_look_up(table.alpha, t_B), _look_up(table.sigma, t_B), t_B.astype(jnp.float32))
  if config.levels == "log_uniform":
    sigma_B = noises.log_uniform_sigma(keys_B, config.sigma_min, config.sigma_max)
  else:
    sigma_B = noises.log_normal_sigma(keys_B, config.p_mean, config.p_std)
  return added(sigma_B * config.resolution_shift)


def sampling_levels(config: DiffusionConfig, schedule: str, steps: int) -> Level:
  """The list (steps + 1,) that a sampler walks down: host arrays.

  Args:
    config: of the model.
    schedule: "karras", "exponential" or "uniform", from `sigma_max` to `sigma_min` (for a model of
      time steps, between those that it knows); or "trailing", "leading", "linspace": time steps.
    steps: how many.

  Raises:
    ValueError: no such schedule, or time steps of a model that knows none.
  """
  known = (*schedules.CONTINUOUS, *schedules.SPACINGS)
  if schedule not in known:
    raise ValueError(f"schedule {schedule!r}: choose from {', '.join(known)}")
  if schedule in schedules.SPACINGS:
    if not config.discrete:
      raise ValueError(
        f"schedule {schedule!r} walks over time steps, and this model knows continuous levels:"
        f" choose from {', '.join(schedules.CONTINUOUS)}"
      )
    return _betas(config).sampling(steps, schedule, offset=int(schedule == "leading"))
  make = schedules.CONTINUOUS[schedule]
  if not config.discrete:
    return added(make(steps, sigma_min=config.sigma_min, sigma_max=config.sigma_max))
  known_sigmas = _betas(config).sigmas()
  finite = known_sigmas[np.isfinite(known_sigmas)]
  sigmas = make(steps, sigma_min=float(finite[0]), sigma_max=float(finite[-1]))
  return _betas(config).at(sigmas)


def _betas(config: DiffusionConfig) -> Betas:
  return dataclasses.replace(config.betas, shift=config.resolution_shift)


def _look_up(table: np.ndarray, index_B: jax.Array) -> jax.Array:
  values = jnp.asarray(table, jnp.float32)
  if jax.sharding.get_abstract_mesh().empty:
    return values[index_B]
  return values.at[index_B].get(out_sharding=jax.P(*jax.typeof(index_B).sharding.spec))
