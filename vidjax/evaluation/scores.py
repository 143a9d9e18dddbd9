"""Features of both sides -> metrics with intervals, as a protocol asks for them.

Beside each Fréchet distance stand the kernel distance of the same features, the value extrapolated
to infinitely many samples, and the floor, which is one half of the real set against the other. What
needs no network is measured always: how much the clips of either side move and flicker.

Legend: N samples, F frames, D feature dimensions, G groups.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
from typing import Any
import warnings

import numpy as np

from vidjax.evaluation.datasets.items import chance
from vidjax.evaluation.protocol import Metric, Protocol
from vidjax.evaluation.store import Features
from vidjax.metrics import (
  distances,
  inception_score,
  similarity,
  video_statistics,
)
from vidjax.metrics.groups import groups_of
from vidjax.metrics.intervals import Estimate
from vidjax.metrics.kid import jedi_mmd, kid

TEXT = "text"  # array of the generated side: embeddings of prompts, by network
STATISTICS = "video"  # prefix of arrays of numbers that need no network
_DIFFERENCE = f"{STATISTICS}:frame_difference"
_CLASS_LEAST = 2  # clips of a class on either side for its own kernel distance


@dataclasses.dataclass(frozen=True)
class Side:
  """Features of one side, and where its clips come from.

  Attributes:
    features: see `vidjax.evaluation.store`.
    videos: the real video or prompt that each clip goes back to; clips of one leave together.
    labels: class of each clip; None where there are none.
  """

  features: Features
  videos: Sequence[str]
  labels: Sequence[str | None]

  def __len__(self) -> int:
    return len(self.features.ids)

  def of(self, rows: np.ndarray) -> "Side":
    """Some of the clips."""
    videos, labels = [self.videos[int(i)] for i in rows], [self.labels[int(i)] for i in rows]
    return Side(self.features.of(rows), videos, labels)

  def drawn(self, count: int | None, seed: int) -> "Side":
    """`count` clips by a hash of seed and id."""
    if count is None or count >= len(self):
      return self
    order = sorted(range(len(self)), key=lambda i: chance(seed, self.features.ids[i], "metric"))
    return self.of(np.sort(np.array(order[:count])))


def side(features: Features, videos: Mapping[str, str], labels: Mapping[str, str | None]) -> Side:
  """A side whose clips go back to `videos`, or to themselves."""
  ids = features.ids
  return Side(features, [videos.get(id_, id_) for id_ in ids], [labels.get(id_) for id_ in ids])


def key(backbone: str, tap: str) -> str:
  """Name of the array that a tap's features have."""
  return f"{backbone}:{tap}"


def columns(record: video_statistics.VideoRecord) -> dict[str, float]:
  """Names of arrays and values of a clip's numbers that need no network."""
  return {
    f"{STATISTICS}:{name}": value
    for name, value in dataclasses.asdict(record).items()
    if value is not None
  }


def all_metrics(
  protocol: Protocol,
  real: Side,
  fake: Side,
  texts: Mapping[str, np.ndarray],
  progress: Callable[[int], None] = lambda _: None,
) -> tuple[dict[str, Estimate], list[str]]:
  """Every metric of a protocol, and what a reader has to be warned of.

  Args:
    protocol: which metrics.
    real: of the real clips.
    fake: of the generated ones.
    texts: embeddings (N, D) of the generated clips' prompts, by network.
    progress: is told how many metrics are done.

  Raises:
    ValueError: there are too few clips, or features that cannot be used; says of which side.
  """
  for name, side in (("real", real), ("generated", fake)):
    if len(side) < 2:
      raise ValueError(f"{len(side)} usable {name} clips: at least 2 are needed")
  found: dict[str, Estimate] = {}
  said: list[str] = []
  if texts:
    of_texts = {f"{TEXT}:{name}": values_ND for name, values_ND in texts.items()}
    features = dataclasses.replace(fake.features, arrays=fake.features.arrays | of_texts)
    fake = dataclasses.replace(fake, features=features)
  for done, metric in enumerate(protocol.metrics):
    progress(done)
    of, about = _KINDS[metric.kind](metric, real, fake.drawn(metric.count, 0))
    found |= of
    said += about
  progress(len(protocol.metrics))
  for name, of_side in (("real", real), ("generated", fake)):
    found |= _statistics(of_side, name)
  return found, said


def classes(protocol: Protocol, real: Side, fake: Side) -> list[dict[str, Any]]:
  """Kernel distances of each class that has clips on both sides, largest first.

  The Fréchet distance of the hundred clips of a class would be nothing but bias.
  """
  metrics = [m for m in protocol.metrics if m.kind == "fvd"]
  rows = []
  for label in sorted({label for label in fake.labels if label is not None}):
    of_real, of_fake = (
      side.of(np.flatnonzero([other == label for other in side.labels])) for side in (real, fake)
    )
    if min(len(of_real), len(of_fake)) < _CLASS_LEAST:
      continue
    values = {
      metric.name.replace("fvd", "kvd", 1): kid(
        *(_rows(side, key(metric.backbone, metric.tap))[0] for side in (of_real, of_fake))
      )
      for metric in metrics
    }
    values["frame_difference"] = float(of_fake.features.arrays[_DIFFERENCE].mean())
    values["frame_difference, real"] = float(of_real.features.arrays[_DIFFERENCE].mean())
    rows.append({"label": label, "n_real": len(of_real), "n_fake": len(of_fake), "values": values})
  return sorted(rows, key=lambda row: -next(iter(row["values"].values())))


