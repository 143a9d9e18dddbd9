"""One source in, its shots with scores out, or the reason why it gave none.

The result is plain JSON, remembered under the file's content and the config, so that an interrupted
run does not decode again what it has seen, nor does a run with other selection thresholds.
"""

import base64
from collections.abc import Callable
import contextlib
import dataclasses
import json
import math
from typing import Any

import av.error
import cv2
import numpy as np

from data_pipelines import config as config_lib
from data_pipelines import (
  cut,
  encode,
  faults,
  flow,
  ingest,
  isolation,
  manifest,
  motion_vectors,
  signals,
  tables,
)
from vidjax import storage
from vidjax.data import video

# Raise it when a change here or in the stages below changes results: older ones are then not used.
VERSION = 2
_HASH_POINTS = (0.2, 0.5, 0.8)
_CURVE_POINTS = 400
_STRIP_FRAMES = 16


@dataclasses.dataclass(frozen=True)
class Analysis:
  """What is known about one source.

  Attributes:
    source: Path relative to the folder of videos.
    clips: Its shots, undecided.
    hashes: Perceptual hash of each clip by id, 192 bits in hex.
    reject: Why the file is refused; then there are no clips, unless its intact part is kept.
    seconds: Length.
    strip: (time, small JPEG in base64) evenly spread.
    curve: Largest frame difference in each of up to 400 equal stretches.
    cpu_s: Processor seconds that it took.
  """

  source: str
  clips: tuple[tables.Clip, ...] = ()
  hashes: dict[str, str] = dataclasses.field(default_factory=dict)
  reject: tables.Reject | None = None
  seconds: float = 0.0
  strip: tuple[tuple[float, str], ...] = ()
  curve: tuple[float, ...] = ()
  cpu_s: float = 0.0


def analyse(
  folder: Any,
  source: str,
  cache: Any,
  config: config_lib.CurateConfig,
  known: manifest.Known | None = None,
) -> Analysis:
  """Analyses one file; whatever is wrong with the file never raises.

  Args:
    folder: Folder of videos, local or remote.
    source: Path of the file in it.
    cache: Folder for remembered results.
    config: Thresholds.
    known: What a list says of the file; captions beside it go first.

  Raises:
    Exception: only of this machine or a store: no space left, a network that is gone.
  """
  path = storage.Path(folder) / source
  known = known or manifest.Known()
  try:
    with storage.local_copy(path) as local:
      analysis = _remembered(local, source, cache, config)
    captions = {**known.captions, **ingest.sidecar_captions(folder, source)}
  except faults.FileFaultError as error:  # which another machine may not have: not remembered
    return _rejected(source, "cut", str(error))
  except Exception as error:
    if not faults.is_of_file(error, path):
      raise
    return _rejected(source, "ingest", faults.describe(error))
  clips = tuple(
    dataclasses.replace(c, captions=captions, scores={**known.scores, **c.scores})
    for c in analysis.clips
  )
  return dataclasses.replace(analysis, clips=clips)


def _remembered(local: str, source: str, cache: Any, config: config_lib.CurateConfig) -> Analysis:
  """The analysis of a local file, from an earlier run if it made one."""
  if not storage.Path(local).stat().length:
    return _rejected(source, "ingest", "the file is empty")
  sha256 = storage.sha256(local)
  key = config_lib.fingerprint(
    *(VERSION, source, sha256, config.cut),
    *(config.ingest.keep_intact_part, config.ingest.min_vector_speed),
    *(config.ingest.max_gap_seconds, config.encode.max_fps, config.encode.copy),
  )
  file = storage.Path(cache) / f"{key}.json"
  with faults.of_machine():
    if file.exists():
      return _from_json(storage.read_json(file))
  outcome = isolation.call(*(_analyse_local, local, source, sha256, config), **config.ingest.limits)
  analysis = dataclasses.replace(outcome.value, cpu_s=round(outcome.cpu_s, 3))
  values = dataclasses.asdict(analysis)
  json.dumps(values, allow_nan=False)  # numbers that are none are no fault of what writes them
  with faults.of_machine():
    storage.write_json(file, values)
  return analysis


