"""Fréchet distance between two sets of features, in float64 on the host.

Legend: N samples, D feature dimensions, R rank of a factor.

Sufficient statistics (`FeatureStats`) are exact under merging, so shards, processes and resumed
runs add up to the same number. The matrix square root is never taken of a product: with factors
S = R^T R, tr((S1 S2)^(1/2)) is the nuclear norm of R1 R2^T. This stays accurate to 1e-9 where N < D
makes both covariances singular; `sqrtm(S1 @ S2)` and `eigvalsh` lose half of the digits there.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import functools

import numpy as np

from vidjax.metrics.checks import checked_pair, warn_if_few

# A Cholesky pivot may be larger than the smallest eigenvalue: how far it has to be above rounding.
_MARGIN = 1e3


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

  def to_arrays(self) -> dict[str, np.ndarray]:
    """Plain arrays, for a file that another process reads: every bit is kept.

    `jax.experimental.multihost_utils.process_allgather` is no way to exchange these: it makes
    float32 of float64.
    """
    return {"n": np.array(self.n, np.int64), "mean": self.mean, "m2": self.m2}

  @classmethod
  def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "FeatureStats":
    """Undoes `to_arrays`.

    Raises:
      ValueError: an array is missing, has another shape or dtype, or is not finite.
    """
    missing = {"n", "mean", "m2"} - set(arrays)
    if missing:
      raise ValueError(f"feature statistics have no array {', '.join(sorted(missing))}")
    n, mean, m2 = (np.asarray(arrays[name]) for name in ("n", "mean", "m2"))
    if n.shape != () or not np.issubdtype(n.dtype, np.integer) or n < 1:
      raise ValueError(f"feature statistics: n must be one positive integer, got {n!r:.60}")
    for name, array, shape in (("mean", mean, mean.shape[:1]), ("m2", m2, mean.shape[:1] * 2)):
      if array.dtype != np.float64 or array.shape != shape or not np.isfinite(array).all():
        raise ValueError(
          f"feature statistics: {name} must be finite float64 of shape {shape}, got"
          f" {array.dtype} of shape {array.shape}"
        )
    return cls(int(n), mean, m2)

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


def frechet_from_stats(
  real: FeatureStats, fake: FeatureStats, ddof: int = 0, allowed: float = 0.0
) -> float:
  """The same distance from statistics, e.g. merged over shards (see `frechet_distance`).

  Args:
    real: of real samples.
    fake: of generated samples.
    ddof: 0 or 1.
    allowed: by how much the value may be off, as a share of the variances' sum. With 1e-7, plenty
      for one of many values whose spread is asked for, it takes about half the time.
  """
  if ddof not in (0, 1):
    raise ValueError(f"ddof={ddof!r}: use 0 (divide by N) or 1 (divide by N - 1)")
  trace = sum(np.trace(stats.m2) / (stats.n - ddof) for stats in (real, fake))
  cross = _nuclear_norm(_factor(real, ddof) @ _factor(fake, ddof).T, allowed * trace)
  distance = np.square(real.mean - fake.mean).sum() + trace - 2 * cross
  return float(max(distance, 0.0))  # rounding leaves about -1e-11 for identical sets


def _factor(stats: FeatureStats, ddof: int) -> np.ndarray:
  """R with R^T R = covariance; directions whose variance is rounding noise are left out."""
  covariance_DD = stats.covariance(ddof)
  dims = len(covariance_DD)
  noise = dims * np.finfo(np.float64).eps
  if stats.n > dims:
    try:
      # Twenty times as fast as eigenvectors, and as good unless there are directions to leave out.
      factor_DD = np.linalg.cholesky(covariance_DD).T
    except np.linalg.LinAlgError:  # not positive definite after rounding
      pass
    else:
      pivots_D = np.square(np.diagonal(factor_DD))
      if pivots_D.min() > _MARGIN * noise * pivots_D.max():
        return factor_DD
  values_D, vectors_DD = np.linalg.eigh(covariance_DD)
  keep_D = values_D > noise * values_D[-1]
  return np.sqrt(values_D[keep_D])[:, None] * vectors_DD[:, keep_D].T


def _nuclear_norm(product_RR: np.ndarray, error: float) -> float:
  """Sum of the singular values; twice the sum is off by at most `error`, rounding aside."""
  if error > 0 and product_RR.size:
    squares_R = np.linalg.eigvalsh(product_RR.T @ product_RR)
    # An eigenvalue is off by `rounding`, its root by rounding / (2 root), and never by more than
    # the root of it: small singular values lose half of their digits.
    rounding = 4 * np.sqrt(len(squares_R)) * np.finfo(np.float64).eps * squares_R[-1]
    roots_R = np.sqrt(np.maximum(squares_R, rounding))
    if 2 * rounding * (1 / roots_R).sum() <= error:  # the distance has the sum twice
      return np.sqrt(np.maximum(squares_R, 0)).sum()
  return np.linalg.svd(product_RR, compute_uv=False).sum()
