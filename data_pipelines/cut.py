"""Shots: hard cuts at the native frame rate, gradual ones at lower rates, long shots split.

Every frame of a video belongs to exactly one shot. A hard cut's boundary is the first frame of the
new shot; a gradual transition's is its middle frame, and the clip that is stored leaves the whole
transition out.
"""

from collections.abc import Callable
import dataclasses
import itertools
import math

import numpy as np

from data_pipelines import config as config_lib
from data_pipelines import gradual, signals

# Frames around a candidate that tell how still its surrounding is.
_NEIGHBOURS = 8
# A change back to the old picture within this many frames is a flash, not two cuts.
_FLASH = 3
# A fade this close to a file's end or to a hard cut borders on nothing: it has no shot of its own.
_EDGE_S = 0.6


@dataclasses.dataclass(frozen=True)
class Shot:
  """Bounds of a shot (ends exclusive), what ends it on each side, and the part to store."""

  start: int
  end: int
  start_boundary: str
  end_boundary: str
  clip_start: int
  clip_end: int


@dataclasses.dataclass(frozen=True)
class _Boundary:
  frame: int
  kind: str
  clip_end: int  # of the shot before
  clip_start: int  # of the shot after


def find_shots(
  found: signals.Signals,
  config: config_lib.CutConfig,
  alive: Callable[[], None] = lambda: None,
) -> list[Shot]:
  """Splits a video into shots.

  Args:
    found: What the decode pass kept.
    config: Thresholds.
    alive: Called now and then.

  Returns:
    Shots in order; together they cover every frame once.
  """
  cuts = hard_cuts(found, config, alive)
  transitions = gradual.find_transitions(found, cuts, config, alive)
  trim_start, trim_end, boundaries = {}, {}, [_Boundary(f, "hard", f, f) for f in cuts]
  edges = [0, *cuts, found.num_frames]
  for transition in transitions:
    before = max(e for e in edges if e <= transition.first)
    after = min(e for e in edges if e > transition.first)
    to_edge_s = found.times_s[after - 1] - found.times_s[transition.last]
    if transition.from_plain and _seconds(found, before, transition.first) < _EDGE_S:
      trim_start[before] = transition.last
    elif transition.to_plain and to_edge_s < _EDGE_S:
      trim_end[after] = transition.first + 1
    else:
      boundaries.append(
        _Boundary(transition.middle, transition.kind, transition.first + 1, transition.last)
      )
  boundaries.sort(key=lambda b: b.frame)
  shots = []
  ends = [
    _Boundary(0, "file", 0, 0),
    *boundaries,
    _Boundary(found.num_frames, "file", found.num_frames, found.num_frames),
  ]
  for left, right in itertools.pairwise(ends):
    start = max(left.clip_start, trim_start.get(left.frame, 0))
    end = min(right.clip_end, trim_end.get(right.frame, found.num_frames))
    end = max(end, start)
    shots += _split(
      Shot(left.frame, right.frame, left.kind, right.kind, start, end), found.times_s, config
    )
  return shots


def snapped(shot: Shot, found: signals.Signals) -> Shot:
  """The shot with the part to store moved inwards to key frames, empty where it has not two.

  The end of the file counts as one. A cut is never crossed (SVD, appendix C).
  """
  starts = [frame for frame in found.key_frames if frame >= shot.clip_start]
  start = min(starts, default=shot.clip_end)
  ends = [frame for frame in (*found.key_frames, found.num_frames) if frame <= shot.clip_end]
  end = max(ends, default=start)
  if end <= start:
    start = end = min(start, shot.clip_end)
  return dataclasses.replace(shot, clip_start=start, clip_end=end)


def hard_cuts(
  found: signals.Signals,
  config: config_lib.CutConfig,
  alive: Callable[[], None] = lambda: None,
) -> list[int]:
  """First frames of shots after hard cuts."""
  cuts = []
  for frame, jump in sorted(found.jumps.items()):
    alive()
    if _is_cut(frame, jump, found, config) and not _is_flash(frame, found):
      cuts.append(frame)
  return cuts


def _is_cut(
  frame: int, jump: signals.Jump, found: signals.Signals, config: config_lib.CutConfig
) -> bool:
  difference = found.difference
  change = float(difference[frame])
  around = np.concatenate(
    [
      difference[max(1, frame - _NEIGHBOURS) : frame],
      difference[frame + 1 : frame + 1 + _NEIGHBOURS],
    ]
  )
  still = change >= config.still_ratio * max(float(around.max(initial=0)), 1.0)
  if change >= config.hard_difference:
    if still:  # Only a change of light could be mistaken for a cut here.
      return jump.correlation < 0.9 or jump.beyond_gain > 0.35
    near = np.concatenate(
      [difference[max(1, frame - 2) : frame], difference[frame + 1 : frame + 3]]
    )
    sudden = change >= 2 * max(float(near.mean()) if len(near) else 0.0, 1.0)
    return sudden and jump.correlation < config.hard_correlation
  return (
    still
    and change >= config.still_difference
    and jump.unexplained > 0.7
    and jump.beyond_gain > 0.35
  )


def _is_flash(frame: int, found: signals.Signals) -> bool:
  """Whether the old picture is back (or the new one was there before) within a few frames."""

  def difference(a: int, b: int) -> float:
    if not (0 <= a < found.num_frames and 0 <= b < found.num_frames):
      return math.inf
    return float(np.abs(found.tiny[a].astype(np.int16) - found.tiny[b]).mean())

  limit = 0.4 * difference(frame, frame - 1)

  def alike(a: int, b: int) -> bool:
    return difference(a, b) < limit

  back = any(alike(frame - 1, frame + k) for k in range(1, _FLASH + 1))
  was_there = any(alike(frame - 1 - k, frame) for k in range(1, _FLASH + 1))
  return back or was_there


def _split(shot: Shot, times_s: np.ndarray, config: config_lib.CutConfig) -> list[Shot]:
  """Splits a long shot into equal pieces; the outer ones keep its bounds."""
  last = max(shot.clip_end - 1, shot.clip_start)
  if shot.clip_end <= shot.clip_start:
    return [shot]
  seconds = float(times_s[last] - times_s[shot.clip_start])
  pieces = math.ceil(seconds / config.max_seconds - 1e-6)
  if pieces <= 1:
    return [shot]
  marks_s = times_s[shot.clip_start] + seconds * np.arange(1, pieces) / pieces
  marks = [int(np.searchsorted(times_s, mark)) for mark in marks_s]
  marks = sorted({m for m in marks if shot.clip_start < m < shot.clip_end})
  starts = [shot.start, *marks]
  ends = [*marks, shot.end]
  return [
    Shot(
      start=start,
      end=end,
      start_boundary=shot.start_boundary if i == 0 else "max_length",
      end_boundary=shot.end_boundary if i == len(starts) - 1 else "max_length",
      clip_start=max(start, shot.clip_start),
      clip_end=min(end, shot.clip_end),
    )
    for i, (start, end) in enumerate(zip(starts, ends, strict=True))
  ]


def _seconds(found: signals.Signals, first: int, last: int) -> float:
  return float(found.times_s[last] - found.times_s[first])
