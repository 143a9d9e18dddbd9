"""How much moves in a video, by the motion vectors that its codec holds, at a few places.

A filter in front of everything else: slides, screens and fixed cameras are turned away after the
decoding of some seconds, before the whole file is. Vectors serve the encoder, not the eye: they are
noisy, and none where a codec has none (then nothing is said). Flow decides about what passes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import av
from av.codec.context import Flags2
from av.sidedata.sidedata import Type
import numpy as np

from data_pipelines import signals
from vidjax.data import video

_PLACES = 8
_SECONDS = 1.0
_MAX_WAITING_BYTES = 64_000_000


def speed(path: str, alive: Callable[[], None] = lambda: None) -> float | None:
  """The largest mean speed of the blocks in one of eight seconds spread over a video.

  All packets are read, but only those decoded that lead from a key frame into one of the seconds.

  Args:
    path: A local file.
    alive: Called for each packet.

  Returns:
    Pixels per second at a shorter side of 16, as motion scores; None where the codec gives no
    vectors (VP9, AV1, pictures that stand alone).

  Raises:
    video.NoVideoError: no video stream.
    av.error.FFmpegError: it cannot be opened or decoded.
  """
  with video.FrameReader(path) as reader:
    stream, container = reader.stream, reader.container
    stream.codec_context.flags2 |= Flags2.export_mvs
    fps, unit_s = video.announced_fps(stream), float(stream.time_base or 0)
    length_s = (container.duration or 0) / av.time_base
    begins_s = [length_s * place / _PLACES for place in range(_PLACES)]
    speeds: list[list[float]] = [[] for _ in begins_s]
    waiting: list[Any] = []  # packets since the last key frame that the decoder has not seen
    wanted = 0
    for packet in container.demux(stream):
      alive()
      time_s = None if packet.pts is None else (packet.pts - (stream.start_time or 0)) * unit_s
      if packet.is_keyframe and waiting and time_s is not None and time_s <= begins_s[wanted]:
        waiting = []
        stream.codec_context.flush_buffers()
      waiting.append(packet)
      ended = not packet.size or (time_s is not None and time_s >= begins_s[wanted] + _SECONDS)
      if ended or sum(p.size for p in waiting) > _MAX_WAITING_BYTES:
        for picture in (picture for packet in waiting for picture in packet.decode()):
          place = int(np.searchsorted(begins_s, picture.time or 0.0, side="right")) - 1
          if picture.time is None or picture.time < begins_s[place] + _SECONDS:
            vectors = picture.side_data.get(Type.MOTION_VECTORS)
            if vectors is not None:
              length = _mean_length(vectors.to_ndarray(), picture.width, picture.height)
              speeds[place].append(fps * length)
        waiting = []
      while time_s is not None and time_s >= begins_s[wanted] + _SECONDS:
        wanted += 1
        if wanted == len(begins_s):
          return _fastest(speeds)
  return _fastest(speeds)


def _fastest(speeds: Sequence[Sequence[float]]) -> float | None:
  return max((float(np.mean(place)) for place in speeds if place), default=None)


def _mean_length(vectors: np.ndarray, width: int, height: int) -> float:
  """Mean over the frame's area; blocks without a vector stand still or are new."""
  past = vectors[vectors["source"] < 0]  # those into the future tell the same of B-frames again
  lengths = np.hypot(past["motion_x"], past["motion_y"]) / np.maximum(past["motion_scale"], 1)
  share = past["w"].astype(np.float64) * past["h"] / (width * height)
  return float((lengths * share).sum() * signals.TINY_SIDE / min(width, height))
