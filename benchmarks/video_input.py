"""Windows of video per second on one core: ours beside other readers, on the same files.

  python -m benchmarks.video_input --footage=FOLDER --peers_python=PYTHON

A window is 16 frames at 4 fps from a random start, shown at 256x384: scaled to cover, centre cut
out, which is what a training sample costs. Makes twelve-second clips of the named footage as H.264
of 720 and 480 lines, and as `vidjax curate` stores them (256 lines). Every reader sees the same
windows of the same bytes, in turns, on one core with one thread; the table has the windows per
second of the median window, and how far each reader's frames are from ours.

decord, torchcodec and OpenCV are run by another Python, where they are installed; whatever that one
lacks is left out. torchcodec brings no FFmpeg: --peers_libraries is a folder with its shared
libraries, for LD_LIBRARY_PATH. Needs Linux.
"""

import dataclasses
import fractions
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app, flags
import av
from av.video.reformatter import VideoReformatter
import numpy as np

from data_pipelines import config as curation
from vidjax import storage
from vidjax.data import mp4, transforms, upright, video, windows

_FOOTAGE = flags.DEFINE_string("footage", None, "Folder of the footage.", required=True)
_PEERS_PYTHON = flags.DEFINE_string("peers_python", "", "A Python that has other readers.")
_PEERS_LIBRARIES = flags.DEFINE_string("peers_libraries", "", "Folder of FFmpeg's libraries.")
_WINDOWS = flags.DEFINE_integer("windows", 8, "Windows of each clip.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Times that each window is read by each reader.")
_CORE = flags.DEFINE_integer("core", 0, "The core.")

_HEIGHT, _WIDTH = 256, 384
_GRID = windows.WindowGrid(16, 4.0)
_FPS, _FRAMES = 25, 300
# File, first frame, number of frames from there on; the rest of 300 are the same backwards.
_CLIPS = {
  "bunny": ("big_buck_bunny_0_30.webm", 378, 300),
  "flower": ("flower.webm", 0, 150),
  "basketball": ("basketball.mp4", 0, 300),
}
# Name -> lines and columns, frames from key frame to key frame.
_SOURCES = {
  "720p, GOP 25": (720, 1280, 25),
  "720p, GOP 250": (720, 1280, 250),
  "480p, GOP 25": (480, 854, 25),
}
_RUNG = "256p shard"
_PEERS = ("decord", "torchcodec", "torchcodec_resize", "opencv")


def frames_of(name: str, height: int, width: int) -> list[np.ndarray]:
  """The 300 frames of a clip at a size."""
  file, first, count = _CLIPS[name]
  frames = []
  with video.FrameReader(f"{_FOOTAGE.value}/{file}") as reader:
    for frame in reader:
      if first <= frame.index < first + count:
        frames.append(upright.rgb(frame.picture, reader.stream, (width, height)))
  assert len(frames) == count, f"{file} has {len(frames)} frames from {first} on"
  return (frames + frames[::-1])[:_FRAMES]


def encode_source(frames: list[np.ndarray], path: str, gop: int) -> None:
  """H.264 as it comes from the net: x264's defaults, crf 20."""
  with av.open(path, "w") as container:
    stream: Any = container.add_stream("libx264", rate=_FPS, options={"crf": "20"})
    stream.height, stream.width = frames[0].shape[:2]
    stream.pix_fmt, stream.gop_size = "yuv420p", gop
    for i, frame_HWC in enumerate(frames):
      picture = av.VideoFrame.from_ndarray(frame_HWC, "rgb24")
      picture.pts, picture.time_base = i, fractions.Fraction(1, _FPS)
      container.mux(stream.encode(picture))
    container.mux(stream.encode(None))


def make_files(folder: str) -> dict[str, list[str]]:
  """Name of the kind -> files."""
  stored = curation.EncodeConfig()
  files: dict[str, list[str]] = {}
  for clip in _CLIPS:
    for kind, (height, width, gop) in _SOURCES.items():
      path = f"{folder}/{clip}_{height}_{gop}.mp4"
      encode_source(frames_of(clip, height, width), path, gop)
      files.setdefault(kind, []).append(path)
    path = f"{folder}/{clip}_shard.mp4"
    data = mp4.encode_mp4(
      frames_of(clip, 256, 456),
      np.arange(_FRAMES) / _FPS,
      crf=stored.crf,
      preset=stored.preset,
      key_frame_every_s=stored.key_frame_every_s,
    )
    storage.write_bytes(path, data)
    files.setdefault(_RUNG, []).append(path)
  return files


def read_ours(data: bytes, times_s: np.ndarray) -> np.ndarray:
  frames = video.read_frames_at(data, times_s, (_HEIGHT, _WIDTH))
  return transforms.cover_crop(frames, _HEIGHT, _WIDTH)


