"""Makes small video files with known content, for tests of decoding and curation.

Legend: T frames, H W pixels, C channels (RGB).
"""

from collections.abc import Sequence
import fractions
import pathlib
from typing import Any

import av
import cv2
import numpy as np

TIME_BASE = fractions.Fraction(1, 90_000)


def shot(
  seed: int, num_frames: int, *, height: int = 72, width: int = 128, speed: float = 1.5
) -> np.ndarray:
  """A camera that pans over a coloured texture of its own, (T, H, W, 3) uint8."""
  rng = np.random.default_rng(seed)
  reach = int(abs(speed) * num_frames) + 2
  size = (width + reach + 8, height)
  wide = np.zeros((*size[::-1], 3), np.float32)
  for scale, strength in ((48, 110), (16, 60), (3, 45)):  # composition, objects, fine detail
    knots = (height // scale + 2, size[0] // scale + 2, 3)
    noise = rng.uniform(-1, 1, knots).astype(np.float32)
    wide += strength * cv2.resize(noise, size, interpolation=cv2.INTER_LINEAR)
  wide = wide * rng.uniform(0.6, 1.0, 3).astype(np.float32) + 128
  wide = np.clip(wide, 0, 255).astype(np.uint8)
  offsets = [round(abs(speed) * i) for i in range(num_frames)]
  return np.stack([wide[:, offset : offset + width] for offset in offsets])


def still(seed: int, num_frames: int, **size: int) -> np.ndarray:
  """The same picture all the time."""
  return np.repeat(shot(seed, 1, **size), num_frames, axis=0)


def black(num_frames: int, *, height: int = 72, width: int = 128) -> np.ndarray:
  """Black frames."""
  return np.zeros((num_frames, height, width, 3), np.uint8)


def dissolve(before: np.ndarray, after: np.ndarray, length: int) -> np.ndarray:
  """Joins two shots by a blend over the last and first `length` frames of each."""
  alpha = ((np.arange(length) + 1) / (length + 1))[:, None, None, None]
  mixed = (1 - alpha) * before[-length:] + alpha * after[:length]
  return np.concatenate([before[:-length], mixed.astype(np.uint8), after[length:]])


def write(
  path: pathlib.Path,
  video_THWC: np.ndarray,
  *,
  fps: float = 24.0,
  times_s: Sequence[float] | np.ndarray | None = None,
  codec: str = "libx264",
  pix_fmt: str = "yuv420p",
  gop: int = 250,
  rotation: int = 0,
  aspect: fractions.Fraction | None = None,
  sound: bool = False,
) -> pathlib.Path:
  """Writes frames to a file whose format follows from its suffix."""
  path.parent.mkdir(parents=True, exist_ok=True)
  times_s = np.arange(len(video_THWC)) / fps if times_s is None else times_s
  with av.open(str(path), "w") as container:
    options = {"crf": "16", "preset": "ultrafast"} if "264" in codec else {}
    rate = fractions.Fraction(fps).limit_denominator(1001)
    stream: Any = container.add_stream(codec, rate=rate, options=options)
    stream.height, stream.width = video_THWC.shape[1:3]
    stream.pix_fmt = pix_fmt
    stream.gop_size = gop
    time_base = 1 / rate if codec in ("gif", "mpeg4") else TIME_BASE
    stream.codec_context.time_base = time_base
    if rotation:
      stream.set_display_rotation(rotation)
    if aspect:
      stream.codec_context.sample_aspect_ratio = aspect
    audio = container.add_stream("aac", rate=44100) if sound else None
    for frame_HWC, time_s in zip(video_THWC, times_s, strict=True):
      picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), "rgb24")
      picture.pts = round(time_s / time_base)
      picture.time_base = time_base
      container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
    if audio is not None:
      _add_silence(container, audio, float(times_s[-1]))
  return path


def write_encrypted(path: pathlib.Path, video_THWC: np.ndarray) -> pathlib.Path:
  """Writes an mp4 as shops sell them: common encryption, entries `encv` and `sinf`, no key."""
  options = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "0123456789abcdef" * 2,
    "encryption_kid": "fedcba9876543210" * 2,
  }
  with av.open(str(path), "w", options=options) as container:
    stream: Any = container.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
    stream.height, stream.width = video_THWC.shape[1:3]
    stream.pix_fmt = "yuv420p"
    for frame_HWC in video_THWC:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, "rgb24")))
    container.mux(stream.encode(None))
  content = path.read_bytes()
  assert b"encv" in content
  assert b"sinf" in content
  return path


def write_sound(path: pathlib.Path, seconds: float = 1.0) -> pathlib.Path:
  """Writes a file with sound and no picture."""
  with av.open(str(path), "w") as container:
    _add_silence(container, container.add_stream("aac", rate=44100), seconds)
  return path


def _add_silence(container: Any, stream: Any, seconds: float) -> None:
  for i in range(int(seconds * 44100) // 1024):
    frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
    frame.sample_rate, frame.pts = 44100, i * 1024
    container.mux(stream.encode(frame))
  container.mux(stream.encode(None))
