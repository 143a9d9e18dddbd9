"""The verb: what it writes, whom it refuses, how it goes on."""

import dataclasses
import json
import subprocess
import sys

from array_record.python import array_record_module
import clip_shards
import jax
import numpy as np
import pytest

from vidjax import cache_latents, errors, frame_encoder, latent_sets
from vidjax.data import latents, sources
from vidjax.data import records as record_files
from vidjax.data.clip import Clip, Listing
from vidjax.data.config import SetConfig
from vidjax.encoders import frozen
from vidjax.parallel import mesh as meshes


def open_latents(path, split="train"):
  return sources.open_source(SetConfig(path=str(path), kind="latents", split=split))


def payloads(folder):
  """All records of a folder by file name."""
  return {
    path.name: array_record_module.ArrayRecordReader(str(path)).read_all()
    for path in sorted(folder.glob("*.array_record-*"))
  }


def moments_of(video_THWC):
  """What the autoencoder gives frames, without chunks, padding or rounding."""
  vae = frozen.load_vae("random:tiny")
  x_BTHWC = video_THWC[None].astype(np.float32) / 127.5 - 1.0
  run = jax.jit(lambda weights, x: vae.network.bind(weights).encode_moments(x))
  return np.concatenate(run(dict(vae.params), x_BTHWC), axis=-1)[0]


def test_a_record_holds_the_moments_of_its_clip(cached, clips, records):
  source, pixels = open_latents(cached), sources.open_source(SetConfig(path=str(clips)))
  assert len(source.listing) == 5
  for number in (0, 3):
    clip, shown = source[number], pixels[number]
    moments_s = np.arange(records[number].num_frames) / 2.0
    frames = clip.read(moments_s, (32, 48))
    assert (frames.shape, frames.dtype) == ((len(moments_s), 4, 6, 16), np.float16)
    video_THWC = shown.read(moments_s, (32, 48))[:, 8:40]  # scaled to 48 x 48
    np.testing.assert_allclose(frames, moments_of(video_THWC), rtol=1e-3, atol=2e-3)
    for field in ("clip_id", "source", "captions", "scores"):
      assert getattr(clip, field) == getattr(shown, field), field
    np.testing.assert_equal(clip.motion_score, shown.motion_score)
    assert clip.duration_s == pytest.approx(shown.duration_s, rel=1e-6)
  assert np.std(frames.astype(np.float32)) > 0.01


@pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")
def test_the_folder_is_a_tfds_data_set_with_both_splits(cached):
  import tensorflow_datasets as tfds

  builder = tfds.builder_from_directory(str(cached))
  train, holdout = builder.as_data_source("train"), builder.as_data_source("holdout")
  assert (len(train), len(holdout)) == (5, 2)
  shape = [int(train[1][k]) for k in ("num_frames", "latent_height", "latent_width")]
  assert shape == [5, 4, 6]
  moments = np.frombuffer(train[1]["moments"], np.float16).reshape(*shape, 16)
  np.testing.assert_array_equal(moments, open_latents(cached)[1].read(np.arange(5) / 2, (32, 48)))
  assert len(payloads(cached)) > 3  # several shards
  assert json.loads((cached / "rejects-train.json").read_text()) == []
  assert not list(cached.glob(".*"))


def test_two_runs_write_the_same(cached, clips, view, tmp_path):
  cache_latents.cache(view(clips), str(tmp_path), chunk=8, shard_megabytes=0.008)
  assert payloads(tmp_path) == payloads(cached)
  assert open_latents(tmp_path).listing.digest == open_latents(cached).listing.digest


def test_devices_share_the_work(clips):
  """One device and eight give the same, up to the rounding of float16."""
  source = sources.open_source(SetConfig(path=str(clips)))
  vae, view = frozen.load_vae("random:tiny"), frame_encoder.View(32, 48, 2.0)
  results = []
  for devices in (1, 8):
    mesh = meshes.make_mesh(meshes.MeshConfig(), jax.devices()[:devices])
    encoder = frame_encoder.FrameEncoder(vae, view, mesh, 8)
    clips_of = list(encoder.encode(source, range(5), workers=2))
    assert [one.error for one in clips_of] == [""] * 5
    results.append([np.concatenate(one.parts) for one in clips_of])
  for one, eight in zip(*results, strict=True):
    np.testing.assert_allclose(one, eight, rtol=2e-3, atol=1e-3)


