"""Processor time of curation beside the same steps chained from other tools, and its memory.

  python -m benchmarks.curation_speed --videos=DIR [--peers] [--rounds=3] [--hours=2]

Files are those with a shorter side of 480 pixels or so. Everything runs on one core in turn, round
after round; what is reported are medians of ratios within a round. With --peers: PySceneDetect in
three passes (native rate, 8 and 2 fps), OpenCV for flow and frames, RapidOCR, and one ffmpeg for
each clip with our settings (`pip install --no-deps imageio-ffmpeg`; PySceneDetect is among the
packages of the tests). RapidOCR enlarges frames to 736 lines as it comes; it is also timed on
frames of the size that we look at, and the chain with either, and with no look at text at all.

--hours makes a film of so many hours of 640 x 360 and reads it in a process of its own, for its
memory.
"""

from collections.abc import Iterator, Sequence
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app, flags
import av
import cv2
import numpy as np

from data_pipelines import analyse, config, encode, look, signals, tables
from vidjax.data import video

_VIDEOS = flags.DEFINE_string("videos", None, "Folder of videos.", required=True)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "How often everything is done.")
_PEERS = flags.DEFINE_bool("peers", False, "Also the chain of other tools.")
_HOURS = flags.DEFINE_float("hours", 0.0, "Length of the film for memory; 0 for none.")

CONFIG = config.CurateConfig()
_FLOW_FPS = 2.0
_SCENE_RATES = (None, 8.0, 2.0)


def main(_: list[str]) -> None:
  if _HOURS.value:
    print(memory(_HOURS.value))
  paths = [str(p) for p in sorted(pathlib.Path(_VIDEOS.value).iterdir()) if _is_sd(p)]
  print(f"{len(paths)} files: {', '.join(pathlib.Path(p).name for p in paths)}")
  clips = {path: _clips(path) for path in paths}
  times: dict[str, list[float]] = {}
  for _ in range(_ROUNDS.value):
    for name, step in steps().items():
      began = _cpu_s()
      for path in paths:
        step(path, clips[path])
      times.setdefault(name, []).append(_cpu_s() - began)
  print(report(times))


def steps() -> dict[str, Any]:
  """Name -> what is timed, of (path, clips)."""
  found = {
    "decode": _decode,
    "cuts, flow and key frames": lambda path, _: _analyse(path),
    "text on three frames": lambda path, clips: look.look(path, clips, CONFIG.look, 0),
    "encode": _encode,
  }
  if _PEERS.value:
    found |= {
      "PySceneDetect, three passes": _scenes,
      "OpenCV flow": _flow,
      "RapidOCR on three frames, as it comes": _ocr,
      "RapidOCR on three frames, our size": _ocr_at_our_size,
      "ffmpeg": _ffmpeg,
    }
  return found


def report(times: dict[str, list[float]]) -> str:
  """Tables of medians and of ratios."""
  lines = ["| Step | Core seconds | Times the decode |", "| --- | --- | --- |"]
  for name, values in times.items():
    ratio = statistics.median(v / d for v, d in zip(values, times["decode"], strict=True))
    lines.append(f"| {name} | {statistics.median(values):.2f} | {ratio:.2f} |")
  if _PEERS.value:
    lines.append("\nThe chain of other tools takes as many times as long as ours (extremes):\n")
    lines += [f"- {name}: {ratios(times, *sides)}" for name, sides in CHAINS.items()]
  return "\n".join(lines)


_OURS = ("cuts, flow and key frames", "encode")
_THEIRS = ("PySceneDetect, three passes", "OpenCV flow", "ffmpeg")
_OUR_TEXT = "text on three frames"
# What is compared -> our steps, and theirs.
CHAINS = {
  "cuts and flow": (_OURS[:1], _THEIRS[:2]),
  "without text": (_OURS, _THEIRS),
  "with text, frames in our size": (
    (*_OURS, _OUR_TEXT),
    (*_THEIRS, "RapidOCR on three frames, our size"),
  ),
  "with text, RapidOCR as it comes": (
    (*_OURS, _OUR_TEXT),
    (*_THEIRS, "RapidOCR on three frames, as it comes"),
  ),
}


def ratios(times: dict[str, list[float]], ours: Sequence[str], theirs: Sequence[str]) -> str:
  """Median and extremes of theirs over ours, round by round."""
  of_rounds = [
    sum(times[name][i] for name in theirs) / sum(times[name][i] for name in ours)
    for i in range(len(times["decode"]))
  ]
  median = statistics.median(of_rounds)
  return f"**{median:.2f}** ({min(of_rounds):.2f} to {max(of_rounds):.2f})"


def _is_sd(path: pathlib.Path) -> bool:
  try:
    info = video.probe(path)
  except (OSError, ValueError):
    return False
  return 360 <= min(info.width, info.height) <= 576 and info.duration_s >= 8


def _analyse(path: str) -> analyse.Analysis:
  return analyse._analyse_local(path, path, "", CONFIG, lambda: None)


def _clips(path: str) -> list[tables.Clip]:
  return [clip for clip in _analyse(path).clips if clip.seconds >= CONFIG.select.min_seconds]


def _decode(path: str, _: Any) -> None:
  with av.open(path) as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count, stream.codec_context.thread_type = 1, "NONE"
    for _frame in container.decode(stream):
      pass


def _encode(path: str, clips: list[tables.Clip]) -> None:
  for _ in encode.encode_source(path, clips, CONFIG.encode):
    pass


