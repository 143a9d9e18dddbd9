"""Runs a step of the curation's graph by itself: one bundle of sources with one clip each."""

from collections.abc import Iterable
from typing import Any

from apache_beam.pvalue import TaggedOutput

from data_pipelines import rows as row_lib
from data_pipelines import tables


def group(number: int) -> tuple[str, list[row_lib.Row]]:
  """The source `number`.mp4 with its clip c`number`, six frames of 128 x 72 pixels."""
  clip = tables.Clip(
    clip_id=f"c{number}",
    source=f"{number}.mp4",
    source_sha256="0" * 64,
    cut_start_frame=0,
    cut_end_frame=6,
    start_frame=0,
    end_frame=6,
    start_time_s=0.0,
    end_time_s=0.25,
    start_boundary="file",
    end_boundary="file",
    fps=24.0,
    source_fps=24.0,
    width=128,
    height=72,
    rotation=0,
  )
  return clip.source, [row_lib.Row(clip)]


def bundle(step: Any, numbers: Iterable[int]) -> tuple[list[row_lib.Row], dict[str, list[Any]]]:
  """The rows that a `DoFn` gives for such sources, and its other outputs by tag."""
  step.setup()
  step.start_bundle()
  rows, others = [], {}
  found = [one for number in numbers for one in step.process(group(number))]
  found += [_bare(one) for one in step.finish_bundle()]
  for one in found:
    if isinstance(one, TaggedOutput):
      others.setdefault(one.tag, []).append(one.value)
    else:
      rows.append(one)
  return rows, others


def _bare(output: Any) -> Any:
  """What is inside of the window in which `finish_bundle` puts its outputs."""
  if isinstance(output, TaggedOutput):
    return TaggedOutput(output.tag, output.value.value)
  return output.value