def test_an_interrupted_run_goes_on(cached, clips, view, tmp_path, monkeypatch):
  written = []
  write = cache_latents.shard_writer.write_shard

  def stop_in_the_third(path, contents, **options):
    if len(written) == 2:
      next(iter(contents))
      raise KeyboardInterrupt
    written.append(path.name)
    return write(path, contents, **options)

  with monkeypatch.context() as patch:
    patch.setattr(cache_latents.shard_writer, "write_shard", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
      cache_latents.cache(view(clips), str(tmp_path), chunk=8, shard_megabytes=0.008)
  before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.array_record-*")}
  assert sorted(path.name for path in before) == sorted(written)
  with pytest.raises(errors.DataError, match=r"index-train.npz does not exist.*goes on where"):
    open_latents(tmp_path)
  for changed, flags, message in (
    ({"fps": 1.0}, {}, "fps is 2.0, not 1.0"),
    ({"height": 16}, {}, "height is 32, not 16"),
    ({}, {"shard_megabytes": 1.0}, "another --chunk or --shard_megabytes"),
    ({}, {"chunk": 16}, "another --chunk or --shard_megabytes"),
  ):
    arguments = {"chunk": 8, "shard_megabytes": 0.008} | flags
    with pytest.raises(ValueError, match=message):
      cache_latents.cache(view(clips, **changed), str(tmp_path), **arguments)
  lost, *_ = before
  lost.unlink()  # after all, this one is not there
  cache_latents.cache(view(clips), str(tmp_path), chunk=8, shard_megabytes=0.008)
  assert payloads(tmp_path) == payloads(cached)
  kept = [path for path in before if path != lost]
  assert all(path.stat().st_mtime_ns == before[path] for path in kept)
  # A finished run has nothing to do, and is not overwritten by another data set.
  monkeypatch.setattr(cache_latents.shard_writer, "write_shard", lambda *_: pytest.fail("again"))
  cache_latents.cache(view(clips), str(tmp_path), chunk=8, shard_megabytes=0.008)
  other = clip_shards.write_shards(
    tmp_path / "other", [clip_shards.make_clip(7, clip_shards.steady(2.0, 2.0))]
  )
  with pytest.raises(ValueError, match="another data set in the split 'train'"):
    cache_latents.cache(view(other), str(tmp_path), chunk=8)


def test_bad_clips_are_listed_and_left_out(records, view, tmp_path):
  broken = dataclasses.replace(records[1], clip_id="broken", video=b"no video")
  root = clip_shards.write_shards(
    tmp_path / "clips", [records[0], broken, b"no record", records[2]]
  )
  cache_latents.cache(view(root), str(tmp_path / "out"), chunk=8)
  source = open_latents(tmp_path / "out")
  assert [source[i].clip_id for i in range(len(source.listing))] == ["clip00", "clip02"]
  rejects = json.loads((tmp_path / "out" / "rejects-train.json").read_text())
  assert {r["clip"].partition("[")[2] for r in rejects} == {"1]", "2]"}
  assert any("InvalidDataError" in reject["error"] for reject in rejects)


def test_a_shard_of_bad_clips_alone_is_empty(records, view, tmp_path):
  broken = [dataclasses.replace(records[1], clip_id=f"broken{i}", video=b"-") for i in range(2)]
  root = clip_shards.write_shards(tmp_path / "clips", [records[0], *broken, records[2]])
  cache_latents.cache(view(root), str(tmp_path / "out"), chunk=8, shard_megabytes=0.004)
  source = open_latents(tmp_path / "out")
  assert 0 in latents.read_index(tmp_path / "out", "train").counts
  assert [source[i].clip_id for i in range(2)] == ["clip00", "clip02"]


@dataclasses.dataclass(frozen=True)
class Made:
  """Clips of noise: (seconds, moment from which on reading fails)."""

  clips: tuple[tuple[float, float], ...]
  path: str = "made"

  @property
  def listing(self):
    count = len(self.clips)
    return Listing(np.array([s for s, _ in self.clips]), np.ones(count), np.ones((count, 2)), "d")

  def name(self, number):
    return f"made[{number}]"

  def __getitem__(self, number):
    seconds, breaks_s = self.clips[number]

    def read(moments_s, size):
      if moments_s[-1] >= breaks_s:
        raise ValueError(f"broken at {breaks_s}")
      keys = [(number, round(2 * t)) for t in moments_s]
      draws = [np.random.default_rng(key).integers(0, 256, (*size, 3)) for key in keys]
      return np.stack(draws).astype(np.uint8)

    return Clip(f"clip{number}", "made", seconds, read, lambda: np.zeros(0))


def test_clips_share_chunks(view, tmp_path, monkeypatch):
  """Pictures, clips of several chunks, and one that breaks half-way, in chunks of eight frames."""
  inf = float("inf")
  lengths = ((inf, inf), (9.5, inf), (inf, inf), (12.0, 5.0), (1.5, inf), (0.2, inf), (3.0, 0.0))
  made = Made(lengths)
  with monkeypatch.context() as patch:
    patch.setattr(sources, "open_source", lambda _: made)
    config = view("anywhere", kind="procedural", num_workers=2)
    cache_latents.cache(config, str(tmp_path), chunk=8)
  source = open_latents(tmp_path)
  rows = {0: 1, 1: 19, 2: 1, 4: 3, 5: 1}
  assert len(source.listing) == len(rows)
  for place, (number, count) in enumerate(rows.items()):
    clip, moments_s = source[place], np.arange(count) / 2
    assert (clip.clip_id, clip.duration_s) == (f"clip{number}", pytest.approx(lengths[number][0]))
    video_THWC = made[number].read(moments_s, (32, 48))
    stored = clip.read(moments_s, (32, 48))
    np.testing.assert_allclose(stored, moments_of(video_THWC), rtol=1e-3, atol=2e-3)
  rejects = json.loads((tmp_path / "rejects-train.json").read_text())
  assert rejects == [
    {"clip": "made[3]", "error": "ValueError: broken at 5.0"},
    {"clip": "made[6]", "error": "ValueError: broken at 0.0"},
  ]


def test_moments_beyond_float16_are_no_clip(view, tmp_path, monkeypatch):
  vae = frozen.load_vae("random:tiny")
  values = dict(vae.params)
  values["quant_conv.bias"] = np.full_like(values["quant_conv.bias"], 1e5)
  monkeypatch.setattr(frozen, "load_vae", lambda _: dataclasses.replace(vae, params=values))
  monkeypatch.setattr(sources, "open_source", lambda _: Made(((1.0, 9.0),)))
  with pytest.raises(errors.DataError, match="no clip of the split 'train' can be read"):
    cache_latents.cache(view("anywhere", kind="procedural"), str(tmp_path), chunk=8)
  assert "not finite in float16" in (tmp_path / "rejects-train.json").read_text()


def test_nothing_but_bad_clips(records, view, tmp_path):
  broken = dataclasses.replace(records[1], video=b"no video")
  root = clip_shards.write_shards(tmp_path / "clips", [broken])
  with pytest.raises(errors.DataError, match="no clip of the split 'train' can be read"):
    cache_latents.cache(view(root), str(tmp_path / "out"), chunk=8)


@pytest.mark.parametrize(
  ("data", "arguments", "message"),
  [
    ({"height": 36}, {}, "data.height=36, data.width=48: the autoencoder takes multiples of 8"),
    ({}, {"chunk": 12}, "--chunk=12 does not divide over 8 devices"),
    ({"kind": "latents"}, {}, "holds latents already"),
  ],
)
def test_what_does_not_fit_is_refused(clips, view, tmp_path, data, arguments, message):
  with pytest.raises(ValueError, match=message):
    cache_latents.cache(view(clips, **data), str(tmp_path), **arguments)


def test_several_data_sets_are_refused(clips, view, tmp_path):
  config = view(clips)
  sets = (SetConfig(path="A"), SetConfig(path="B"))
  config = dataclasses.replace(config, data=dataclasses.replace(config.data, path="", sets=sets))
  with pytest.raises(ValueError, match=r"one data set in one view is cached at a time: .* 2 sets"):
    cache_latents.cache(config, str(tmp_path))


def test_the_encoder_alone_decides_what_latents_are():
  vae = frozen.load_vae("random:tiny")
  names = {part: next(n for n in vae.params if n.startswith(part)) for part in ("enc", "dec")}

  def described(name):
    values = dict(vae.params)
    values[name] = np.asarray(values[name]) + 1e-3
    return latent_sets.manifest(dataclasses.replace(vae, params=values), 32, 48, 2.0)

  plain = latent_sets.manifest(vae, 32, 48, 2.0)
  assert latent_sets.differences(described(names["dec"]), plain) == []
  (change,) = latent_sets.differences(described(names["enc"]), plain)
  assert change.startswith("vae_sha256 is ")


def test_decoding_processes_read_latents_without_jax():
  code = (
    "import sys, vidjax.data.sources.latents;"
    "print({'jax', 'tensorflow_datasets'} & set(sys.modules))"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "set()"
  assert record_files.shard_name("latents", "train", 0, 1) == latents.shard_name("train", 0, 1)
