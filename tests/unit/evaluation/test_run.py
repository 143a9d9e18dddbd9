"""An evaluation from folders to a result: resumed, refused, and the same however it is fed."""

import dataclasses
import json
import pathlib

import numpy as np
import PIL.Image
import pytest
from tiny_networks import EVERYTHING, FOLDERS, write_clips

from vidjax import render
from vidjax.errors import DataError
from vidjax.evaluation import feature_files, generate, networks, run, sides, store
from vidjax.evaluation.protocol import SizeStep
from vidjax.metrics import frechet

pytestmark = pytest.mark.usefixtures("tiny_networks")


@pytest.fixture
def folders(tmp_path, monkeypatch):
  monkeypatch.setattr(store, "PART", 8)
  write_clips(tmp_path / "real", 21, seed=0)
  write_clips(tmp_path / "fake", 19, seed=1, brightness=20)
  return tmp_path


def job_of(folders, out="out", protocol=FOLDERS, **changes):
  job = run.Job(
    protocol,
    data=str(folders / "real"),
    weights=networks.RANDOM,
    out=str(folders / out),
    fake=str(folders / "fake"),
  )
  return dataclasses.replace(job, **changes)


def result_of(job):
  report = run.run(job)
  assert report is not None
  return json.loads((folder_of(job) / "result.json").read_text())


def folder_of(job):
  return pathlib.Path(job.out)


def test_a_result_has_what_the_documents_say(folders):
  job = job_of(folders)
  content = result_of(job)
  assert (content["n_real"], content["n_fake"]) == (21, 19)
  assert (content["protocol"], content["protocol_hash"]) == ("folders", FOLDERS.hash)
  assert content["protocol_fields"] == json.loads(json.dumps(FOLDERS.as_dict()))
  assert content["decoder"].startswith("NumPy")
  assert content["weights"]["tiny/clips"].startswith("random, ")
  assert content["warnings"][0].startswith("the networks have random weights")
  assert {name.split("/")[0] for name in content["metrics"]} == {
    *("fvd", "fvd_infinity", "fvd_floor", "kvd"),
    *("frame_difference", "temporal_flicker", "static"),
  }
  for metric in content["metrics"].values():
    assert metric["low"] <= metric["value"] <= metric["high"]
  page = (folder_of(job) / "report.html").read_text()
  assert FOLDERS.hash in page
  assert page.count("data:image/webp;base64,") == 16  # of the first part, eight here
  assert run.run(job) is None  # done already


def test_the_distance_is_that_of_the_features(folders):
  job = job_of(folders)
  content = result_of(job)
  out = folder_of(job)
  real, fake = (
    store.Store(out / side, ids).read().arrays["tiny/clips:means"]
    for side, ids in (
      ("real", [f"clip_{i:03d}" for i in range(21)]),
      ("fake", [f"clip_{i:03d}" for i in range(19)]),
    )
  )
  kept = [
    feature_files.read(str(out / "features" / "fvd-tiny-clips" / f"{side}.npz"))
    for side in ("real", "fake")
  ]
  np.testing.assert_array_equal(kept[0], real)
  np.testing.assert_array_equal(kept[1], fake)
  expected = frechet.frechet_distance(real, fake)
  assert content["metrics"]["fvd/tiny-clips"]["value"] == pytest.approx(expected, rel=1e-12)
  clip = np.load(folders / "real" / "clip_004.npy")[:4].astype(np.float32)
  kernel = networks.load(FOLDERS, networks.RANDOM).weights["tiny/clips"].params["kernel"]
  by_hand = clip.mean(axis=(0, 1, 2)) / 64 * kernel[0]
  by_hand += np.abs(np.diff(clip, axis=0)).mean(axis=(0, 1, 2)) / 16 * kernel[1]
  np.testing.assert_allclose(real[4], by_hand, rtol=1e-5)


class Killed(BaseException):
  """The end of a process, as far as a test can have one."""


