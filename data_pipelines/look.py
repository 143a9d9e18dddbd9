"""The first, the middle and the last frame of a clip: what is looked at after the decode pass.

Only clips that have passed so far are looked at, so their frames are sought out anew instead of
being kept for all. Runs in a process of its own (`isolation`); networks that want an accelerator
run where it is, on the small pictures that this returns.

Legend: N pictures, H W pixels, S shorter side, C channels (RGB).
"""

import base64
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import typing
from typing import Any

import av.error
import numpy as np
from PIL import Image

from data_pipelines import config as config_lib
from data_pipelines import tables, text_area
from vidjax.data import video

if typing.TYPE_CHECKING:
  from data_pipelines import clip_scores

# Raise it when a change here or in `text_area` changes results: older ones are then not used.
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Look:
  """What was seen on one clip.

  Attributes:
    clip_id: Of the clip.
    text_areas: Share of text on each of the three frames; empty if nobody asked.
    pictures: (3, S, S, 3) uint8 for CLIP; None if nobody asked.
    error: Why its frames cannot be read; "" if they can.
  """

  clip_id: str
  text_areas: tuple[float, ...] = ()
  pictures: np.ndarray | None = None
  error: str = ""


@dataclasses.dataclass(frozen=True)
class Seen:
  """What a clip's looks come to.

  Attributes:
    clip_id: Of the clip.
    text_area: Share of text on the frame that has most; None if nobody asked.
    aesthetic: Mean score of the three frames; None without a head.
    embedding: (3, X) float32 of unit length; None without CLIP.
    error: Why its frames cannot be read; "" if they can.
    cpu_s: Processor seconds that it took, CLIP included.
  """

  clip_id: str
  text_area: float | None = None
  aesthetic: float | None = None
  embedding: np.ndarray | None = None
  error: str = ""
  cpu_s: float = 0.0

  def to_json(self) -> dict[str, Any]:
    """As plain JSON."""
    values = {**vars(self)}
    if self.embedding is not None:
      values["embedding"] = base64.b64encode(self.embedding.astype("<f4").tobytes()).decode()
    return values

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> "Seen":
    """Takes back what `to_json` made."""
    if values["embedding"] is None:
      return cls(**values)
    numbers = np.frombuffer(base64.b64decode(values["embedding"]), "<f4").astype(np.float32)
    return cls(**{**values, "embedding": numbers.reshape(3, -1)})


def moments_s(row: tables.Clip) -> tuple[float, float, float]:
  """When the first, middle and last frame of a clip are shown, in its source."""
  last_s = max(row.end_time_s - 0.5 / max(row.source_fps, 1e-6), row.start_time_s)
  return row.start_time_s, (row.start_time_s + row.end_time_s) / 2, last_s


def look(
  path: str,
  rows: Sequence[tables.Clip],
  config: config_lib.LookConfig,
  picture_side: int,
  alive: Callable[[], None] = lambda: None,
) -> list[Look]:
  """Looks at clips of one local source.

  Args:
    path: The source.
    rows: The clips.
    config: What to look for.
    picture_side: S, the side of CLIP's pictures; 0 for none.
    alive: Called now and then.
  """
  looks = []
  for row in rows:
    frames = []
    try:
      for moment_s in moments_s(row):
        frames.append(video.read_frames_at(path, [moment_s])[0])
        alive()
    except (ValueError, av.error.FFmpegError) as error:
      looks.append(Look(row.clip_id, error=str(error)))
      continue
    areas = []
    if config.text_area:
      for frame_HWC in frames:
        areas.append(text_area.text_area(frame_HWC, config.text_short_side))
        alive()
    pictures = np.stack([clip_picture(f, picture_side) for f in frames]) if picture_side else None
    looks.append(Look(row.clip_id, tuple(areas), pictures))
  return looks


def clip_picture(frame_HWC: np.ndarray, side: int) -> np.ndarray:
  """CLIP's view of a frame, (S, S, 3) uint8: shorter side bicubic with antialias, middle cut out.

  As the reference does it (`clip._transform`), up to the mean and deviation.
  """
  height, width = frame_HWC.shape[:2]
  size = (
    (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
  )
  scaled = Image.fromarray(frame_HWC).resize(size, Image.Resampling.BICUBIC)
  left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
  return np.asarray(scaled.crop((left, top, left + side, top + side)))


def seen(
  looks: Sequence[Look], scorer: "clip_scores.Scorer | None", cpu_s: Sequence[float]
) -> list[Seen]:
  """Scores of what was looked at, of whichever sources.

  Args:
    looks: What was looked at.
    scorer: CLIP, if there is one.
    cpu_s: What looking took, for each; CLIP's share is added.
  """
  embeddings: dict[str, np.ndarray] = {}
  shown = {one.clip_id: one.pictures for one in looks if one.pictures is not None}
  of_clip_s = 0.0
  if scorer and shown:
    embedded = scorer.embed_pictures(np.concatenate(list(shown.values())))
    embeddings = {name: embedded.vectors_NX[3 * i : 3 * i + 3] for i, name in enumerate(shown)}
    of_clip_s = embedded.cpu_s / len(shown)
  found = []
  for one, took_s in zip(looks, cpu_s, strict=True):
    embedding_3X = embeddings.get(one.clip_id)
    scores_3 = scorer.aesthetics(embedding_3X) if scorer and embedding_3X is not None else None
    found.append(
      Seen(
        one.clip_id,
        text_area=max(one.text_areas, default=None),
        aesthetic=None if scores_3 is None else float(scores_3.mean()),
        embedding=embedding_3X,
        error=one.error,
        cpu_s=round(took_s + of_clip_s * (embedding_3X is not None), 4),
      )
    )
  return found
