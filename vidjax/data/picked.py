"""Decoding as little of a video as the frames at some moments need.

Packets carry the time stamps of their frames, so which frames are shown is known before any of them
is decoded. Frames that nobody asked for are decoded only where others refer to them; packets of the
rest (B-frames, mostly) never reach the decoder, and every packet that does has to come out of it.

Packets may lie: stamps are missing or equal, an edit list hides frames, a frame is broken, a field
comes in a packet of its own. All that is noticed, and then there is no result: whoever asked has to
decode everything and go by the frames (`vidjax.data.video`).
"""

from collections.abc import Callable, Iterator, Sequence
import itertools
import math
from typing import Any

import av
import av.error
import numpy as np

from vidjax.data import limits

# A time stamp and the time asked for reach us through different roundings (time bases, float32).
TIME_TOLERANCE_S = 1e-4

# Decoders conceal what they find broken unless they are told to report it.
REPORT_DAMAGE = {"err_detect": "explode", **limits.DECODER}

# As many frames as a stream may hold back to bring them into order (H.264 A.3.1, H.265 A.4.2), and
# twice that for fields: of those shown after a moment, no more come before one shown at it.
# Decoding times would say the same, but Matroska has none and FFmpeg's guess needs analysis.
_MAX_REORDERED = 32


def read(
  container: Any,
  stream: Any,
  times_s: Sequence[float] | np.ndarray,
  convert: Callable[[av.VideoFrame], np.ndarray],
  *,
  drop: bool = True,
) -> list[np.ndarray] | None:
  """Decodes the frames shown at the given times.

  Args:
    container: An open PyAV container that nothing was read from yet.
    stream: Its video stream, with one thread.
    times_s: (T,) ascending, in seconds from the first frame.
    convert: Makes an array of a frame; called once for each frame that is shown.
    drop: Whether packets that nobody needs are kept from the decoder.

  Returns:
    For each time the array of its frame; None where the packets cannot be relied on.

  Raises:
    av.error.FFmpegError: something cannot be read or decoded.
  """
  origin = _origin(container, stream)
  if origin is None:
    return None
  unit_s = float(stream.time_base)
  stamps = [origin + math.floor((t + TIME_TOLERANCE_S) / unit_s) for t in times_s]
  packets = _span(container, stream, origin, stamps, round(2 / unit_s))
  if packets is None:
    return None
  key = packets[0]
  pts = np.sort([packet.pts for packet in packets if packet.pts >= key.pts])
  places = np.searchsorted(pts, stamps, side="right") - 1
  picks = [int(stamp) for stamp in pts[np.maximum(places, 0)]]
  units = _Units.of(stream)
  # Behind an H.264 key frame that is no IDR picture there is a gap in the numbering of frames, and
  # that would count as damage.
  if units is None or units.restarts(key):
    stream.codec_context.options = REPORT_DAMAGE
  if drop and units is not None:
    wanted = set(picks)
    packets = [p for p in packets if p.pts in wanted or not units.is_unreferenced(p)]
  found = _decode(stream.codec_context, packets, set(picks), convert, whole=not drop)
  return None if found is None else [found[stamp] for stamp in picks]


def _packets(container: Any, stream: Any) -> Iterator[Any]:
  """Packets that hold something: an empty one repeats the frame before (AVI), or ends the file."""
  return (packet for packet in container.demux(stream) if packet.size)


def _is_sound(packet: Any) -> bool:
  if packet.pts is None or packet.is_corrupt or packet.is_discard:
    return False
  # AVI numbers frames in the order of decoding; when they are shown is guessed where that differs.
  return packet.stream.container.format.name != "avi" or packet.pts == packet.dts


def _origin(container: Any, stream: Any) -> int | None:
  """Time stamp of the first frame; what the container announces needs analysis to be right."""
  head = itertools.islice(_packets(container, stream), _MAX_REORDERED + 2)
  first = next(head, None)
  if first is None or not first.is_keyframe or not _is_sound(first):
    return None
  return first.pts if all(_is_sound(packet) and packet.pts > first.pts for packet in head) else None


