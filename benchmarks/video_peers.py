"""The other readers of `benchmarks.video_input`: a process of its own, which needs none of vidjax.

  PYTHON benchmarks/video_peers.py READER HEIGHT WIDTH

Says the reader's version, then answers each line of JSON on its input (path of a file, times in
seconds, size that covers the view, where to write the frames) with the seconds that reading took.
The file is opened anew each time, as for a sample of a shuffled data set.
"""

import json
import sys
import time

import cv2
import numpy as np


def cover_crop(frames, cover: tuple[int, int], height: int, width: int) -> np.ndarray:
  """Scales by area to `cover` (height, width) where that is not done yet, takes the centre."""
  top, left = (cover[0] - height) // 2, (cover[1] - width) // 2
  result = np.empty((len(frames), height, width, 3), np.uint8)
  for i, frame in enumerate(frames):
    if frame.shape[:2] != cover:
      frame = cv2.resize(frame, cover[::-1], interpolation=cv2.INTER_AREA)
    result[i] = frame[top : top + height, left : left + width]
  return result


def make_decord():
  """Scales inside, which takes half the time of scaling its frames with OpenCV."""
  import decord  # pyright: ignore[reportMissingImports]

  def read(path: str, times_s: list[float], cover: tuple[int, int]):
    reader = decord.VideoReader(
      path, ctx=decord.cpu(0), num_threads=1, height=cover[0], width=cover[1]
    )
    begins_s = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]
    picks = np.searchsorted(begins_s, np.asarray(times_s) + 1e-4, side="right") - 1
    return reader.get_batch(np.maximum(picks, 0)).asnumpy()

  return read, decord.__version__


def make_torchcodec(scale: bool = False):
  import torch
  import torchcodec  # pyright: ignore[reportMissingImports]
  from torchcodec import decoders, transforms  # pyright: ignore[reportMissingImports]

  torch.set_num_threads(1)

  def read(path: str, times_s: list[float], cover: tuple[int, int]):
    decoder = decoders.VideoDecoder(
      path,
      num_ffmpeg_threads=1,
      seek_mode="approximate",
      dimension_order="NHWC",
      transforms=[transforms.Resize(cover)] if scale else None,
    )
    end_s = decoder.metadata.end_stream_seconds - 1e-3
    shown = decoder.get_frames_played_at([min(time_s + 1e-4, end_s) for time_s in times_s])
    return shown.data.numpy()

  return read, torchcodec.__version__


def make_torchcodec_resize():
  """Scales inside."""
  return make_torchcodec(scale=True)


def make_opencv():
  def read(path: str, times_s: list[float], cover: tuple[int, int]):
    del cover
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    fps = capture.get(cv2.CAP_PROP_FPS)
    picks = [int((time_s + 1e-4) * fps) for time_s in times_s]
    capture.set(cv2.CAP_PROP_POS_FRAMES, picks[0])
    frames, place = [], picks[0] - 1
    for pick in picks:
      while place < pick:
        assert capture.grab()
        place += 1
      frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return frames

  return read, cv2.__version__


def main() -> None:
  name, height, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
  read, version = globals()[f"make_{name}"]()
  cv2.setNumThreads(1)
  print(version, flush=True)
  for line in sys.stdin:
    request = json.loads(line)
    cover = tuple(request["cover"])
    began = time.perf_counter()
    frames = cover_crop(read(request["path"], request["times_s"], cover), cover, height, width)
    seconds = time.perf_counter() - began
    np.save(request["out"], frames)
    print(seconds, flush=True)


if __name__ == "__main__":
  main()