def _scenes(path: str, _: Any) -> None:
  import scenedetect

  for rate in _SCENE_RATES:
    stream = scenedetect.open_video(path)
    manager = scenedetect.SceneManager()
    manager.add_detector(scenedetect.ContentDetector())
    skip = 0 if rate is None else max(round(float(stream.frame_rate) / rate) - 1, 0)
    manager.detect_scenes(stream, frame_skip=skip)


def _flow(path: str, _: Any) -> None:
  capture = cv2.VideoCapture(path)
  rate, previous, due_s = capture.get(cv2.CAP_PROP_FPS), None, 0.0
  number = 0
  while capture.grab():
    if number / rate >= due_s:
      due_s += 1 / _FLOW_FPS
      _, frame = capture.retrieve()
      scale = 16 / min(frame.shape[:2])
      size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
      gray = cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
      if previous is not None:
        signals.farneback(previous, gray)
      previous = gray
    number += 1


def _ocr(path: str, clips: list[tables.Clip]) -> None:
  import rapidocr

  engine = rapidocr.RapidOCR(params={"Global.log_level": "error"})
  for frame in _three_frames(path, clips):
    engine(frame, use_det=True, use_cls=False, use_rec=False)


def _ocr_at_our_size(path: str, clips: list[tables.Clip]) -> None:
  import rapidocr

  as_they_are = {"Det.limit_type": "min", "Det.limit_side_len": 32}
  engine = rapidocr.RapidOCR(params={"Global.log_level": "error"} | as_they_are)
  for frame in _three_frames(path, clips):
    scale = CONFIG.look.text_short_side / min(frame.shape[:2])
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    engine(small, use_det=True, use_cls=False, use_rec=False)


def _three_frames(path: str, clips: list[tables.Clip]) -> Iterator[np.ndarray]:
  capture = cv2.VideoCapture(path)
  for clip in clips:
    middle = (clip.start_frame + clip.end_frame) // 2
    for frame_number in (clip.start_frame, middle, clip.end_frame - 1):
      capture.set(cv2.CAP_PROP_POS_FRAMES, frame_number)
      there, frame = capture.read()
      if there:
        yield frame


def _ffmpeg(path: str, clips: list[tables.Clip]) -> None:
  import imageio_ffmpeg

  with tempfile.TemporaryDirectory() as folder:
    for clip in clips:
      subprocess.run(
        [
          *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-ss", str(clip.start_time_s)),
          *(
            "-i",
            path,
            "-t",
            str(clip.seconds),
            "-an",
            "-vf",
            "scale='if(gt(iw,ih),-2,256)':'if(gt(iw,ih),256,-2)'",
          ),
          *("-c:v", "libx264", "-preset", CONFIG.encode.preset, "-crf", str(CONFIG.encode.crf)),
          *("-g", str(round(clip.fps)), f"{folder}/{clip.clip_id}.mp4"),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
      )


def _cpu_s() -> float:
  """Of this process and of those that it has waited for."""
  return sum(
    usage.ru_utime + usage.ru_stime
    for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
  )


def memory(hours: float) -> str:
  """Largest memory of a process that analyses a film."""
  with tempfile.TemporaryDirectory() as folder:
    path = f"{folder}/film.mp4"
    frames = write_film(path, hours)
    script = (
      "import resource, sys\n"
      "from benchmarks import curation_speed as speed\n"
      "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
      "clips = speed._analyse(sys.argv[1]).clips\n"
      "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
      "print(len(clips), before // 1024, after // 1024)\n"
    )
    began = time.monotonic()
    done = subprocess.run(
      [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    clips, before, after = done.stdout.split()
    return (
      f"{hours:g} hours ({frames} frames, {clips} clips): {after} MiB at most, {before} MiB of it "
      f"before the file was opened; {time.monotonic() - began:.0f} s"
    )


def write_film(path: str, hours: float) -> int:
  """One minute of shots, again and again, as one H.264 stream; the number of frames."""
  rng = np.random.default_rng(0)
  with tempfile.TemporaryDirectory() as folder:
    minute = f"{folder}/minute.mp4"
    with av.open(minute, "w") as container:
      stream = container.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
      stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
      for shot in range(10):
        knots = rng.integers(0, 255, (7, 24, 3)).astype(np.uint8)
        wide = cv2.resize(knots, (1200, 360), interpolation=cv2.INTER_CUBIC)
        for i in range(144):
          x = 2 * i + shot
          picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[:, x : x + 640]), "rgb24")
          container.mux(stream.encode(picture))
      container.mux(stream.encode(None))
    with av.open(path, "w") as film, av.open(minute) as source:
      template = source.streams.video[0]
      out = film.add_stream_from_template(template)
      packets = [packet for packet in source.demux(template) if packet.dts is not None]
      length = packets[-1].dts + packets[-1].duration - packets[0].dts
      data = [(bytes(p), p.pts, p.dts, p.is_keyframe, p.duration) for p in packets]
      repeats = round(60 * hours)
      for turn in range(repeats):
        for content, pts, dts, key, duration in data:
          packet = av.Packet(content)
          packet.pts, packet.dts = pts + turn * length, dts + turn * length
          packet.duration, packet.time_base, packet.is_keyframe = duration, template.time_base, key
          packet.stream = out
          film.mux(packet)
  return repeats * len(data)


if __name__ == "__main__":
  app.run(main)
