"""Which clips can be used at all, and which are held out.

Thresholds on scores are in `thresholds`, repeated clips in `duplicates`. Every decision is a
function of the clips alone, never of the order in which a runner visits them.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import functools
import hashlib

from data_pipelines import config as config_lib
from data_pipelines import tables
from vidjax.data import subset


def drop_reasons(clip: tables.Clip, config: config_lib.SelectConfig) -> tuple[str, ...]:
  """Why a clip cannot be used, whatever is on it; empty if it can."""
  reasons = []
  if is_short(clip, config):
    reasons.append("too_short")
  if clip.scores.get("damaged_frames"):
    reasons.append("damaged")
  if clip.fps < config.min_fps:
    reasons.append("low_frame_rate")
  if min(clip.width, clip.height) < config.min_short_side:
    reasons.append("low_resolution")
  if config.within and clip.clip_id not in _within(config.within):
    reasons.append("not_selected")
  return tuple(reasons)


@functools.lru_cache(maxsize=1)
def _within(path: str) -> frozenset[str]:
  return frozenset(subset.read(path).astype(str).tolist())


def is_short(clip: tables.Clip, config: config_lib.SelectConfig) -> bool:
  """Whether a clip is too short for a training window; such clips count for no quantile."""
  return clip.seconds < config.min_seconds - 1e-3 or clip.end_frame - clip.start_frame < 2


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
