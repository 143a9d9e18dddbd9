"""Clips that a run made while training, as moving pictures by step, within a bound.

Legend: T frames, H W pixels, C channels (RGB).
"""

import base64
from collections.abc import Sequence
import dataclasses
import io
from typing import TypeVar

import av.error
import numpy as np
import PIL.Image

from vidjax import errors, render, storage
from vidjax.data import limits, pictures, video
from vidjax.reporting.files import MAX_BYTES
from vidjax.reporting.run import Run

T = TypeVar("T")

MAX_STEPS = 16  # that are shown
MAX_TOTAL = 8 << 20  # letters of all pictures
_MAX_FRAMES = 24
_HEIGHT, _WIDTH = 128, 960  # pixels of a row of clips, at most
_SHEET = (1200, 2400)  # width and height of a sheet, at most
_QUALITY = 72


@dataclasses.dataclass(frozen=True)
class Shown:
  """The clips of one step.

  Attributes:
    step: number of updates.
    uri: picture, moving where the file is a video, as a data URI.
    width, height: pixels.
    moving: whether it moves.
  """

  step: int
  uri: str
  width: int
  height: int
  moving: bool


@dataclasses.dataclass(frozen=True)
class Gallery:
  """What is shown of the clips of a run.

  Attributes:
    shown: by step.
    sheet: the newest contact sheet: real clips, and under each what the model made of it.
    steps: how many there are in the workdir.
    unreadable: file -> why.
  """

  shown: Sequence[Shown]
  sheet: Shown | None
  steps: int
  unreadable: dict[str, str]


def gallery(run: Run) -> Gallery:
  """Reads and packs clips of steps spread evenly over the run, the first and the last included."""
  unreadable: dict[str, str] = {}
  picked, shown = spread(run.samples, MAX_STEPS), []
  for step, files in picked:
    one = _packed(run.root, step, files, unreadable)
    if one is not None:
      shown.append(one)
  sheet = None
  if shown and shown[-1].moving and "png" in run.samples[-1][1]:
    step, files = run.samples[-1]
    sheet = _packed(run.root, step, {"png": files["png"]}, unreadable)
  while len(shown) > 1 and sum(len(one.uri) for one in shown) > MAX_TOTAL:
    shown = spread(shown, max(1, len(shown) * 2 // 3))
  return Gallery(shown, sheet, len(run.samples), unreadable)


def spread(items: Sequence[T], most: int) -> list[T]:
  """At most `most` of the items, evenly, the last included; and the first, if there are two."""
  if len(items) <= most:
    return list(items)
  if most == 1:
    return [items[-1]]
  return [items[i * (len(items) - 1) // (most - 1)] for i in range(most)]


def _packed(
  root: storage.Path, step: int, files: dict[str, str], unreadable: dict[str, str]
) -> Shown | None:
  """The video of a step, else its sheet."""
  name = files.get("mp4") or files["png"]
  try:
    content = storage.read_bytes(root / name, MAX_BYTES)
    return _moving(step, content) if name.endswith(".mp4") else _still(step, content)
  except (OSError, ValueError, av.error.FFmpegError, errors.DataError) as error:
    unreadable[name] = str(error)
    return None


def _moving(step: int, content: bytes) -> Shown:
  info = video.probe(content)
  limits.check("the video", info.height, info.width)
  kept = spread(range(info.num_frames), _MAX_FRAMES)
  scale = min(1.0, _HEIGHT / info.height, _WIDTH / info.width)
  frames_THWC = video.read_frames_at(content, info.times_s[kept])
  size = max(1, round(info.width * scale)), max(1, round(info.height * scale))
  if scale < 1.0:
    frames_THWC = np.stack(
      [
        np.asarray(PIL.Image.fromarray(frame).resize(size, PIL.Image.Resampling.BOX))
        for frame in frames_THWC
      ]
    )
  fps = len(kept) / max(info.duration_s, 1e-3)
  return Shown(step, render.moving_picture(frames_THWC, fps, _QUALITY), *size, moving=True)


def _still(step: int, content: bytes) -> Shown:
  small = PIL.Image.fromarray(pictures.read(content))
  scale = min(1.0, _SHEET[0] / small.width, _SHEET[1] / small.height)
  if scale < 1.0:
    size = max(1, round(small.width * scale)), max(1, round(small.height * scale))
    small = small.resize(size, PIL.Image.Resampling.BOX)
  buffer = io.BytesIO()
  small.save(buffer, "WEBP", quality=_QUALITY)
  uri = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
  return Shown(step, uri, small.width, small.height, moving=False)