def _distance(metric: Metric, real: Side, fake: Side) -> tuple[dict[str, Estimate], list[str]]:
  """Fréchet and kernel distance, extrapolation and floor."""
  name, tap = metric.name, key(metric.backbone, metric.tap)
  _, _, suffix = name.partition("/")
  real_ND, real_N = _rows(real, tap)
  fake_ND, fake_N = _rows(fake, tap)
  names = (f"{name} of real clips", f"{name} of generated clips")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # said below, where a reader of the result sees it
    of = distances.frechet_distances(real_ND, fake_ND, metric.ddof, (real_N, fake_N), names)
  found, said = {name: of.frechet}, []
  dims, least = real_ND.shape[1], min(len(real_ND), len(fake_ND))
  if least < dims:
    said.append(
      f"{name}: N={least} is below the {dims} dimensions of its features, so the covariance is"
      " singular and the value mostly bias"
    )
  if of.infinity is not None:
    found[f"{metric.kind}_infinity/{suffix}"] = of.infinity
  else:
    said.append(f"{name}: {of.not_extrapolated}")
  if len(real_ND) == len(real):  # not for the many frames of each clip: all pairs are too many
    short = "kvd" if metric.kind == "fvd" else "kid"
    found[f"{short}/{suffix}"] = distances.kid_with_interval(real_ND, fake_ND, (real_N, fake_N))
  if of.floor is not None:
    found[f"{metric.kind}_floor/{suffix}"] = of.floor.frechet
    said.append(
      f"{metric.kind}_floor/{suffix} is of halves of {of.floor.n_first} and {of.floor.n_second}:"
      f" it has more bias than {name}, compare the extrapolated values"
    )
    if of.floor.infinity is not None:
      found[f"{metric.kind}_infinity_floor/{suffix}"] = of.floor.infinity
  return found, said


def _jedi(metric: Metric, real: Side, fake: Side) -> tuple[dict[str, Estimate], list[str]]:
  """JEDi's distance, a biased estimate: at equal laws it is about 1 / N and not 0."""
  tap = key(metric.backbone, metric.tap)
  (real_ND, _), (fake_ND, _) = (_rows(side, tap) for side in (real, fake))
  value = jedi_mmd(real_ND, fake_ND)
  return {metric.name: Estimate(value, math.nan, math.nan, "100 x squared kernel units")}, []


def _inception_score(
  metric: Metric, real: Side, fake: Side
) -> tuple[dict[str, Estimate], list[str]]:
  logits_ND, videos_N = _rows(fake, key(metric.backbone, metric.tap))
  if len(fake) < max(metric.splits, 2):
    return {}, [f"{metric.name}: {len(fake)} clips cannot be split {metric.splits} times: left out"]
  said = []
  if metric.count is not None and len(fake) < metric.count:
    said.append(f"{metric.name} is of {len(fake)} clips and not of {metric.count}")
  if len(fake) < 10 * logits_ND.shape[1]:
    said.append(f"{metric.name}: fewer than 10 clips for each of {logits_ND.shape[1]} classes")
  scheme = inception_score.Scheme(metric.splits, eps=metric.eps, shuffle=metric.shuffle)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # said above
    score = inception_score.of_logits(logits_ND, scheme, groups_of(videos_N))
  return {metric.name: score.estimate}, said


def _clipsim(metric: Metric, real: Side, fake: Side) -> tuple[dict[str, Estimate], list[str]]:
  """The mean cosine of frames and prompt, and that of neighbouring frames."""
  frames_NFD = fake.features.arrays[key(metric.backbone, metric.tap)]
  groups_N = groups_of(fake.videos)
  texts_ND = fake.features.arrays[f"{TEXT}:{metric.backbone}"]
  _, _, suffix = metric.name.partition("/")
  steady = [similarity.frame_to_frame(frames_FD) for frames_FD in frames_NFD]
  return {
    metric.name: similarity.clipsim(list(frames_NFD), texts_ND, groups_N).estimate,
    f"frame_consistency/{suffix}": similarity.over_videos(steady, groups_N).estimate,
  }, []


_KINDS = {
  "fvd": _distance,
  "fid": _distance,
  "jedi": _jedi,
  "is": _inception_score,
  "clipsim": _clipsim,
}


def _rows(side: Side, array: str) -> tuple[np.ndarray, list[str]]:
  """Features (N, D) in float64 and the video of each row; every frame of a clip is a row."""
  values = side.features.arrays[array]
  if values.ndim == 2:
    return values.astype(np.float64), list(side.videos)
  per_clip = values.shape[1]
  flat_ND = values.reshape(-1, values.shape[-1]).astype(np.float64)
  return flat_ND, [video for video in side.videos for _ in range(per_clip)]


def _statistics(side: Side, name: str) -> dict[str, Estimate]:
  """How much the clips of a side move and flicker, and keep the frame that they were given."""
  names = {array.partition(":")[2]: array for array in side.features.arrays}
  fields = [f.name for f in dataclasses.fields(video_statistics.VideoRecord) if f.name in names]
  columns_N = [side.features.arrays[names[field]] for field in fields]
  records = [
    video_statistics.VideoRecord(**dict(zip(fields, map(float, row), strict=True)))
    for row in zip(*columns_N, strict=True)
  ]
  # One clip of each video is independent of the others, and its share has an interval at 0 too.
  independent = len(set(side.videos)) == len(side)
  groups_N = None if independent else groups_of(side.videos)
  found = video_statistics.aggregate(records, groups_N)
  return {f"{field}/{name}": estimate for field, estimate in found.items()}
