"""Which clips are kept, which of near-duplicates stays, and which clips are held out.

Every decision is a function of the clips alone, never of the order in which a runner visits them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import hashlib
import math

from data_pipelines import config as config_lib
from data_pipelines import tables

HASH_BITS = 192
# Two hashes that differ in fewer bits than there are bands agree in one band at least.
_BANDS = 12
_BAND_DIGITS = HASH_BITS // _BANDS // 4
# Motion scores are counted in steps of this to find a quantile without collecting them.
_MOTION_STEP = 1e-3


@dataclasses.dataclass(frozen=True)
class Candidate:
  """What duplicate search needs of a clip; `rank` orders by quality, the lowest stays."""

  clip_id: str
  source: str
  hash: str
  rank: tuple[int, float, str, int]


def drop_reasons(
  clip: tables.Clip, config: config_lib.SelectConfig, min_motion_score: float
) -> tuple[str, ...]:
  """Names of the thresholds that a clip misses; empty when it passes all.

  Args:
    clip: The clip.
    config: Thresholds.
    min_motion_score: From `motion_threshold`.
  """
  reasons = []
  if clip.seconds < config.min_seconds - 1e-3 or clip.end_frame - clip.start_frame < 2:
    reasons.append("too_short")
  if clip.motion_score is not None and clip.motion_score < min_motion_score:
    reasons.append("low_motion")
  if clip.scores.get("damaged_frames"):
    reasons.append("damaged")
  if clip.fps < config.min_fps:
    reasons.append("low_frame_rate")
  if min(clip.width, clip.height) < config.min_short_side:
    reasons.append("low_resolution")
  return tuple(reasons)


def motion_bin(clip: tables.Clip, config: config_lib.SelectConfig) -> int | None:
  """The motion score as a whole number of steps, for clips that count for the quantile."""
  if clip.motion_score is None or clip.seconds < config.min_seconds:
    return None
  return math.floor(clip.motion_score / _MOTION_STEP)


def motion_threshold(counts: Mapping[int, int], config: config_lib.SelectConfig) -> float:
  """The larger of the absolute threshold and the quantile `drop_most_static`.

  Args:
    counts: Number of clips by `motion_bin`.
    config: Thresholds.
  """
  allowed = config.drop_most_static * sum(counts.values())
  threshold, seen = 0.0, 0
  for step in sorted(counts):
    if seen + counts[step] > allowed:
      threshold = step * _MOTION_STEP
      break
    seen += counts[step]
  return max(threshold if config.drop_most_static else 0.0, config.min_motion_score)


def candidate(clip: tables.Clip, hash_hex: str) -> Candidate:
  """What duplicate search needs: larger pictures first, then longer clips, then by name."""
  rank = (-min(clip.width, clip.height), -round(clip.seconds, 3), clip.source, clip.start_frame)
  return Candidate(clip.clip_id, clip.source, hash_hex, rank)


def bands(hash_hex: str) -> Iterator[tuple[int, str]]:
  """Keys under which a clip meets its possible duplicates (locality-sensitive hashing)."""
  for i in range(_BANDS if hash_hex else 0):
    yield i, hash_hex[i * _BAND_DIGITS : (i + 1) * _BAND_DIGITS]


def duplicates(group: Iterable[Candidate], max_distance: int) -> Iterator[str]:
  """Ids of the clips of a group that repeat a better one.

  Clips of one source are never each other's duplicates: a fixed camera looks the same all day.

  Args:
    group: Clips that share a band.
    max_distance: Largest number of differing bits.
  """
  ranked = sorted(group, key=lambda c: c.rank)
  values = [int(c.hash, 16) for c in ranked]
  for i, later in enumerate(ranked):
    if any(
      better.source != later.source and (values[j] ^ values[i]).bit_count() <= max_distance
      for j, better in enumerate(ranked[:i])
    ):
      yield later.clip_id


def holdout_order(clip_id: str) -> str:
  """Hash by which clips are chosen for the holdout: the smallest first."""
  return hashlib.sha256(f"holdout {clip_id}".encode()).hexdigest()


def holdout_ids(
  smallest: Sequence[str], num_kept: int, config: config_lib.SelectConfig
) -> frozenset[str]:
  """Clips held out to reach the minimum, besides those that the fraction picks.

  Args:
    smallest: Ids of the first kept clips in `holdout_order`.
    num_kept: Number of kept clips.
    config: Sizes.

  Returns:
    At most half of the clips, so that training never ends up empty.
  """
  return frozenset(smallest[: min(config.holdout_min_clips, num_kept // 2)])


def is_holdout(clip_id: str, chosen: frozenset[str], config: config_lib.SelectConfig) -> bool:
  """Whether a kept clip goes to the holdout split: by its own hash, or to reach the minimum."""
  share = int(holdout_order(clip_id)[:12], 16) / 16**12
  return clip_id in chosen or share < config.holdout_fraction


def decided(clip: tables.Clip, reasons: Iterable[str]) -> tables.Clip:
  """The clip with its verdict."""
  reasons = tuple(reasons)
  return dataclasses.replace(clip, kept=not reasons, drop_reasons=reasons)
