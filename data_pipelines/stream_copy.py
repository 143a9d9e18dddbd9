"""Clips as they are in the source, from key frame to key frame: nothing is encoded anew.

Size and quality are the source's, and so are long distances between key frames, which training has
to decode. Cuts were moved to key frames that do not cross them (`cut.snapped`; SVD, appendix C).
"""

from collections.abc import Callable, Iterator, Sequence
import tempfile
from typing import Any

import av

from data_pipelines import signals, tables
from vidjax import storage
from vidjax.data import video

_TOLERANCE_S = 2e-3  # Matroska and WebM round their time stamps to milliseconds.


def copy_source(
  path: str, rows: Sequence[tables.Clip], alive: Callable[[], None] = lambda: None
) -> Iterator[tuple[tables.Clip, bytes | None]]:
  """Copies clips of one local source in one pass over its packets.

  Args:
    path: The source.
    rows: Its clips to store, without overlap, each from a key frame to another one or the end.
    alive: Called for each packet.

  Yields:
    (clip, mp4 bytes), in the order of time; None in place of the bytes where the packets of the
    span do not stand alone (frames that refer to others beyond a key frame), or the container does
    not say when they are shown.
  """
  rows = sorted(rows, key=lambda row: row.start_frame)
  with av.open(path) as container:
    stream = container.streams.video[0]
    if not signals.copyable(container, stream):
      yield from ((row, None) for row in rows)
      return
    origin, unit_s = _first_stamp(path), float(stream.time_base or 0)
    waiting = iter(rows)
    row = next(waiting, None)
    packets: list[Any] = []
    for packet in container.demux(stream):
      alive()
      if row is None:
        break
      if not packet.size:
        continue
      if packet.pts is None or packet.dts is None:
        packets.append(None)  # whatever this span is, it is not known when it is shown
        continue
      time_s = (packet.pts - origin) * unit_s
      while row is not None and packet.is_keyframe and time_s > row.end_time_s - _TOLERANCE_S:
        yield row, _mux(stream, packets, row, alive)
        row, packets = next(waiting, None), []
      if row is None or time_s < row.start_time_s - _TOLERANCE_S:
        continue
      if packets or (packet.is_keyframe and time_s < row.start_time_s + _TOLERANCE_S):
        packets.append(packet)
    if row is not None:
      yield row, _mux(stream, packets, row, alive)
      yield from ((left, None) for left in waiting)


def _first_stamp(path: str) -> int:
  """Of the first frame that is shown, which is time 0 of all rows."""
  with video.FrameReader(path) as reader:
    first = next(iter(reader), None)
    return (first.picture.pts or 0) if first else 0


def _mux(
  stream: Any, packets: list[Any], row: tables.Clip, alive: Callable[[], None]
) -> bytes | None:
  if not packets or len(packets) != row.end_frame - row.start_frame or None in packets:
    return None
  start = packets[0].pts
  # Fast start rewrites the file in a second pass, for which FFmpeg needs a real one.
  with tempfile.TemporaryDirectory(prefix="vidjax-mp4-") as folder:
    name = f"{folder}/clip.mp4"
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(name, "w", format="mp4", options=options) as container:
      copied = container.add_stream_from_template(stream)
      for packet in packets:
        alive()
        packet.pts -= start
        packet.dts -= start
        packet.stream = copied
        container.mux(packet)
    return storage.Path(name).read_bytes()
