"""Thresholds on scores: absolute ones, and those that drop a share of the clips at a stage.

Stable Video Diffusion (2311.15127, sec. 3.1, app. C and E.2) drops by score: the 25 % most static
clips, the 25 % least aesthetic, the 50 % whose captions fit least, the 25 % with most text, and
whatever has text on more than 7 % of the frame.

SVD's shares are of its whole set, each score by itself, as `vidjax select` takes them. Here they
are of the clips that come to the stage, since only these have the score.

A quantile over all of these is found by counting scores in small steps, which runners can add up in
any order with the same result, instead of collecting them.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import math

from data_pipelines import config as config_lib
from data_pipelines import tables

_STEP = 1e-4


@dataclasses.dataclass(frozen=True)
class Rule:
  """One threshold. Clips without the score pass.

  Attributes:
    reason: Why a clip is dropped that misses it.
    score: Name of the score, one of `clips.parquet`'s columns or in `scores`.
    title: What the score is, with its unit, for people.
    highest: Whether the highest scores are dropped; else the lowest.
    limit: Absolute threshold, itself allowed; None for none.
    share: Of the clips at this stage that have the score: at most so many are dropped, fewer where
      several share the score at the limit.
  """

  reason: str
  score: str
  title: str
  highest: bool
  limit: float | None
  share: float = 0.0


def motion(config: config_lib.SelectConfig) -> tuple[Rule, ...]:
  """Rules on what the decode pass measured."""
  return (
    Rule(
      *("low_motion", "motion_score", "Motion score, pixels per second", False),
      *(config.min_motion_score, config.drop_most_static),
    ),
    Rule("shaky", "motion_shake", "Shake, pixels", True, config.max_shake),
  )


def looks(config: config_lib.SelectConfig) -> tuple[Rule, ...]:
  """Rules on what is seen on three frames."""
  return (
    Rule(
      *("text", "text_area", "Text, share of the frame", True),
      *(config.max_text_area, config.drop_most_text),
    ),
    Rule(
      *("low_aesthetic", "aesthetic", "Aesthetic score", False),
      *(config.min_aesthetic, config.drop_least_aesthetic),
    ),
  )


def captions(config: config_lib.SelectConfig) -> tuple[Rule, ...]:
  """Rules on captions."""
  return (
    Rule(
      *("low_similarity", "clip_similarity", "Similarity of frame and caption", False),
      *(config.min_clip_similarity, config.drop_least_similar),
    ),
  )


def value(clip: tables.Clip, score: str) -> float | None:
  """A score of a clip by name; None where it has none."""
  return getattr(clip, score, None) if score in tables.SCORE_COLUMNS else clip.scores.get(score)


def steps(clip: tables.Clip, rules: Sequence[Rule]) -> Iterator[tuple[str, int]]:
  """(reason of the rule, score in whole steps) for each rule that drops a share."""
  for rule in rules:
    score = value(clip, rule.score) if rule.share else None
    if score is not None:
      yield rule.reason, math.floor(score / _STEP)


def limits(counts: Mapping[tuple[str, int], int], rules: Sequence[Rule]) -> dict[str, float]:
  """The threshold of each rule that has one: the stricter of the absolute one and the share's.

  Args:
    counts: How many clips gave each pair of `steps`.
    rules: The rules.

  Returns:
    Reason -> threshold; scores that equal it pass.
  """
  found = {}
  for rule in rules:
    mine = {step: count for (reason, step), count in counts.items() if reason == rule.reason}
    allowed, seen = rule.share * sum(mine.values()), 0
    candidates = [] if rule.limit is None else [rule.limit]
    for step in sorted(mine, reverse=rule.highest):
      if seen + mine[step] > allowed:
        candidates.append((step + rule.highest) * _STEP)
        break
      seen += mine[step]
    if candidates:
      found[rule.reason] = min(candidates) if rule.highest else max(candidates)
  return found


def missed(
  clip: tables.Clip, rules: Sequence[Rule], limits: Mapping[str, float]
) -> tuple[str, ...]:
  """Reasons of the rules whose thresholds a clip misses."""
  reasons = []
  for rule in rules:
    score, limit = value(clip, rule.score), limits.get(rule.reason)
    if score is None or limit is None:
      continue
    if score > limit if rule.highest else score < limit:
      reasons.append(rule.reason)
  return tuple(reasons)