@pytest.mark.parametrize("batch", [0, 1, 3, 4, 5])
def test_a_run_that_is_killed_ends_in_the_same_result(folders, monkeypatch, batch):
  whole = result_of(job_of(folders))
  done = []
  original = networks.Extractor.__call__

  def until(self, made):
    if len(done) == batch:
      raise Killed
    done.append([clip.id for clip in made])
    return original(self, made)

  monkeypatch.setattr(networks.Extractor, "__call__", until)
  job = job_of(folders, "again")
  with pytest.raises(Killed):
    run.run(job)
  assert not (folder_of(job) / "result.json").exists()
  before = list(done)
  monkeypatch.setattr(
    networks.Extractor,
    "__call__",
    lambda self, made: done.append([c.id for c in made]) or original(self, made),
  )
  assert result_of(job) == whole
  first = {name for ids in before for name in ids}
  # What was written is not made again: only the part under way is.
  assert len(done) - len(before) <= 6 - len(before) + 1
  assert len(first) <= 8 * batch


def test_all_kinds_of_metrics(folders):
  (folders / "fake" / "captions.json").write_text(
    json.dumps({f"clip_{i:03d}": f"text {i % 7}" for i in range(19)})
  )
  content = result_of(job_of(folders, protocol=EVERYTHING))
  names = set(content["metrics"])
  assert {
    *("fvd/tiny-clips", "kvd/tiny-clips", "fid/tiny-pictures", "jedi/tiny-clips"),
    *("is/tiny-clips/all/2split", "clipsim/tiny-pictures", "frame_consistency/tiny-pictures"),
  } <= names
  assert "kid/tiny-pictures" not in names  # not of every frame with every frame
  assert 1 <= content["metrics"]["is/tiny-clips/all/2split"]["value"] <= 3
  assert -1 <= content["metrics"]["clipsim/tiny-pictures"]["value"] <= 1
  assert any("fewer than 10 clips for each of 3 classes" in text for text in content["warnings"])


def test_texts_are_asked_for(folders):
  with pytest.raises(ValueError, match=r"19 clips \(clip_000, .*\) have no text, which CLIPSIM"):
    run.run(job_of(folders, protocol=EVERYTHING))


def test_files_frames_and_arrays_give_the_same_numbers(folders):
  whole = result_of(job_of(folders))
  for kind in ("lossless", "frames"):
    for i in range(19):
      clip = np.load(folders / "fake" / f"clip_{i:03d}.npy")
      if kind == "lossless":
        render.write_video(folders / kind / f"clip_{i:03d}.mkv", clip, 4.0)
        continue
      (folders / kind / f"clip_{i:03d}").mkdir(parents=True)
      for t, frame in enumerate(clip):
        PIL.Image.fromarray(frame).save(folders / kind / f"clip_{i:03d}" / f"{t}.png")
    content = result_of(job_of(folders, f"of_{kind}", fake=str(folders / kind)))
    assert content["metrics"] == whole["metrics"], kind


def test_another_evaluation_is_not_gone_on_with(folders):
  run.run(job_of(folders))
  with pytest.raises(
    ValueError, match=r"out holds features of another evaluation: .*protocol_hash: "
  ):
    run.run(job_of(folders, protocol=dataclasses.replace(FOLDERS, limit=7)))
  write_clips(folders / "fake", 20, seed=2)
  with pytest.raises(ValueError, match=r"another evaluation: fake\.(files|ids): "):
    run.run(job_of(folders))


def test_a_limit_takes_the_same_clips_of_a_larger_one(folders):
  small, large = (
    result_of(job_of(folders, f"limit{n}", protocol=dataclasses.replace(FOLDERS, limit=n)))
    for n in (6, 12)
  )
  assert (small["n_real"], small["n_fake"]) == (6, 6)
  assert (large["n_real"], large["n_fake"]) == (12, 12)
  ids = [set(np.load(folders / f"limit{n}" / "real" / "part-00000.npz")["asked"]) for n in (6, 12)]
  assert ids[0] < ids[1] | set(np.load(folders / "limit12" / "real" / "part-00001.npz")["asked"])