def _analyse_local(
  local: str,
  source: str,
  sha256: str,
  config: config_lib.CurateConfig,
  alive: Callable[[], None],
) -> Analysis:
  try:
    if slow := _slow(local, config.ingest.min_vector_speed, alive):
      return _rejected(source, "prefilter", slow)
    found = signals.read_signals(local, alive, config.ingest.max_gap_seconds)
  except video.NoVideoError as error:
    return _rejected(source, "ingest", str(error))
  except av.error.FFmpegError as error:
    return _rejected(source, "ingest", f"cannot be opened: {error.strerror}")
  is_broken = found.errors or found.damaged or not found.num_frames
  if is_broken and ingest.is_encrypted(local):
    return _rejected(source, "ingest", "the video is encrypted", 0, found.frames_expected)
  if not found.num_frames:
    reason = found.errors[0] if found.errors else "no frame can be decoded"
    return _rejected(source, "ingest", reason, 0, found.frames_expected)
  reject = None
  if found.errors:
    reason = f"decoding stops or stumbles: {'; '.join(dict.fromkeys(found.errors))}"
    reject = tables.Reject(source, "cut", reason, found.num_frames, found.frames_expected)
  rows, hashes = [], {}
  if reject is None or config.ingest.keep_intact_part:
    copies = config.encode.copy and found.copyable
    for shot in cut.find_shots(found, config.cut, alive):
      alive()
      shot = cut.snapped(shot, found) if copies else shot
      row = _clip(shot, found, source, sha256, config, alive)
      rows.append(row)
      hashes[row.clip_id] = _hash(found.tiny[row.start_frame : row.end_frame])
  return Analysis(
    source=source,
    clips=tuple(rows),
    hashes=hashes,
    reject=reject,
    seconds=found.end_s,
    strip=_strip(found),
    curve=_curve(found),
  )


def _slow(local: str, min_speed: float, alive: Callable[[], None]) -> str:
  """Why a file is turned away unread; "" if it is not."""
  speed = None
  if min_speed:
    with contextlib.suppress(av.error.FFmpegError):  # the whole pass says better what is broken
      speed = motion_vectors.speed(local, alive)
  if speed is None or speed >= min_speed:
    return ""
  return f"nothing moves: motion vectors of {speed:.3g} pixels per second, see min_vector_speed"


def _clip(
  shot: cut.Shot,
  found: signals.Signals,
  source: str,
  sha256: str,
  config: config_lib.CurateConfig,
  alive: Callable[[], None],
) -> tables.Clip:
  times_s = np.append(found.times_s, found.end_s)
  start_s, end_s = float(times_s[shot.clip_start]), float(times_s[shot.clip_end])
  scores = flow.motion_scores(found.tiny, found.times_s, start_s, end_s, alive)
  damaged = sum(shot.clip_start <= i < shot.clip_end for i in found.damaged)
  if damaged:
    scores["damaged_frames"] = float(damaged)
  max_fps = math.inf if config.encode.copy and found.copyable else config.encode.max_fps
  stored_s = encode.thinned(found.times_s[shot.clip_start : shot.clip_end], max_fps)
  return tables.Clip(
    clip_id=tables.clip_id(source, sha256, shot.clip_start, shot.clip_end),
    source=source,
    source_sha256=sha256,
    cut_start_frame=shot.start,
    cut_end_frame=shot.end,
    start_frame=shot.clip_start,
    end_frame=shot.clip_end,
    start_time_s=start_s,
    end_time_s=end_s,
    start_boundary=shot.start_boundary,
    end_boundary=shot.end_boundary,
    fps=encode.mean_fps(found.times_s[shot.clip_start : shot.clip_end][stored_s], found.fps),
    source_fps=found.fps,
    width=found.width,
    height=found.height,
    rotation=found.rotation,
    motion_score=scores.pop("motion_score", None),
    scores=scores,
  )


def _hash(tiny_THWC: np.ndarray) -> str:
  """Difference hash of three frames: 8 x 8 comparisons of neighbours each."""
  bits = []
  for point in _HASH_POINTS if len(tiny_THWC) else ():
    frame_HWC = tiny_THWC[min(int(point * len(tiny_THWC)), len(tiny_THWC) - 1)]
    gray_HW = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
    gray_HW = cv2.resize(gray_HW, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits.append((gray_HW[:, 1:] > gray_HW[:, :-1] + 1).ravel())
  return np.packbits(np.concatenate(bits)).tobytes().hex() if bits else ""


def _strip(found: signals.Signals) -> tuple[tuple[float, str], ...]:
  step = max(1, -(-len(found.strip) // _STRIP_FRAMES))
  strip = []
  for time_s, frame_HWC in found.strip[::step]:
    bgr_HWC = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, 70])
    strip.append((round(time_s, 3), base64.b64encode(jpeg.tobytes()).decode()))
  return tuple(strip)


def _curve(found: signals.Signals) -> tuple[float, ...]:
  count = min(found.num_frames, _CURVE_POINTS)
  points = np.zeros(count)
  places = np.minimum(found.times_s / found.end_s * count, count - 1).astype(int)
  np.maximum.at(points, places, found.difference)
  return tuple(points.round(2).tolist())


def _rejected(
  source: str, stage: str, error: str, decoded: int = 0, expected: int | None = None
) -> Analysis:
  return Analysis(source, reject=tables.Reject(source, stage, error, decoded, expected))


def _from_json(values: dict[str, Any]) -> Analysis:
  reject = values["reject"]
  return Analysis(
    source=values["source"],
    clips=tuple(tables.clip_from_json(c) for c in values["clips"]),
    hashes=values["hashes"],
    reject=tables.Reject(**reject) if reject else None,
    seconds=values["seconds"],
    strip=tuple((time_s, jpeg) for time_s, jpeg in values["strip"]),
    curve=tuple(values["curve"]),
    cpu_s=values["cpu_s"],
  )
