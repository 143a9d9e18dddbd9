"""Fréchet distance between two sets of features, in float64 on the host.

Legend: N samples, D feature dimensions, R rank of a factor.

Sufficient statistics (`FeatureStats`) are exact under merging, so shards, processes and resumed
runs add up to the same number. The matrix square root is never taken of a product: with factors
S = R^T R, tr((S1 S2)^(1/2)) is the nuclear norm of R1 R2^T. This stays accurate to 1e-9 where N < D
makes both covariances singular; `sqrtm(S1 @ S2)` and `eigvalsh` lose half of the digits there.
"""

from collections.abc import Iterable
import dataclasses
import functools
import warnings

import numpy as np


@dataclasses.dataclass(frozen=True)
class FeatureStats:
  """Count, mean and centred second moment of a set of features; merging is exact.

  Attributes:
    n: number of samples.
    mean: (D,) float64 mean.
    m2: (D, D) float64 sum of (x - mean)(x - mean)^T, not divided by anything.
  """

  n: int
  mean: np.ndarray
  m2: np.ndarray

  @classmethod
  def of(cls, features_ND: np.ndarray) -> "FeatureStats":
    """Statistics of `features_ND`; N may be any number from 1."""
    x_ND = np.asarray(features_ND, np.float64)
    mean_D = x_ND.mean(axis=0)
    centred_ND = x_ND - mean_D
    return cls(len(x_ND), mean_D, centred_ND.T @ centred_ND)

  def __add__(self, other: "FeatureStats") -> "FeatureStats":
    """Statistics of both sets together (Chan, Golub, LeVeque 1983, eq. 2.1)."""
    n = self.n + other.n
    delta_D = other.mean - self.mean
    m2_DD = self.m2 + other.m2 + np.outer(delta_D, delta_D) * (self.n * other.n / n)
    return FeatureStats(n, self.mean + delta_D * (other.n / n), m2_DD)

  def covariance(self, ddof: int) -> np.ndarray:
    """The (D, D) covariance, divided by n - ddof."""
    return self.m2 / (self.n - ddof)


def merge(parts: Iterable[FeatureStats]) -> FeatureStats:
  """Adds the statistics of at least one part up."""
  return functools.reduce(FeatureStats.__add__, parts)


def frechet_distance(real_ND: np.ndarray, fake_ND: np.ndarray, ddof: int = 0) -> float:
  """Squared Fréchet (2-Wasserstein) distance between Gaussians fitted to two feature sets.

  |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), Heusel et al. (1706.08500) eq. 6, on any features.
  It is biased upwards by about c / N: compare values of equal N only.

  Args:
    real_ND: (N, D) features of real samples, any real dtype.
    fake_ND: (M, D) features of generated samples; M may differ from N.
    ddof: covariances are divided by N - ddof. 0 as StyleGAN-V and cd-fvd do; 1 as TF-GAN,
      torchmetrics and `np.cov` do.

  Returns:
    The distance in squared feature units, never below 0.

  Raises:
    ValueError: the features are not two (N, D) sets of finite numbers with one D and N > 1.
  """
  real_ND, fake_ND = checked_pair(real_ND, fake_ND)
  warn_if_few(real_ND, fake_ND)
  return frechet_from_stats(FeatureStats.of(real_ND), FeatureStats.of(fake_ND), ddof=ddof)


def frechet_from_stats(real: FeatureStats, fake: FeatureStats, ddof: int = 0) -> float:
  """The same distance from statistics, e.g. merged over shards (see `frechet_distance`)."""
  if ddof not in (0, 1):
    raise ValueError(f"ddof={ddof!r}: use 0 (divide by N) or 1 (divide by N - 1)")
  factors_RD = []
  trace = 0.0
  for stats in (real, fake):
    covariance_DD = stats.covariance(ddof)
    trace += np.trace(covariance_DD)
    factors_RD.append(_factor(covariance_DD))
  cross = np.linalg.svd(factors_RD[0] @ factors_RD[1].T, compute_uv=False).sum()
  distance = np.square(real.mean - fake.mean).sum() + trace - 2 * cross
  return float(max(distance, 0.0))  # rounding leaves about -1e-11 for identical sets


def checked_pair(
  real_ND: np.ndarray,
  fake_ND: np.ndarray,
  names: tuple[str, str] = ("real features", "fake features"),
) -> tuple[np.ndarray, np.ndarray]:
  """Returns both sets as float64 after checking what every distance here needs.

  Raises:
    ValueError: names the set (by `names`), what is wrong with it and what it should be.
  """
  real_ND = _checked(real_ND, names[0])
  fake_ND = _checked(fake_ND, names[1])
  if real_ND.shape[1] != fake_ND.shape[1]:
    raise ValueError(
      f"{names[0]} have D={real_ND.shape[1]} and {names[1]} D={fake_ND.shape[1]}:"
      " both must come from the same network"
    )
  return real_ND, fake_ND


def warn_if_few(*features_ND: np.ndarray) -> None:
  """Warns where N < D: the Fréchet distance of so few samples is mostly bias."""
  n = min(len(x_ND) for x_ND in features_ND)
  dims = features_ND[0].shape[1]
  if n < dims:
    warnings.warn(
      f"N={n} samples in D={dims} dimensions: with N < D the covariance is singular and the Fréchet"
      " distance mostly bias; use more samples",
      stacklevel=3,
    )


def _checked(features: np.ndarray, name: str) -> np.ndarray:
  x = np.asarray(features)
  if x.ndim != 2 or x.shape[-1] < 1:
    raise ValueError(f"{name} must be one (N, D) array, got shape {x.shape}")
  if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)):
    try:
      x = x.astype(np.float64, casting="safe")  # bfloat16 and other extension dtypes
    except TypeError:
      raise ValueError(f"{name} must be real numbers, got dtype {x.dtype}") from None
  if len(x) < 2:
    raise ValueError(f"{name}: N={len(x)}, a covariance needs at least 2 samples")
  x = x.astype(np.float64)
  bad_N = ~np.isfinite(x).all(axis=1)
  if bad_N.any():
    raise ValueError(
      f"{name}: {bad_N.sum()} of {len(x)} rows hold NaN or infinity, the first is row"
      f" {int(bad_N.argmax())}: remove them or find out which video made them"
    )
  return x


def _factor(covariance_DD: np.ndarray) -> np.ndarray:
  """R with R^T R = covariance; directions whose variance is rounding noise are left out."""
  values_D, vectors_DD = np.linalg.eigh(covariance_DD)
  keep_D = values_D > len(values_D) * np.finfo(np.float64).eps * values_D[-1]
  return np.sqrt(values_D[keep_D])[:, None] * vectors_DD[:, keep_D].T
