"""Which noise levels there are: DDPM's discrete schedules, and the lists that samplers walk down.

A list is a `Level` of host arrays (steps + 1,), noisiest first, computed in float64; its last entry
is free of noise. Samplers take any list, so schedule and sampler are chosen apart.
"""

import dataclasses

import numpy as np

from vidjax.diffusion.levels import Level

SPACINGS = ("leading", "trailing", "linspace")


# --- Discrete schedules ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Betas:
  """DDPM's forward process (2006.11239, eq. 2): beta_t for t = 0 ... steps - 1.

  Attributes:
    kind: "scaled_linear" (linear in sqrt(beta): latent diffusion), "linear" (DDPM), or "cosine"
      (2102.09672, eq. 17; `start` and `end` play no part).
    start: beta of the first step.
    end: beta of the last.
    steps: T.
    zero_terminal_snr: shift and scale sqrt(alpha_bar) so that the last step is pure noise
      (2305.08891, alg. 1).
    shift: sigma / alpha of every step is multiplied with this (2301.11093, sec. 3.1).

  Raises:
    ValueError: no such kind.
  """

  kind: str = "scaled_linear"
  start: float = 0.00085
  end: float = 0.012
  steps: int = 1000
  zero_terminal_snr: bool = False
  shift: float = 1.0

  def __post_init__(self) -> None:
    kinds = ("scaled_linear", "linear", "cosine")
    if self.kind not in kinds:
      raise ValueError(f"beta schedule {self.kind!r}: choose from {', '.join(kinds)}")

  def alpha_bar(self) -> np.ndarray:
    """prod (1 - beta): (steps,) float64, falling."""
    match self.kind:
      case "scaled_linear":
        beta = np.linspace(self.start**0.5, self.end**0.5, self.steps) ** 2
      case "linear":
        beta = np.linspace(self.start, self.end, self.steps)
      case _:
        times = np.arange(self.steps + 1) / self.steps
        f = np.cos((times + 0.008) / 1.008 * np.pi / 2) ** 2
        beta = np.minimum(1 - f[1:] / f[:-1], 0.999)
    alpha_bar = np.cumprod(1 - beta)
    if self.zero_terminal_snr:
      alpha_bar = zero_terminal_snr(alpha_bar)
    return alpha_bar / (alpha_bar + self.shift**2 * (1 - alpha_bar))

  def sigmas(self) -> np.ndarray:
    """sigma / alpha of each step: (steps,) float64, rising; infinite in pure noise."""
    alpha_bar = self.alpha_bar()
    with np.errstate(divide="ignore"):
      return np.sqrt((1 - alpha_bar) / alpha_bar)

  def levels(self, timesteps: np.ndarray) -> Level:
    """Levels of whole time steps, the data and noise mixed: alpha^2 + sigma^2 = 1."""
    alpha_bar = self.alpha_bar()[timesteps]
    return Level(*(np.float32(v) for v in (alpha_bar**0.5, (1 - alpha_bar) ** 0.5, timesteps)))

  def at(self, sigma: np.ndarray) -> Level:
    """Levels of given sigma / alpha, e.g. of Karras' list.

    The time step is interpolated in ln sigma between those that have a sigma of their own, as
    k-diffusion does; 0 and the last one beyond both ends.
    """
    known = np.minimum(self.sigmas(), 1e20)
    positive = np.maximum(np.asarray(sigma, np.float64), 1e-20)
    timesteps = np.interp(np.log(positive), np.log(known), np.arange(self.steps))
    alpha = 1 / np.sqrt(1 + np.square(np.asarray(sigma, np.float64)))
    return Level(*(np.float32(v) for v in (alpha, sigma * alpha, timesteps)))

  def sampling(
    self, steps: int, spacing: str = "trailing", *, offset: int = 0, final_alpha_one: bool = True
  ) -> Level:
    """The levels of `steps` time steps, and the end.

    Args:
      steps: number of levels above the end.
      spacing: "trailing" ends at T - 1 and so at zero SNR (2305.08891, tab. 2), "leading" begins at
        0, "linspace" has both ends.
      offset: added to the time steps of "leading"; Stable Diffusion's is 1.
      final_alpha_one: end in clean data; else at the first time step, as Stable Diffusion's DDIM.
    """
    timesteps = spaced(self.steps, steps, spacing, offset)
    found, first = self.levels(timesteps), self.levels(np.zeros(1, int))
    end = Level(np.ones(1), np.zeros(1), np.zeros(1)) if final_alpha_one else first
    pairs = zip(
      (found.alpha, found.sigma, found.c_noise), (end.alpha, end.sigma, end.c_noise), strict=True
    )
    return Level(*(np.append(values, last).astype(np.float32) for values, last in pairs))


def zero_terminal_snr(alpha_bar: np.ndarray) -> np.ndarray:
  """sqrt(alpha_bar) shifted so that its last entry is 0 and scaled so that its first stays."""
  root = np.sqrt(alpha_bar)
  root = (root - root[-1]) * root[0] / (root[0] - root[-1])
  return np.square(root)


def spaced(total: int, steps: int, spacing: str, offset: int = 0) -> np.ndarray:
  """Time steps (steps,) out of 0 ... total - 1, latest first (2305.08891, tab. 2).

  Raises:
    ValueError: no such spacing, or more steps than there are.
  """
  if not 1 <= steps <= total:
    raise ValueError(f"steps={steps}: the model knows 1 to {total}")
  match spacing:
    case "leading":
      found = np.arange(steps)[::-1] * (total // steps) + offset
    case "trailing":
      found = np.round(np.arange(total, 0, -total / steps)) - 1
    case "linspace":
      found = np.round(np.linspace(0, total - 1, steps))[::-1]
    case _:
      raise ValueError(f"spacing {spacing!r}: choose from {', '.join(SPACINGS)}")
  return found.astype(int)


# --- Continuous lists -----------------------------------------------------------------------------


def karras(
  steps: int, *, sigma_min: float = 0.002, sigma_max: float = 700.0, rho: float = 7.0
) -> np.ndarray:
  """sigma (steps + 1,) from sigma_max to sigma_min, even in sigma^(1 / rho), then 0: EDM eq. 5.

  The defaults are SVD's (its sampling config: rho 7, 0.002 to 700). Float64.
  """
  low, high = sigma_min ** (1.0 / rho), sigma_max ** (1.0 / rho)
  return _ends((high + _ramp(steps) * (low - high)) ** rho)


def exponential(steps: int, *, sigma_min: float = 0.002, sigma_max: float = 700.0) -> np.ndarray:
  """As `karras`, even in ln sigma: its limit for large rho."""
  return _ends(np.exp(np.log(sigma_max) + _ramp(steps) * np.log(sigma_min / sigma_max)))


def uniform(steps: int, *, sigma_min: float = 0.002, sigma_max: float = 700.0) -> np.ndarray:
  """As `karras`, even in sigma: rho = 1."""
  return _ends(sigma_max + _ramp(steps) * (sigma_min - sigma_max))


CONTINUOUS = {"karras": karras, "exponential": exponential, "uniform": uniform}


def _ramp(steps: int) -> np.ndarray:
  if steps < 1:
    raise ValueError(f"steps={steps}: sampling needs at least one step")
  return np.linspace(0.0, 1.0, steps)


def _ends(sigmas: np.ndarray) -> np.ndarray:
  return np.append(sigmas, 0.0)