def read_plain(data: bytes, times_s: np.ndarray) -> np.ndarray:
  """The best plain loop: seek, decode everything, scale and convert what is shown in one pass."""
  stamps_s, frames, shown = list(times_s + 1e-4), [], None
  with av.open(io.BytesIO(data), "r") as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count, stream.codec_context.thread_type = 1, "NONE"
    reformatter = VideoReformatter()
    height, width = transforms.cover_size((stream.height, stream.width), (_HEIGHT, _WIDTH))

    def take(picture: Any) -> np.ndarray:
      small = reformatter.reformat(picture, width, height, "rgb24", interpolation="AREA", threads=1)
      return small.to_ndarray()

    container.seek(int(times_s[0] / stream.time_base), stream=stream)
    for picture in container.decode(stream):
      while stamps_s and shown is not None and picture.time > stamps_s[0]:
        frames.append(take(shown))
        stamps_s.pop(0)
      if not stamps_s:
        break
      shown = picture
  frames += [take(shown)] * len(stamps_s)
  return transforms.cover_crop(np.stack(frames), _HEIGHT, _WIDTH)


@dataclasses.dataclass
class Peer:
  """A reader in another process, which measures itself."""

  name: str
  process: Any

  def read(self, path: str, times_s: np.ndarray, out: str) -> float:
    """Reads one window into `out` (an .npy file); seconds of the reading alone."""
    info = video.probe(path)
    cover = transforms.cover_size((info.height, info.width), (_HEIGHT, _WIDTH))
    request = {"path": path, "times_s": list(times_s), "cover": cover, "out": out}
    self.process.stdin.write(json.dumps(request) + "\n")
    self.process.stdin.flush()
    return float(self.process.stdout.readline())


def start_peers() -> dict[str, Peer]:
  peers = {}
  environment = dict(os.environ)
  if _PEERS_LIBRARIES.value:
    environment["LD_LIBRARY_PATH"] = _PEERS_LIBRARIES.value
  script = str(storage.Path(__file__).parent / "video_peers.py")
  for name in _PEERS if _PEERS_PYTHON.value else ():
    command = [_PEERS_PYTHON.value, script, name, str(_HEIGHT), str(_WIDTH)]
    process = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    version = process.stdout.readline().strip()
    if version:
      peers[f"{name} {version}"] = Peer(name, process)
    else:
      print(f"{name} does not start there", file=sys.stderr)
  return peers


def psnr(a: np.ndarray, b: np.ndarray) -> float:
  error = np.square(a.astype(np.float32) - b).mean()
  return float(10 * np.log10(255**2 / max(error, 1e-3)))


def main(_: list[str]) -> None:
  os.sched_setaffinity(0, {_CORE.value})
  with tempfile.TemporaryDirectory() as folder:
    files = make_files(folder)
    peers = start_peers()
    here = {"ours": read_ours, f"plain PyAV {av.__version__}": read_plain}
    seconds = {(kind, name): [] for kind in files for name in (*here, *peers)}
    likeness = {key: [] for key in seconds}
    starts_s = np.random.default_rng(0).uniform(0, _FRAMES / _FPS - _GRID.span_s, _WINDOWS.value)
    for kind in [*files] * _ROUNDS.value:
      for path in files[kind]:
        data = storage.read_bytes(path)
        for start_s in starts_s:
          times_s = start_s + np.arange(_GRID.num_frames) / _GRID.fps
          shown = {}
          for name, read in here.items():
            began = time.perf_counter()
            shown[name] = read(data, times_s)
            seconds[kind, name].append(time.perf_counter() - began)
          for name, peer in peers.items():
            out = f"{folder}/out.npy"
            seconds[kind, name].append(peer.read(path, times_s, out))
            shown[name] = np.load(out)
          for name, frames in shown.items():
            likeness[kind, name].append(psnr(frames, shown["ours"]))
    report(files, [*here, *peers], seconds, likeness)
    for peer in peers.values():
      peer.process.stdin.close()
      peer.process.wait()


def report(
  files: dict[str, list[str]],
  names: list[str],
  seconds: dict[tuple[str, str], list[float]],
  likeness: dict[tuple[str, str], list[float]],
) -> None:
  rate = {key: 1 / float(np.median(values)) for key, values in seconds.items()}
  print(f"\n| windows per second | {' | '.join(files)} |\n|---|{'---|' * len(files)}")
  for name in names:
    cells = [
      f"{rate[kind, name]:.1f} ({rate[kind, name] / rate[kind, 'ours']:.2f})" for kind in files
    ]
    print(f"| {name} | {' | '.join(cells)} |")
  print(f"\n| median, worst PSNR to ours, dB | {' | '.join(files)} |\n|---|{'---|' * len(files)}")
  for name in names[1:]:
    found = [likeness[kind, name] for kind in files]
    print(f"| {name} | {' | '.join(f'{np.median(v):.1f}, {min(v):.1f}' for v in found)} |")
  print(f"\n| | {' | '.join(files)} |\n|---|{'---|' * len(files)}")
  sizes = [
    sum(len(storage.read_bytes(path)) for path in paths) / len(paths) / 1e3
    for paths in files.values()
  ]
  print(f"| kB of a 12 s clip, mean | {' | '.join(f'{size:.0f}' for size in sizes)} |")
  cells = [f"{rate[_RUNG, 'ours'] / rate[kind, 'ours']:.1f}" for kind in files]
  print(f"| ours on the shard against ours here | {' | '.join(cells)} |")


if __name__ == "__main__":
  app.run(main)