def _span(
  container: Any, stream: Any, origin: int, stamps: Sequence[int], step: int
) -> list[Any] | None:
  """Packets from the last key frame at or before the first stamp up to the last frame shown."""
  # Indices hold decoding times: with B-frames a seek can land on a key frame shown after the stamp.
  for target in (stamps[0], stamps[0] - step, origin):
    container.seek(max(target, origin), stream=stream, backward=True)
    packets = _packets(container, stream)
    key = next((packet for packet in packets if packet.is_keyframe), None)
    if key is None or not _is_sound(key):
      continue
    if key.pts <= max(stamps[0], origin):
      return _up_to(stamps[-1], key, packets)
  return None


def _up_to(last: int, key: Any, packets: Iterator[Any]) -> list[Any] | None:
  span, seen, later = [key], {key.pts}, 0
  for packet in packets:
    if not _is_sound(packet) or packet.pts in seen:
      return None
    seen.add(packet.pts)
    span.append(packet)
    later += packet.pts > last
    if later > _MAX_REORDERED:
      break
  return span


def _decode(
  codec: Any,
  packets: Sequence[Any],
  wanted: set[int],
  convert: Callable[[av.VideoFrame], np.ndarray],
  *,
  whole: bool,
) -> dict[int, np.ndarray] | None:
  """Arrays of the wanted frames by time stamp; `whole`: no packet is missing."""
  first, last = packets[0].pts, max(wanted)
  due = {packet.pts for packet in packets}
  found: dict[int, np.ndarray] = {}
  for packet in (*packets, None):
    try:
      pictures = codec.decode(packet)
    except av.error.FFmpegError:
      # Frames shown before the key frame lack what they refer to; nobody asked for them.
      if packet is not None and packet.pts < first:
        continue
      raise
    for picture in pictures:
      if picture.pts not in due:
        return None
      due.remove(picture.pts)
      if picture.pts < first:
        continue
      # Two fields can be two packets, and without one of them the frame is half a frame.
      if picture.is_corrupt or (picture.interlaced_frame and not whole):
        return None
      if picture.pts in wanted:
        found[picture.pts] = convert(picture)
    if len(found) == len(wanted):
      # A frame that did not come out may be one that others need. VP8 has hidden ones.
      lost = codec.name != "vp8" and any(first <= stamp < last for stamp in due)
      return None if lost else found
  return None


class _Units:
  """Reads what kind of picture a packet of H.264 or HEVC holds.

  Packets of MP4 and Matroska hold units, each behind its length; how long a length is stands in the
  decoder configuration record (ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1).
  """

  def __init__(self, codec: str, length_size: int):
    self._codec = codec
    self._length_size = length_size

  @classmethod
  def of(cls, stream: Any) -> "_Units | None":
    """For a stream; None where its packets do not say it."""
    name, record = stream.codec_context.name, stream.codec_context.extradata or b""
    if name == "h264" and len(record) > 6 and record[0] == 1:
      return cls(name, (record[4] & 3) + 1)
    # A picture that no other of its temporal layer refers to may serve a higher layer: only one
    # layer will do.
    if name == "hevc" and len(record) > 22 and record[0] == 1 and (record[21] >> 3) & 7 == 1:
      return cls(name, (record[21] & 3) + 1)
    return None

  def is_unreferenced(self, packet: Any) -> bool:
    """Whether no other picture refers to this one (nal_ref_idc, or an even type below 15)."""
    header = self._slice_header(packet)
    if header is None:
      return False
    if self._codec == "h264":
      return not header & 0x60
    return (kind := header >> 1 & 0x3F) < 15 and kind % 2 == 0

  def restarts(self, packet: Any) -> bool:
    """Whether frames are numbered anew from a key frame on."""
    header = self._slice_header(packet)
    return self._codec != "h264" or header is None or header & 0x1F == 5

  def _slice_header(self, packet: Any) -> int | None:
    """First byte of the packet's first slice."""
    data, place = memoryview(packet), 0
    while place + self._length_size < len(data):
      length = int.from_bytes(data[place : place + self._length_size], "big")
      place += self._length_size
      kind = data[place] & 0x1F if self._codec == "h264" else data[place] >> 1 & 0x3F
      if (1 <= kind <= 5) if self._codec == "h264" else kind < 32:
        return data[place]
      place += length
    return None
