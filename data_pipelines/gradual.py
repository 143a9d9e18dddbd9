"""Gradual transitions: dissolves and fades, found as frames that blend two others.

In a dissolve from picture A to picture B every frame between is (1 - alpha) A + alpha B with alpha
rising from 0 to 1; in a fade one of the two is black or white. Motion does not look like that: the
middle of a pan is not the mean of its ends, and it keeps its fine detail, whereas a blend of two
pictures loses half of theirs. So frames half a second to four seconds apart are
compared (the lower frame rates of the cascade in Stable Video Diffusion, appendix C), and where
they differ, the frames between are tested for being a blend.

Legend: T frames, P pixel values of one tiny frame.
"""

from collections.abc import Callable
import dataclasses
import itertools

import numpy as np

from data_pipelines import config as config_lib
from data_pipelines import signals

# A blend moves by small steps; a larger one is a jump between two pictures, not a transition.
_MAX_STEP = 0.3
# Two ends that look alike (light, slow zoom) are one scene.
_MAX_CORRELATION = 0.85
# A dissolve changes the whole frame; a title that fades in leaves most of it alone.
_MIN_CHANGED_SHARE = 0.6
_CHANGED = 8.0
# Half-way through a blend of two pictures, each has lost half of its amplitude: the fine detail
# (mean square) is half of the mean of both ends'. Motion keeps all of it.
_BLEND_DETAIL = 0.5
# Alpha at which a transition counts as begun and as over.
_ENDS = 0.03


@dataclasses.dataclass(frozen=True)
class Transition:
  """A gradual change from the last frame of the old picture to the first one of the new.

  Attributes:
    first: Last frame before anything changes.
    last: First frame when all has changed.
    middle: Frame half-way through.
    kind: "dissolve" or "fade".
    from_plain: A fade that starts from black or white.
    to_plain: A fade that ends in it.
  """

  first: int
  last: int
  middle: int
  kind: str
  from_plain: bool = False
  to_plain: bool = False


@dataclasses.dataclass(frozen=True)
class _Span:
  first: int
  last: int
  difference: float
  residual: float


def find_transitions(
  found: signals.Signals,
  hard_cuts: list[int],
  config: config_lib.CutConfig,
  alive: Callable[[], None] = lambda: None,
) -> list[Transition]:
  """Finds dissolves and fades between hard cuts.

  Args:
    found: What the decode pass kept.
    hard_cuts: First frames of shots after hard cuts; no transition reaches across one.
    config: Thresholds.
    alive: Called for each span that is tested.

  Returns:
    Transitions in order, without overlap.
  """
  frames_TP = found.tiny.reshape(len(found.tiny), -1)
  transitions = []
  bounds = [0, *hard_cuts, len(frames_TP)]
  for start, end in itertools.pairwise(bounds):
    candidates = []
    for seconds in config.gradual_spans_s:
      for span in _blended_spans(frames_TP, found, start, end, seconds, config, alive):
        transition = _refine(frames_TP, span)
        if transition is not None:
          candidates.append((span, transition))
    for cluster in _clusters(candidates):
      # The whole transition shows the whole difference; of equal ones the shortest is the tightest.
      most = max(span.difference for span, _ in cluster)
      whole = [t for span, t in cluster if span.difference > 0.95 * most]
      transitions.append(_with_margin(min(whole, key=lambda t: t.last - t.first), start, end))
  return transitions


def _blended_spans(
  frames_TP: np.ndarray,
  found: signals.Signals,
  start: int,
  end: int,
  seconds: float,
  config: config_lib.CutConfig,
  alive: Callable[[], None],
) -> list[_Span]:
  spans = []
  if end - start < 5:
    return spans
  times_s = found.times_s[start:end]
  length_s = times_s[-1] - times_s[0]
  for begin_s in np.arange(0, max(length_s - seconds, 0) + seconds / 8, seconds / 8):
    alive()
    first, last = np.searchsorted(times_s, times_s[0] + np.array([begin_s, begin_s + seconds]))
    first, last = int(start + first), int(min(start + last, end - 1))
    if last - first < 4:
      continue
    span = _test_blend(frames_TP, found.detail, first, last, config)
    if span is not None:
      spans.append(span)
  return spans


