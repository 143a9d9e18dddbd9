"""The protocol `demo`, on a folder of clips and on a pipeline that only pretends to be a model."""

import dataclasses
import types

import av
import numpy as np
import pytest

from tests import clip_shards
from vidjax import config as configs
from vidjax import heldout, render, storage
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
  assert (content["protocol"], content["n_real"], content["n_fake"]) == ("demo", 12, 6)
  assert content["decoder"].startswith("PyAV")
  with np.load(tmp_path / "out" / "features.npz") as features:
    assert features["model/motion"].shape == (6, T - 1, 32)
    assert features["real/appearance"].shape == (12, T, 32)


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


class StubPipeline:
  """Answers a request with its first frames, panned by two pixels a frame; untrained: noise."""

  made: list = []  # noqa: RUF012  (all pipelines of a test)

  def __init__(self, config, params, origin):
    self.config, self.origin, self.weights = config, origin, "trained"
    self.requests = {"trained": [], "untrained": []}
    StubPipeline.made.append(self)

  def load(self, params):
    self.weights = params

  def generate(self, request):
    self.requests[self.weights].append(request)
    if self.weights == "untrained":
      rng = np.random.default_rng(request.seeds[0])
      return rng.random((len(request.seeds), T, H, W, 3), np.float32)
    return np.stack([np.roll(request.images_NHWC, -2 * t, axis=2) for t in range(T)], axis=1)

  def reconstruct(self, video_NTHWC):
    assert self.weights == "trained"
    return video_NTHWC


@pytest.fixture
def stub(monkeypatch, shards):
  """Stands for the model; returns what `pretrained.load` will give."""
  StubPipeline.made = []
  data = configs.DataConfig(path="elsewhere", num_frames=T, fps=FPS, height=H, width=W)
  conditioning = configs.ConditioningConfig(mode="image_to_video", motion_bucket_scale=16.0)
  config = configs.TrainConfig(total_samples=1, data=data, conditioning=conditioning)
  loaded = types.SimpleNamespace(config=config, params={"w": np.ones(3)}, origin="model, step 1")
  monkeypatch.setattr(heldout.pretrained, "load", lambda model, params: loaded)
  monkeypatch.setattr(heldout.pipelines, "Pipeline", StubPipeline)
  monkeypatch.setattr(heldout.pipelines, "fresh_weights", lambda config: "untrained")
  return loaded


def evaluate(shards, tmp_path, samples=None):
  out = str(tmp_path / "out")
  result = heldout.evaluate_model(str(shards), "model", "ema", out, samples)
  if result is not None:
    storage.write_json(tmp_path / "out" / "result.json", result.to_json("v"))
  return result


def test_a_model_is_asked_with_the_windows_own_frames(stub, shards, tmp_path):
  result = evaluate(shards, tmp_path)
  (pipe,) = StubPipeline.made  # one, so that nothing is compiled twice
  *requests, examples = pipe.requests["trained"]
  assert [len(request.seeds) for request in requests] == [4, 4, 4]
  assert len(examples.seeds) == 4  # of the training split, for people to look at
  for ours, theirs in zip(requests, pipe.requests["untrained"], strict=True):
    np.testing.assert_array_equal(ours.images_NHWC, theirs.images_NHWC)
    assert ours.seeds == theirs.seeds
  assert sorted(seed for request in requests for seed in request.seeds) == list(range(12))
  assert set(requests[0].motion_bucket_id) == {16.0}  # motion score 1, scale 16
  assert set(requests[0].prompts) == {"a pan"}
  values = {name: estimate.value for name, estimate in result.metrics.items()}
  assert values["model/motion"] < 0.5 * values["first_frame/motion"]
  assert values["model/distance"] < 0.2 * values["untrained/distance"]
  assert values["first_frame/appearance"] < values["mean_frame/appearance"]
  assert list(result.weights) == ["model, step 1"]


def test_sample_files_for_people(stub, shards, tmp_path):
  evaluate(shards, tmp_path, str(tmp_path / "samples"))
  names = sorted(path.name for path in (tmp_path / "samples").iterdir())
  kinds = (".json", "_generated.mp4", "_real.mp4", "_reconstructed.mp4")
  assert names == [*(f"{i:02d}{kind}" for i in range(8) for kind in kinds), "contact_sheet.png"]
  for number, split in (("00", "holdout"), ("04", "train")):
    note = storage.read_json(tmp_path / "samples" / f"{number}.json")
    assert note["split"] == split
    assert note["clip_id"].startswith(split)
  with av.open(str(tmp_path / "samples" / "00_generated.mp4")) as container:
    assert len(list(container.decode(video=0))) == T


def test_the_same_is_not_evaluated_twice_but_other_weights_are(stub, shards, tmp_path):
  assert evaluate(shards, tmp_path) is not None
  assert evaluate(shards, tmp_path) is None
  assert len(StubPipeline.made) == 1
  stub.params = {"w": np.zeros(3)}
  assert evaluate(shards, tmp_path) is not None
  # Stopped before the result is written: nothing old is taken for the new model's.
  stub.params = {"w": np.full(3, 2.0)}
  heldout.evaluate_model(str(shards), "model", "ema", str(tmp_path / "out"), None)
  assert not (tmp_path / "out" / "result.json").exists()


def test_image_models_are_refused(stub, shards, tmp_path):
  data = dataclasses.replace(stub.config.data, num_frames=1)
  stub.config = dataclasses.replace(stub.config, data=data)
  with pytest.raises(ValueError, match="make no video to compare"):
    evaluate(shards, tmp_path)
