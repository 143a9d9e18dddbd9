"""Kernel distances: unbiased squared MMD with a cubic kernel (KID / KVD), and JEDi's statistic.

Legend: N real samples, M fake samples, D feature dimensions, G groups.

Unlike the Fréchet distance, KID has no bias at small N, and may be slightly negative where both
sets follow one law. The kernel matrix is summed in blocks, at most one in memory, and kept by pairs
of groups, so leaving a group out (see `jackknife`) costs nothing more.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from vidjax.metrics.checks import checked_pair

_BLOCK = 1024  # rows and columns of a block: 8 MB of kernel values


@dataclasses.dataclass(frozen=True)
class KernelSums:
  """Sums of kernel values between groups of samples.

  Attributes:
    real: (G, G) real against real, without each sample against itself.
    fake: (G, G) fake against fake, likewise.
    cross: (G, G) real group against fake group.
    n: (G,) samples in each real group.
    m: (G,) samples in each fake group.
  """

  real: np.ndarray
  fake: np.ndarray
  cross: np.ndarray
  n: np.ndarray
  m: np.ndarray

  def mmd2(self, without: int | None = None) -> float:
    """Unbiased squared MMD of all samples, or of those outside of group `without`."""
    keep_N = np.arange(len(self.n)) != without
    keep_M = np.arange(len(self.m)) != without
    n, m = self.n[keep_N].sum(), self.m[keep_M].sum()
    return float(
      self.real[np.ix_(keep_N, keep_N)].sum() / (n * (n - 1))
      + self.fake[np.ix_(keep_M, keep_M)].sum() / (m * (m - 1))
      - 2 * self.cross[np.ix_(keep_N, keep_M)].sum() / (n * m)
    )


def kernel_sums(real: Sequence[np.ndarray], fake: Sequence[np.ndarray]) -> KernelSums:
  """Sums the kernel over groups of real and fake features, (n, D) and (m, D) float64 each."""
  real_scaled = [_scaled(a_ND) for a_ND in real]
  fake_scaled = [_scaled(b_MD) for b_MD in fake]
  return KernelSums(
    _within(real_scaled),
    _within(fake_scaled),
    np.array([[_sum(a, b) for b in fake_scaled] for a in real_scaled]),
    np.array([len(a) for a in real]),
    np.array([len(b) for b in fake]),
  )


def kid(real_ND: np.ndarray, fake_MD: np.ndarray) -> float:
  """Kernel inception distance over all samples, Bińkowski et al. (1801.01401) eq. 4 and sec. 4.

  The kernel is (x.y / D + 1)^3. This is the U-statistic over all pairs, not a mean over subsets.

  Raises:
    ValueError: the features are not two sets of finite numbers with one D and N > 1.
  """
  real_ND, fake_MD = checked_pair(real_ND, fake_MD)
  return kernel_sums([real_ND], [fake_MD]).mmd2()


def jedi_mmd(real_ND: np.ndarray, fake_MD: np.ndarray) -> float:
  """JEDi's statistic, Luo et al. (2410.05203): 100 times the biased squared MMD.

  The kernel is (x.y / D)^2 and each sample also meets itself, so the value is positive where both
  sets follow one law, and falls with N: compare values of equal N only. JEDi is this on features of
  V-JEPA; on others it is the same statistic and another number. The kernel's mean over all pairs is
  a product of second moments, so no pair is ever formed:
  MMD^2 = |X^T X / N - Y^T Y / M|^2 / D^2, Frobenius.

  Raises:
    ValueError: as `kid`.
  """
  real_ND, fake_MD = checked_pair(real_ND, fake_MD)
  real_DD = real_ND.T @ real_ND / len(real_ND)
  fake_DD = fake_MD.T @ fake_MD / len(fake_MD)
  return float(100 * np.square((real_DD - fake_DD) / real_ND.shape[1]).sum())


def _scaled(x_ND: np.ndarray) -> np.ndarray:
  """Rows whose products are the base of the kernel, x.y / D + 1."""
  n, dims = x_ND.shape
  return np.concatenate([x_ND / np.sqrt(dims), np.ones((n, 1))], axis=1)


def _within(groups: Sequence[np.ndarray]) -> np.ndarray:
  sums_GG = np.zeros((len(groups), len(groups)))
  for i, a in enumerate(groups):
    own = np.square(a).sum(axis=1)
    sums_GG[i, i] = _sum_own(a) - (own * own * own).sum()
    for j in range(i):
      sums_GG[i, j] = sums_GG[j, i] = _sum(a, groups[j])
  return sums_GG


def _sum_own(a_ND: np.ndarray) -> float:
  """All pairs of a set with itself; those of two different blocks are the same both ways."""
  blocks = _blocks(a_ND)
  return sum(
    (1 if i == j else 2) * _cubes(blocks[i], blocks[j])
    for i in range(len(blocks))
    for j in range(i + 1)
  )


def _sum(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
  return sum(_cubes(a, b) for a in _blocks(a_ND) for b in _blocks(b_MD))


def _cubes(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
  base = (a_ND @ b_MD.T).ravel()
  return float(np.dot(base * base, base))


def _blocks(x_ND: np.ndarray) -> list[np.ndarray]:
  return [x_ND[i : i + _BLOCK] for i in range(0, len(x_ND), _BLOCK)]
