"""What a run is fed: its data sets, their shares as configured, and how many samples each gave.

The order of samples is a function of their numbers (`vidjax.data.mixture`), so what was fed is
counted by it and need not be logged.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

from vidjax.data import mixture


@dataclasses.dataclass(frozen=True)
class Fed:
  """One data set.

  Attributes:
    name: its folder, or its kind.
    kind, split: of the set.
    group: "videos" or "pictures".
    share: of the samples of its group, as configured.
    samples: that it gave; None where views take turns by the shapes of clips, which a config does
      not know.
    clips: how many it has that hold a window, as the newest checkpoint says; None if none does.
  """

  name: str
  kind: str
  split: str
  group: str
  share: float
  samples: int | None
  clips: int | None

  @property
  def epochs(self) -> float | None:
    """How often each of its clips was seen."""
    return self.samples / self.clips if self.samples is not None and self.clips else None


@dataclasses.dataclass(frozen=True)
class Mix:
  """All data sets, and the form of their samples.

  Attributes:
    form: name -> text.
    sets: in the order of the config.
  """

  form: Mapping[str, str]
  sets: Sequence[Fed]


def describe(
  config: Mapping[str, Any],
  samples: int,
  *,
  gaps: Sequence[Mapping[str, Any]] = (),
  fingerprint: Mapping[str, Any] | None = None,
) -> Mix:
  """Describes the data of a run.

  Args:
    config: of the run, as `config.json` has it.
    samples: trained on so far.
    gaps: entries of `skipped_samples.json`.
    fingerprint: of the data, as a checkpoint's record has it.
  """
  data, batch = config["data"], max(1, config.get("batch_size") or 1)
  images = data.get("images") or {}
  every, rows = images.get("every_steps") or 0, images.get("rows") or 0
  videos = list(data.get("sets") or [])
  if not videos:
    videos = [{key: data.get(key) for key in ("path", "kind", "split")}]
  spans = _spans(samples, gaps)

  def fed(group: int) -> Callable[[mixture.Turns, int], int]:
    """Counts, among the samples that were trained on, those of a set: a part of the turns."""

    def count(turns: mixture.Turns, part: int) -> int:
      ends = [_taken(end, batch, every, rows)[group] for span in spans for end in span]
      counts = [turns.count(part, end) for end in ends]
      return sum(counts[1::2]) - sum(counts[::2])

    return count

  one_view = len(data.get("buckets") or ()) < 2
  sets = _group("videos", videos, fed(0) if one_view else None, fingerprint, "sets")
  if every or rows:
    pictures, found = list(images.get("sets") or []), fingerprint
    if not pictures:
      pictures, found = videos, None
    one_view = len(images.get("buckets") or ()) < 2
    sets += _group("pictures", pictures, fed(1) if one_view else None, found, "images.sets")
  return Mix(_form(data, every, rows, batch), sets)


def _group(
  name: str,
  configs: Sequence[Mapping[str, Any]],
  count: Callable[[mixture.Turns, int], int] | None,
  fingerprint: Mapping[str, Any] | None,
  prefix: str,
) -> list[Fed]:
  weights = [float(one.get("weight") or 1.0) for one in configs]
  turns = mixture.turns(weights)
  found = []
  for part, one in enumerate(configs):
    key = "usable_clips"
    if part or prefix != "sets":
      key = f"{prefix}[{part}].{key}"
    found.append(
      Fed(
        name=str(one.get("path") or one.get("kind") or "?"),
        kind=str(one.get("kind") or ""),
        split=str(one.get("split") or ""),
        group=name,
        share=weights[part] / sum(weights),
        samples=count(turns, part) if count else None,
        clips=(fingerprint or {}).get(key),
      )
    )
  return found


def _spans(samples: int, gaps: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
  """Stretches of the stream that were trained on: the first of each, and one behind the last."""
  spans, start, trained = [], 0, 0
  for gap in sorted(gaps, key=lambda gap: gap.get("at_sample", 0)):
    at, left_out = gap.get("at_sample", 0), gap.get("samples", 0)
    if at > samples:
      break
    spans.append((start, start + at - trained))
    start, trained = start + at - trained + left_out, at
  return [*spans, (start, start + samples - trained)]


def _taken(end: int, batch: int, every: int, rows: int) -> tuple[int, int]:
  """Videos and pictures among the first `end` of the stream (`schedule.Schedule.parts`)."""
  steps, rest = divmod(end, batch)
  if every:
    pictures = steps // every * batch + (rest if steps % every == every - 1 else 0)
  else:
    pictures = steps * rows + rest * rows // batch
  return end - pictures, pictures


def _form(data: Mapping[str, Any], every: int, rows: int, batch: int) -> dict[str, str]:
  """How a sample looks."""
  sizes = data.get("buckets") or [(data.get("height"), data.get("width"))]
  rates = data.get("fps_choices") or [data.get("fps")]
  form = {
    "frames": str(data.get("num_frames")),
    "frames per second": ", ".join(f"{rate:g}" for rate in rates if rate is not None),
    "height x width": ", ".join(f"{height} x {width}" for height, width in sizes),
  }
  if data.get("stride"):
    form["frames per second"] = f"each clip's own, every frame of number {data['stride']}"
  if every:
    form["pictures"] = f"each step of number {every} has pictures alone"
  if rows:
    form["pictures"] = f"{rows} of {batch} rows of each batch"
  if every or rows:
    images = data.get("images") or {}
    own = (images.get("height") or data.get("height"), images.get("width") or data.get("width"))
    shapes = images.get("buckets") or [own]
    form["pictures, height x width"] = ", ".join(f"{h} x {w}" for h, w in shapes)
  return form