def _test_blend(
  frames_TP: np.ndarray,
  detail_T: np.ndarray,
  first: int,
  last: int,
  config: config_lib.CutConfig,
) -> _Span | None:
  before_P, after_P = frames_TP[first].astype(np.float32), frames_TP[last].astype(np.float32)
  step_P = after_P - before_P
  difference = float(np.abs(step_P).mean())
  if difference < config.gradual_difference:
    return None
  fade = _is_plain(before_P) or _is_plain(after_P)
  if not fade and (
    _correlation(before_P, after_P) > _MAX_CORRELATION
    or float((np.abs(step_P) > _CHANGED).mean()) < _MIN_CHANGED_SHARE
  ):
    return None
  alpha_T, residual = _blend(frames_TP[first : last + 1], before_P, step_P)
  steps_T = np.diff(alpha_T)
  if steps_T.max() > _MAX_STEP or steps_T.min() < -0.1:
    return None
  kept_detail = _detail_half_way(alpha_T, detail_T[first : last + 1])
  if residual + max(kept_detail - _BLEND_DETAIL, 0.0) > config.gradual_misfit:
    return None
  return _Span(first, last, difference, residual)


def _blend(
  frames_TP: np.ndarray, before_P: np.ndarray, step_P: np.ndarray
) -> tuple[np.ndarray, float]:
  """Alpha of each frame as a blend, and how much of the difference no blend explains."""
  offset_TP = frames_TP.astype(np.float32) - before_P
  alpha_T = offset_TP @ step_P / float(step_P @ step_P)
  rest_TP = offset_TP - alpha_T[:, None] * step_P
  residual = float(np.abs(rest_TP[1:-1]).mean()) / float(np.abs(step_P).mean())
  return alpha_T, residual


def _detail_half_way(alpha_T: np.ndarray, detail_T: np.ndarray) -> float:
  """Fine detail around the middle, relative to the mean of both ends'."""
  half_way = np.abs(alpha_T - 0.5) < 0.15
  ends_T = (1 - alpha_T) * detail_T[0] + alpha_T * detail_T[-1]
  expected = float(ends_T[half_way].mean()) if half_way.any() else 0.0
  if expected < 1.0:  # Pictures without detail have none to lose.
    return _BLEND_DETAIL
  return float(detail_T[half_way].mean()) / expected


def _clusters(
  candidates: list[tuple[_Span, Transition]],
) -> list[list[tuple[_Span, Transition]]]:
  """Groups candidates whose transitions overlap in time, directly or through others."""
  clusters: list[list[tuple[_Span, Transition]]] = []
  end = -1
  for span, transition in sorted(candidates, key=lambda c: (c[1].first, c[1].last)):
    if transition.first < end:
      clusters[-1].append((span, transition))
    else:
      clusters.append([(span, transition)])
    end = max(end, transition.last)
  return clusters


def _with_margin(transition: Transition, start: int, end: int) -> Transition:
  """Widens a transition by a tenth on each side: its faint ends hide in noise."""
  margin = 1 + round(0.1 * (transition.last - transition.first))
  return dataclasses.replace(
    transition,
    first=max(start, transition.first - margin),
    last=min(end - 1, transition.last + margin),
  )


def _refine(frames_TP: np.ndarray, span: _Span) -> Transition | None:
  before_P = frames_TP[span.first].astype(np.float32)
  after_P = frames_TP[span.last].astype(np.float32)
  alpha_T, _ = _blend(frames_TP[span.first : span.last + 1], before_P, after_P - before_P)
  # Motion before and after makes alpha waver: take the stretch around its middle.
  middle = int(np.argmax(alpha_T >= 0.5))
  begun = np.flatnonzero(alpha_T[: middle + 1] <= _ENDS)
  over = np.flatnonzero(alpha_T[middle:] >= 1 - _ENDS)
  first = span.first + (int(begun[-1]) if len(begun) else 0)
  last = span.first + middle + (int(over[0]) if len(over) else len(alpha_T) - 1 - middle)
  if last - first < 3:
    return None
  from_plain, to_plain = _is_plain(before_P), _is_plain(after_P)
  kind = "fade" if from_plain or to_plain else "dissolve"
  return Transition(first, last, span.first + middle, kind, from_plain, to_plain)


def _is_plain(frame_P: np.ndarray) -> bool:
  """Black or white, but for a watermark."""
  luma = frame_P.reshape(-1, 3) @ np.array([0.299, 0.587, 0.114], np.float32)
  enough = 0.95 * (len(luma) - 1)  # fewer cannot move a percentile, which takes long to find
  if np.count_nonzero(luma < 24) >= enough:
    return bool(np.percentile(luma, 95) < 24)
  if np.count_nonzero(luma > 235) >= enough:
    return bool(np.percentile(luma, 5) > 235)
  return False


def _correlation(a_P: np.ndarray, b_P: np.ndarray) -> float:
  a_P, b_P = a_P - a_P.mean(), b_P - b_P.mean()
  scale = float(np.sqrt((a_P @ a_P) * (b_P @ b_P)))
  return float(a_P @ b_P) / scale if scale > 1e-3 else 0.0
