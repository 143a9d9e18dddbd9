"""Raising the frame rate of a clip, with a model that is known: it fades from frame to frame."""

import numpy as np
import pytest

from vidjax import frame_rate, request_files
from vidjax.data import mp4
from vidjax.requests import Request

K, T, H, W = 6, 5, 16, 24


class Fading:
  """Stands for a pipeline; keeps what it is asked."""

  def __init__(self):
    self.requests = []

  def generate(self, request):
    self.requests.append(request)
    share = np.linspace(0, 1, T, dtype=np.float32).reshape(1, T, 1, 1, 1)
    first, last = request.images_NHWC[:, None], request.last_images_NHWC[:, None]
    return first + share * (last - first)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_given_frames_are_where_they_belong_and_none_is_there_twice(batch_size):
  frames = np.random.default_rng(0).uniform(0, 1, (K, H, W, 3)).astype(np.float32)
  model = Fading()
  made = frame_rate.raised(model.generate, Request(steps=3), frames, seed=7, batch_size=batch_size)
  assert made.shape == ((K - 1) * (T - 1) + 1, H, W, 3)
  np.testing.assert_allclose(made[:: T - 1], frames, atol=1e-6)
  for t in range(len(made)):
    pair, step = divmod(t, T - 1)
    after = frames[min(pair + 1, K - 1)]
    expected = frames[pair] + step / (T - 1) * (after - frames[pair])
    np.testing.assert_allclose(made[t], expected, atol=1e-6)
  assert [seed for request in model.requests for seed in request.seeds] == [7, 8, 9, 10, 11]
  assert max(len(request.seeds) for request in model.requests) == min(batch_size, K - 1)
  assert {request.steps for request in model.requests} == {3}


def test_a_clip_is_read_whole_in_the_size_of_the_model(tmp_path):
  levels = np.linspace(20, 230, K).astype(np.uint8)
  video = np.broadcast_to(levels[:, None, None, None], (K, 2 * H, 2 * W, 3))
  mp4.write_mp4(tmp_path / "x.mp4", np.ascontiguousarray(video), 6.0)
  frames, fps = request_files.read_clip("video", str(tmp_path / "x.mp4"), H, W)
  assert frames.shape == (K, H, W, 3)
  assert frames.dtype == np.float32
  assert fps == pytest.approx(6.0)
  np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)) * 255, levels, atol=4)


def test_what_is_no_clip_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"--video=nowhere.mp4: there is no such file"):
    request_files.read_clip("video", "nowhere.mp4", H, W)
  (tmp_path / "x.mp4").write_text("text")
  with pytest.raises(ValueError, match=r"--video=.*x.mp4 cannot be read as a video"):
    request_files.read_clip("video", str(tmp_path / "x.mp4"), H, W)
  mp4.write_mp4(tmp_path / "one.mp4", np.zeros((1, H, W, 3), np.uint8), 6.0)
  with pytest.raises(ValueError, match=r"one.mp4 is a single frame"):
    request_files.read_clip("video", str(tmp_path / "one.mp4"), H, W)
