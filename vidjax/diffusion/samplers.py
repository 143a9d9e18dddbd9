"""Samplers: from noise to a sample, given a denoiser D(x; level). Each is one `lax.scan`, float32.

A sampler takes any list of levels (`vidjax.diffusion.schedules`): added noise, as EDM and SVD speak
of it, or mixed, as DDPM does. In the notation of `vidjax.diffusion.levels`, with s = sigma / alpha
and lambda = -ln s, the papers' samplers for the one and for the other are the same. What depends on
the list alone is computed on the host, in float64.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidjax.diffusion.levels import Level

Denoiser = Callable[[jax.Array, Level], jax.Array]  # (x, level of the whole batch) -> x0
Noise = Callable[[jax.Array], jax.Array]  # number of the step -> unit normal, of the shape of x
Table = dict[str, np.ndarray]  # what a step needs besides x: (steps,) each


def ddim(
  denoise: Denoiser, x: jax.Array, levels: Level, *, eta: float = 0.0, noise: Noise | None = None
) -> jax.Array:
  """DDIM (2010.02502, eq. 12). For added noise it is Euler's method on the probability-flow ODE.

  `eta` = 1 is ancestral sampling: DDPM (2006.11239, alg. 2) with its smaller variance, and Euler's
  method with noise put back ("Euler ancestral").

  Args:
    denoise: D, float32 to float32.
    x: start, already scaled (`levels.initial`).
    levels: (steps + 1,), host arrays.
    eta: share of the noise that is new in each step.
    noise: where new noise comes from; needed if `eta` is not 0.
  """
  if eta and noise is None:
    raise ValueError("a sampler with eta > 0 needs a source of noise")
  alpha, sigma = _host(levels)
  now, then = sigma[:-1] ** 2, sigma[1:] ** 2
  # sigma'^2 / sigma^2 (sigma^2 - sigma'^2 alpha^2 / alpha'^2): of DDIM eq. 16, for any norm.
  up = eta**2 * then / now * np.maximum(now - then * (alpha[:-1] / alpha[1:]) ** 2, 0.0)
  table = {"down": np.sqrt(np.maximum(then - up, 0.0)), "up": np.sqrt(up), "alpha": alpha[1:]}

  def step(x: jax.Array, at: Any) -> tuple[jax.Array, None]:
    x0 = denoise(x, at["level"])
    n = (x - at["level"].alpha * x0) / at["level"].sigma
    x = at["alpha"] * x0 + at["down"] * n
    if eta and noise is not None:
      x += at["up"] * noise(at["number"])
    return x, None

  return jax.lax.scan(step, x, _steps(levels, table))[0]


def ancestral(denoise: Denoiser, x: jax.Array, levels: Level, *, noise: Noise) -> jax.Array:
  """`ddim` with eta = 1."""
  return ddim(denoise, x, levels, eta=1.0, noise=noise)


def heun(denoise: Denoiser, x: jax.Array, levels: Level) -> jax.Array:
  """Heun's second-order method on the probability-flow ODE, EDM alg. 1 without churn.

  Two evaluations a step, one in the last. They take turns in one loop, so the network is compiled
  once: a step of Euler's, then one from the same place with the mean of both slopes.

  Raises:
    ValueError: the list begins in pure noise, where the ODE has no slope.
  """
  alpha, sigma = _host(levels)
  if not alpha.all():
    raise ValueError("heun starts at a level with some data: take another sampler or schedule")
  s = sigma / alpha
  steps = len(s) - 1
  of_step = np.repeat(np.arange(steps), 2)[:-1]  # 0 0 1 1 ... and the last once
  again = np.arange(2 * steps - 1) % 2 == 1
  read = of_step + again  # the level of the evaluation
  made = np.minimum(of_step + 1, steps)  # the level that x is at afterwards
  table = {"change": (s[1:] - s[:-1])[of_step], "again": again, "next_alpha": alpha[made]}
  at_levels = jax.tree.map(lambda value: np.asarray(value)[read], levels)

  def step(carry: Any, at: Any) -> tuple[Any, None]:
    x, base, first = carry  # base and slopes are of y = x / alpha, whose noise level is s
    level = at["level"]
    y = x / level.alpha
    slope = (y - denoise(x, level)) * level.alpha / level.sigma
    base = jnp.where(at["again"], base, y)
    mean = jnp.where(at["again"], (first + slope) / 2, slope)
    x = at["next_alpha"] * (base + at["change"] * mean)
    return (x, base, slope), None

  start = (x, jnp.zeros_like(x), jnp.zeros_like(x))
  return jax.lax.scan(step, start, _xs(at_levels, table))[0][0]


def dpmpp_2m(
  denoise: Denoiser, x: jax.Array, levels: Level, *, noise: Noise | None = None
) -> jax.Array:
  """DPM-Solver++(2M), 2211.01095, alg. 2; with `noise`, its SDE form (app. B, eq. 38).

  Second order from the last two predictions; first order in the first step and in one that ends
  without noise.
  """
  alpha, sigma, h, r = _logarithmic(levels)
  stochastic = noise is not None
  # exp(-h) - 1, or exp(-2h) - 1 where noise is put back: how far x goes towards x0.
  gone = np.expm1(-2 * h) if stochastic else np.expm1(-h)
  table = {
    "keep": sigma[1:] / sigma[:-1] * (np.exp(-h) if stochastic else 1.0),
    "take": -alpha[1:] * gone,
    "extrapolate": 0.5 / r,
    "up": sigma[1:] * np.sqrt(-gone) if stochastic else np.zeros_like(h),
  }

  def step(carry: Any, at: Any) -> tuple[Any, None]:
    x, before = carry
    x0 = denoise(x, at["level"])
    d = x0 + at["extrapolate"] * (x0 - before)
    x = at["keep"] * x + at["take"] * d
    if noise is not None:
      x += at["up"] * noise(at["number"])
    return (x, x0), None

  return jax.lax.scan(step, (x, jnp.zeros_like(x)), _steps(levels, table))[0][0]


def unipc(denoise: Denoiser, x: jax.Array, levels: Level) -> jax.Array:
  """UniPC-2 (2302.04867, alg. 5-8) on predictions of x0, B(h) = exp(h) - 1.

  Each prediction first corrects the step that led to it, then makes the next: the accuracy of third
  order for one evaluation a step.
  """
  alpha, sigma, h, r = _logarithmic(levels)
  gone = np.expm1(-h)
  # The corrector of step i - 1 runs at the start of step i, with the coefficients of that step.
  of_first = np.array([False] + [True] * (len(h) - 1))
  old, new = _corrector(h, r)
  table = {
    "keep": sigma[1:] / sigma[:-1],
    "take": -alpha[1:] * gone,
    "extrapolate": 0.5 / r,
    "correct": of_first,
    **{
      f"last_{name}": np.append(0.0, values[:-1])
      for name, values in {
        "keep": sigma[1:] / sigma[:-1],
        "take": -alpha[1:] * gone,
        "old": old,
        "new": new,
      }.items()
    },
  }

  def step(carry: Any, at: Any) -> tuple[Any, None]:
    x, x_before, last, before = carry  # x at the last level, and the last two predictions
    x0 = denoise(x, at["level"])
    d = last + at["last_old"] * (before - last) + at["last_new"] * (x0 - last)
    x = jnp.where(at["correct"], at["last_keep"] * x_before + at["last_take"] * d, x)
    d = x0 + at["extrapolate"] * (x0 - last)
    return (at["keep"] * x + at["take"] * d, x, x0, last), None

  nothing = jnp.zeros_like(x)
  return jax.lax.scan(step, (x, nothing, nothing, nothing), _steps(levels, table))[0][0]


# Name -> (sampler, whether it puts noise back).
SAMPLERS: dict[str, tuple[Callable[..., jax.Array], bool]] = {
  "euler": (ddim, False),
  "ddim": (ddim, False),
  "euler_ancestral": (ancestral, True),
  "ddpm": (ancestral, True),
  "heun": (heun, False),
  "dpmpp_2m": (dpmpp_2m, False),
  "dpmpp_2m_sde": (dpmpp_2m, True),
  "unipc": (unipc, False),
}


def _host(levels: Level) -> tuple[np.ndarray, np.ndarray]:
  return np.asarray(levels.alpha, np.float64), np.asarray(levels.sigma, np.float64)


def _logarithmic(levels: Level) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """alpha, sigma, h = lambda' - lambda of each step, and r = (h of the step before) / h.

  r is infinite where a step has to be of first order: then nothing is extrapolated.
  """
  alpha, sigma = _host(levels)
  if not alpha.all():
    raise ValueError("this sampler starts at a level with some data: take ddim, or a schedule")
  with np.errstate(divide="ignore", invalid="ignore"):
    h = np.diff(np.log(alpha) - np.log(sigma))
    r = np.append(np.inf, h[:-1]) / h
  r[~np.isfinite(h)] = np.inf
  return alpha, sigma, h, r


def _corrector(h: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Weights of both differences in UniC's correction of each step (2302.04867, eq. 8)."""
  old, new = np.zeros_like(h), np.full_like(h, 0.5)
  for i, (step, ratio) in enumerate(zip(h, r, strict=True)):
    if not np.isfinite(ratio) or not np.isfinite(step):
      continue  # one difference only
    hh = -step
    phi_1 = np.expm1(hh) / hh - 1
    phi_2 = phi_1 / hh - 0.5
    wanted = np.array([phi_1, 2 * phi_2]) / np.expm1(hh)
    # The differences are (earlier - last) / -ratio and (new - last).
    found = np.linalg.solve(np.array([[1.0, 1.0], [-ratio, 1.0]]), wanted)
    old[i], new[i] = found[0] / -ratio, found[1]
  return old, new


def _steps(levels: Level, table: Table) -> Any:
  """What a scan over the steps reads: the level that x is at, the number, and the table."""
  return _xs(jax.tree.map(lambda value: np.asarray(value)[:-1], levels), table)


def _xs(levels: Level, table: Table) -> Any:
  count = len(np.asarray(levels.sigma))
  arrays = {
    name: jnp.asarray(values, None if values.dtype == bool else jnp.float32)
    for name, values in table.items()
  }
  on_device = jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), levels)
  return {**arrays, "level": on_device, "number": jnp.arange(count, dtype=jnp.uint32)}
