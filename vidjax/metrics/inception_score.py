"""Inception score of generated samples from what a classifier says of them, in float64.

IS = exp(mean_i KL(p_i || q)), q the mean of all p_i: Salimans et al. (1606.03498) sec. 4. It is
high where the classifier is sure of each sample and the samples are of many classes. No real sample
takes part. Its value depends on how many samples share a q, so the split belongs to the number.

Legend: N samples, C classes, S splits, G groups.
"""

import dataclasses
import math
import warnings

import numpy as np

from vidjax.metrics.checks import checked
from vidjax.metrics.groups import GROUPS, checked_groups, in_turn
from vidjax.metrics.intervals import Estimate, around, standard_error

_PER_CLASS = 10  # samples, below which a warning is given


@dataclasses.dataclass(frozen=True)
class Scheme:
  """Which samples share a q. Part i of n samples in S splits is [i n // S, (i + 1) n // S).

  Attributes:
    splits: number of parts; the score is the mean of theirs.
    samples: how many there have to be; None for any number.
    eps: added to each probability.
    shuffle: seed of numpy's `RandomState` that puts the samples in order; None: as they come.
  """

  splits: int = 1
  samples: int | None = None
  eps: float = 0.0
  shuffle: int | None = None


# `isv2048_ucf` of StyleGAN-V (src/metrics/inception_score.py): splits of 204 and 205 samples.
STYLEGAN_V = Scheme(splits=10, samples=2048, shuffle=42)


def tgan2(loops: int = 10) -> Scheme:
  """TGAN2's: a score of 2,048 samples, all in one part, and the mean over loops of new samples.

  scripts/compute_inception_score.py and tgan2/evaluations/inception_score.py there. The samples of
  the loops come one loop after the other.
  """
  return Scheme(splits=loops, samples=2048 * loops, eps=1e-20)


@dataclasses.dataclass(frozen=True)
class InceptionScore:
  """A score.

  Attributes:
    estimate: the mean over splits, with the interval of the grouped jackknife.
    sd: standard deviation over splits, divided by S: what papers print after ±. It says how
      scores of parts differ, which is not how sure the mean is; 0 for one split.
    splits: (S,) score of each.
    samples: N.
  """

  estimate: Estimate
  sd: float
  splits: np.ndarray
  samples: int


def of_logits(
  logits_NC: np.ndarray, scheme: Scheme, groups_N: np.ndarray | None = None
) -> InceptionScore:
  """The score from logits.

  Args:
    logits_NC: before the softmax, any real dtype.
    scheme: `STYLEGAN_V`, `tgan2()` or another one.
    groups_N: groups that leave together, see `vidjax.metrics.groups`. None: rows are independent,
      and are dealt out in turn.

  Raises:
    ValueError: the logits are not (N, C) finite numbers with C > 1, N is not what the scheme asks
      for, or there are more splits than samples.
  """
  logits_NC = checked(logits_NC, "logits")
  logits_NC = logits_NC - logits_NC.max(axis=1, keepdims=True)
  log_p_NC = logits_NC - np.log(np.exp(logits_NC).sum(axis=1, keepdims=True))
  return _score(np.exp(log_p_NC), log_p_NC, scheme, groups_N)


def of_probabilities(
  p_NC: np.ndarray, scheme: Scheme, groups_N: np.ndarray | None = None
) -> InceptionScore:
  """The score from probabilities; a probability of 0 adds nothing, with or without eps.

  Arguments as for `of_logits`; rows that sum to 1 within 1e-3 are taken as they are.

  Raises:
    ValueError: as `of_logits`, or the rows are no probabilities.
  """
  p_NC = checked(p_NC, "probabilities")
  off_N = np.abs(p_NC.sum(axis=1) - 1)
  if p_NC.min() < 0 or off_N.max() > 1e-3:
    row = int(np.argmax(np.maximum(off_N, (p_NC < 0).any(axis=1))))
    raise ValueError(
      f"probabilities: row {row} has sum {p_NC[row].sum():.6g} and smallest value"
      f" {p_NC[row].min():.3g}, each row must sum to 1; are these logits?"
    )
  log_p_NC = np.log(p_NC, out=np.zeros_like(p_NC), where=p_NC > 0)
  return _score(p_NC, log_p_NC, scheme, groups_N)