def test_real_features_are_shared(folders, monkeypatch):
  shared = str(folders / "shared")
  first = result_of(job_of(folders, "a", real=shared))
  seen = []
  original = networks.Extractor.__call__
  monkeypatch.setattr(
    networks.Extractor,
    "__call__",
    lambda self, made: seen.append(len(made)) or original(self, made),
  )
  assert result_of(job_of(folders, "b", real=shared))["metrics"] == first["metrics"]
  assert sum(seen) == 19  # the generated clips alone
  other = dataclasses.replace(FOLDERS, real=dataclasses.replace(FOLDERS.real, count=9))
  with pytest.raises(ValueError, match=r"shared holds features of another evaluation: ids"):
    run.run(job_of(folders, "c", protocol=other, real=shared))


def fewer(folders):
  for file in sorted((folders / "fake").iterdir())[1:]:
    file.unlink()


def cut(folders):
  np.save(folders / "fake" / "clip_003.npy", np.zeros((3, 8, 12, 3), np.uint8))


def too_many_asked(folders):
  return dataclasses.replace(FOLDERS, fake=dataclasses.replace(FOLDERS.fake, count=40))


def unknown_network(folders):
  metric = dataclasses.replace(FOLDERS.metrics[0], backbone="tiny/none")
  return dataclasses.replace(FOLDERS, metrics=(metric,))


def unknown_tap(folders):
  metric = dataclasses.replace(FOLDERS.metrics[0], tap="sums")
  return dataclasses.replace(FOLDERS, metrics=(metric,))


@pytest.mark.parametrize(
  ("spoil", "error", "message"),
  [
    (fewer, ValueError, r"1 usable generated clips: at least 2 are needed"),
    (cut, DataError, r"clip_003.*: 3 frames, the clip rule takes 4"),
    (too_many_asked, ValueError, r"holds 19 clips, protocol 'folders' compares 40: make the rest"),
    (unknown_network, ValueError, r"no feature network 'tiny/none': known are i3d/torchscript"),
    (unknown_tap, ValueError, r"tiny/clips has no features 'sums': it has means"),
  ],
)
def test_bad_input(folders, spoil, error, message):
  protocol = spoil(folders) or FOLDERS
  with pytest.raises(error, match=message):
    run.run(job_of(folders, protocol=protocol))


def test_clips_may_come_in_batches_of_any_size_and_shape():
  """As a model makes them: more at once than go through the networks together."""
  protocol = dataclasses.replace(
    FOLDERS,
    fake=dataclasses.replace(
      FOLDERS.fake, size=(SizeStep("resize", 6, 6, "bilinear", True, True),)
    ),
  )
  rng = np.random.default_rng(0)
  made = [
    sides.Made(f"{i}", rng.integers(0, 256, (4, 8 + i % 2, 12, 3), np.uint8), 4.0)
    for i in range(2 * sides.BATCH + 5)
  ]
  for of in (FOLDERS, protocol):
    extract = networks.Extractor(networks.load(of, networks.RANDOM), "fake")
    together = extract(made)
    assert together.keys() >= {"tiny/clips:means", "video:static"}
    for i in (0, 9, 20):
      alone = extract(made[i : i + 1])
      for name, values in together.items():
        np.testing.assert_allclose(values[i], alone[name][0], rtol=1e-6)


def test_a_batch_has_a_clip():
  with pytest.raises(ValueError, match=r"batch_size=0: at least 1 clip"):
    generate.Sampling(batch_size=0)


def test_features_that_are_not_finite_name_the_clip(folders, monkeypatch):
  original = networks.Extractor.__call__

  def broken(self, made):
    found = original(self, made)
    found["tiny/clips:means"][-1] = np.nan
    return found

  monkeypatch.setattr(networks.Extractor, "__call__", broken)
  with pytest.raises(ValueError, match=r"tiny/clips:means: the features of 'clip_007' hold NaN"):
    run.run(job_of(folders))
