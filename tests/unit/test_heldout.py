"""The protocol `demo` on a folder of clips: real ones score near the floor, frozen ones do not."""

import numpy as np
import pytest

from tests import clip_shards
from vidjax import heldout, render
from vidjax.data import mp4, schema

T, FPS, H, W = 8, 4.0, 32, 48


def drifting(seed, frames, speed):
  """A smooth random scene that a camera pans over, (frames, H, W, 3) uint8."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (H // 8, 32, 3), np.uint8)
  scene = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
  return np.stack([scene[:, t * speed : t * speed + W] for t in range(frames)])


def record(number, split):
  frames = drifting(100 * (split == "train") + number, 24, 2)
  times = np.arange(24) / FPS
  return schema.ClipRecord(
    clip_id=f"{split}{number}",
    source=f"{split}{number}.mp4",
    video=mp4.encode_mp4(frames, times, crf=5, preset="ultrafast"),
    num_frames=24,
    fps=FPS,
    width=W,
    height=H,
    start_time_s=0.0,
    end_time_s=6.0,
    motion_score=1.0,
    captions_json=schema.to_json({"sidecar": "a pan"}),
  )


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
  root = tmp_path_factory.mktemp("data")
  for split in schema.SPLITS:
    clip_shards.write_shards(root, [record(i, split) for i in range(6)], split)
  return root / "shards"


def write_fakes(folder, speed):
  for i in range(6):
    render.write_video(folder / f"{i}.mp4", drifting(i, T, speed), FPS)
  return str(folder)


def test_given_clips_are_ranked(shards, tmp_path):
  values = {}
  for name, speed in {"moving": 2, "slow": 1, "frozen": 0}.items():
    fake = write_fakes(tmp_path / name, speed)
    result = heldout.evaluate_given(str(shards), fake, str(tmp_path / "out"))
    values[name] = {key: estimate.value for key, estimate in result.metrics.items()}
  motion = [values[name]["model/motion"] for name in ("moving", "slow", "frozen")]
  assert motion == sorted(motion)
  assert values["moving"]["model/distance"] < 0.2 * values["moving"]["mean_frame/distance"]
  assert values["frozen"]["model/frame_difference"] < 0.5
  assert values["moving"]["first_frame/frame_difference"] == 0
  content = result.to_json("v")
  assert (content["protocol"], content["n_real"], content["n_fake"]) == ("demo", 16, 6)
  assert content["decoder"].startswith("PyAV")
  with np.load(tmp_path / "out" / "features.npz") as features:
    assert features["model/motion"].shape == (6, T - 1, 32)
    assert features["real/appearance"].shape == (16, T, 32)


def test_too_few_or_unequal_clips_are_refused(shards, tmp_path):
  folder = tmp_path / "fakes"
  with pytest.raises(ValueError, match=r"fakes: 0 \.mp4 files there"):
    heldout.evaluate_given(str(shards), str(folder), str(tmp_path))
  render.write_video(folder / "a.mp4", drifting(0, T, 1), FPS)
  render.write_video(folder / "b.mp4", drifting(0, T - 1, 1), FPS)
  with pytest.raises(ValueError, match=r"one shape .* found \(8, .*a\.mp4.*\(7, "):
    heldout.evaluate_given(str(shards), str(folder), str(tmp_path))
  (folder / "b.mp4").write_bytes(b"nothing")
  with pytest.raises(ValueError, match=r"b\.mp4 cannot be decoded"):
    heldout.evaluate_given(str(shards), str(folder), str(tmp_path))
