"""Moving thumbnails of clips, small enough to stand in a page by the dozen."""

from collections.abc import Callable, Sequence

import av.error
import numpy as np

from data_pipelines import tables
from vidjax import render
from vidjax.data import video

_SECONDS = 2.0
_FPS = 6.0
_SIDE = 72
_QUALITY = 40


def moving(
  path: str, clips: Sequence[tables.Clip], alive: Callable[[], None] = lambda: None
) -> list[str]:
  """Animated WebPs of clips of one local source, as data URIs; "" where frames cannot be read."""
  found = []
  for clip in clips:
    length_s = min(_SECONDS, max(clip.seconds, 1 / _FPS))
    start_s = clip.start_time_s + (clip.seconds - length_s) / 2
    moments_s = start_s + np.arange(max(1, round(length_s * _FPS))) / _FPS
    try:
      frames = video.read_frames_at(path, np.maximum(moments_s, 0), (_SIDE, _SIDE))
    except (ValueError, av.error.FFmpegError):
      found.append("")
    else:
      found.append(render.moving_picture(frames, _FPS, _QUALITY))
    alive()
  return found