def _score(
  p_NC: np.ndarray, log_p_NC: np.ndarray, scheme: Scheme, groups_N: np.ndarray | None
) -> InceptionScore:
  n, classes = p_NC.shape
  _check_counts(n, classes, scheme)
  if scheme.eps:
    p_NC = p_NC + scheme.eps
    log_p_NC = np.log(p_NC)
  if groups_N is None:
    groups_N = in_turn(n, min(GROUPS, n))
  groups_N = checked_groups(groups_N, n, "the samples")
  count = int(groups_N.max()) + 1
  # The score of any part follows from its number, its sum of p and its sum of p log p.
  cells_N = _split_of_each(n, scheme) * count + groups_N
  negentropy_N = (p_NC * log_p_NC).sum(axis=1)
  cells, shape = scheme.splits * count, (scheme.splits, count)
  number_SG = np.bincount(cells_N, minlength=cells).reshape(shape)
  negentropy_SG = np.bincount(cells_N, negentropy_N, cells).reshape(shape)
  p_SGC = np.zeros((cells, classes))
  np.add.at(p_SGC, cells_N, p_NC)
  p_SGC = p_SGC.reshape(*shape, classes)

  def scores(left_out: int | None) -> np.ndarray:
    keep_G = np.arange(count) != left_out
    number_S = number_SG[:, keep_G].sum(axis=1)
    q_SC = p_SGC[:, keep_G].sum(axis=1) / number_S[:, None]
    log_q_SC = np.log(q_SC, out=np.zeros_like(q_SC), where=q_SC > 0)
    kl_S = negentropy_SG[:, keep_G].sum(axis=1) / number_S - (q_SC * log_q_SC).sum(axis=1)
    return np.exp(np.maximum(kl_S, 0))

  splits_S = scores(None)
  value = float(splits_S.mean())
  sizes_G = number_SG.sum(axis=0)
  error = math.nan
  if (number_SG.sum(axis=1, keepdims=True) - number_SG).min() > 0:
    used = np.flatnonzero(sizes_G).tolist()
    left_out_J = np.array([scores(g).mean() for g in used])
    error = standard_error(value, left_out_J, sizes_G[used] / n)
  estimate = around(value, error, "inception score", lowest=1.0, highest=float(classes))
  return InceptionScore(estimate, float(splits_S.std()), splits_S, n)


def _split_of_each(n: int, scheme: Scheme) -> np.ndarray:
  order_N = np.arange(n)
  if scheme.shuffle is not None:
    np.random.RandomState(scheme.shuffle).shuffle(order_N)
  split_N = np.empty(n, np.int64)
  for i in range(scheme.splits):
    split_N[order_N[i * n // scheme.splits : (i + 1) * n // scheme.splits]] = i
  return split_N


def _check_counts(n: int, classes: int, scheme: Scheme) -> None:
  if classes < 2:
    raise ValueError(f"C={classes}: an inception score needs at least 2 classes")
  if scheme.samples is not None and n != scheme.samples:
    raise ValueError(f"N={n} samples, this scheme is defined for exactly {scheme.samples}")
  if not 1 <= scheme.splits <= n:
    raise ValueError(f"splits={scheme.splits}: N={n} samples allow 1 to {n}")
  if n < _PER_CLASS * classes:
    warnings.warn(
      f"N={n} samples for C={classes} classes: with fewer than {_PER_CLASS} per class the inception"
      " score says little; use more samples",
      stacklevel=4,
    )
