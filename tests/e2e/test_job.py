"""The whole job through the real commands: what each leaves behind, on disk or an object store."""

import json
import pathlib

from miniature_job import IMAGE, SMALL, VIDEO, run_job, run_vidjax
import numpy as np
import object_store
import pyarrow.parquet as pq
import pytest

from vidjax import pipeline as pipelines
from vidjax import storage
from vidjax.data import video
from vidjax.encoders import tokenizers
from vidjax.observe import writers

# Frames of the clips that the commands make, of models of four frames.
CLIPS = {"clip.mp4": 4, "between.mp4": 4, "smooth.mp4": 10}


def commands(repo_root: pathlib.Path) -> list[str]:
  """The commands of the documents that are run here, in their order."""
  import documented_commands

  here = "tests/e2e/test_job.py::test_documented_commands_run"
  return [c for c, where in documented_commands.RUN_BY.items() if where == here]


@pytest.fixture
def place(job, videos, tmp_path, repo_root, monkeypatch):
  """A folder in which README's place holders are names of things that are there."""
  monkeypatch.syspath_prepend(str(repo_root / "tests" / "repo"))
  monkeypatch.chdir(tmp_path)
  (tmp_path / "configs").symlink_to(repo_root / "configs")
  (tmp_path / "VIDEOS").symlink_to(videos)
  (tmp_path / "VAE").symlink_to(job / "autoencoder" / "export")
  frame = video.read_frames_at((videos / "nested" / "square0.mp4").read_bytes(), [0.0])[0]
  from vidjax import render

  render.write_png("IMAGE_FILE", frame)
  render.write_png("LAST_FRAME", frame[::-1])
  (tmp_path / "PROMPTS").write_text("a square\na wall\n")
  return tmp_path


@pytest.mark.slow
def test_documented_commands_run(place, repo_root):
  """README's commands in their order, with the sizes of a test."""
  extra = {
    "curate": ["--config.select.min_motion_score=0.01", "--config.encode.short_side=48"],
    "train_tokenizer": ["--vocab_size=30", "--model_type=bpe"],
    "cache_latents": list(VIDEO),
    "inspect_data": [*VIDEO, "--num_windows=4"],
    "sample": ["--steps=2", "--height=16", "--width=24"],
  }
  for line in commands(repo_root):
    _, verb, *arguments = line.split()
    flags = extra.get(verb, [])
    if verb == "train":
      flags = [*SMALL, "--config.total_samples=4", "--config.batch_size=2"]
      flags += VIDEO if "image.py" not in line else IMAGE
    run_vidjax(verb, *arguments, *flags)
  assert tokenizers.load("TOKENIZER").length == 128
  assert (place / "clip.mp4").stat().st_size > 0
  frames = {name: video.probe((place / name).read_bytes()).num_frames for name in CLIPS}
  assert frames == CLIPS
  note = json.loads((place / "clip.json").read_text())
  assert (note["steps"], note["seed"], note["image"]) == (2, 0, "IMAGE_FILE")
  assert (place / "EXPORT" / "model_index.json").exists()
  assert {"latents.json", "index-train.npz", "dataset_info.json"} <= {
    path.name for path in (place / "LATENTS").iterdir()
  }
  assert writers.read_metrics(place / "FROM_LATENTS" / "metrics.jsonl")[-1]["loss"] > 0
  result = json.loads((place / "EVAL" / "result.json").read_text())
  assert {"protocol", "protocol_hash", "n_real", "n_fake", "metrics"} <= result.keys()


def test_curation_lists_every_file_once(job):
  clips = pq.read_table(job / "clips" / "clips.parquet").to_pylist()
  rejects = pq.read_table(job / "clips" / "rejects.parquet").to_pylist()
  assert {row["source"] for row in rejects} == {"broken.mp4", "empty.webm"}
  assert {row["source"] for row in clips} == {f"nested/square{i}.mp4" for i in range(4)}
  assert {dict(row["captions"])["sidecar"] for row in clips} == {
    f"square number {i} crosses a wall" for i in range(4)
  }


def test_warm_start_computes_what_it_started_from(job):
  """Stage II begins as stage I: temporal layers enter as the identity."""
  first = writers.read_metrics(job / "video_lowres" / "metrics.jsonl")[0]
  fresh = writers.read_metrics(job / "image" / "metrics.jsonl")[0]
  assert first["param_norm"] > fresh["param_norm"]
  init = json.loads((job / "video_lowres" / "init.json").read_text())
  assert init["source"].startswith(str(job / "image" / "checkpoints"))
  became = init["parameters"]
  assert became["conv_in.kernel"] == "copied"
  assert {what for name, what in became.items() if ".temporal" in name} == {"fresh"}
  assert set(became.values()) == {"copied", "fresh"}
  highres = json.loads((job / "video_highres" / "init.json").read_text())["parameters"]
  assert highres["conv_in.kernel"] == "widened"  # by the conditioning image


@pytest.mark.slow
def test_samples_do_not_depend_on_their_batch(job):
  """Same seed, same frames, alone or beside others."""
  pipe = pipelines.Pipeline.from_pretrained(str(job / "video_highres"))
  images = np.random.default_rng(0).uniform(0, 1, (3, 16, 24, 3)).astype(np.float32)
  batch = pipe.generate(pipelines.Request(images_NHWC=images, seeds=[5, 6, 7], steps=2))
  alone = pipe(image=images[1], seed=6, steps=2)
  assert batch.shape == (3, 4, 16, 24, 3)
  np.testing.assert_allclose(batch[1], alone, atol=2e-5)
  # The weights stay on the devices between requests, until there are others.
  pipe.load(pipelines.fresh_weights(pipe.config))
  assert np.abs(pipe(image=images[1], seed=6, steps=2) - alone).max() > 1e-3


def test_sample_reads_noise_and_saves_the_array(job, tmp_path):
  pipe = pipelines.Pipeline.from_pretrained(str(job / "video_highres"))
  noise = np.random.default_rng(0).normal(size=(1, 4, 2, 3, 8)).astype(np.float32)
  image = np.zeros((16, 24, 3), np.float32)
  np.save(tmp_path / "noise.npy", noise)
  from vidjax import render

  render.write_png(str(tmp_path / "black.png"), np.zeros((16, 24, 3), np.uint8))
  run_vidjax(
    "sample",
    f"--model={job}/video_highres",
    f"--image={tmp_path}/black.png",
    f"--noise={tmp_path}/noise.npy",
    "--noise_aug_strength=0",
    "--steps=2",
    f"--save_array={tmp_path}/clip.npy",
    f"--out={tmp_path}/clip.gif",
  )
  request = pipelines.Request(
    images_NHWC=image[None], noise_NThwC=noise, noise_aug_strength=0.0, steps=2
  )
  np.testing.assert_allclose(np.load(tmp_path / "clip.npy"), pipe.generate(request), atol=2e-5)


def test_export_samples_as_the_workdir_does(job, tmp_path):
  run_vidjax("export", f"--model={job}/video_highres", f"--out={tmp_path}/export")
  image = np.random.default_rng(1).uniform(0, 1, (16, 24, 3)).astype(np.float32)
  clips = [
    pipelines.Pipeline.from_pretrained(str(model))(image=image, seed=3, steps=2)
    for model in (job / "video_highres", tmp_path / "export")
  ]
  np.testing.assert_allclose(clips[0], clips[1], atol=2e-5)


@pytest.mark.slow
def test_job_on_an_object_store(videos):
  """Shards, workdirs and weights below gs://, every command a process of its own."""
  with object_store.serve() as store, store.environment():
    run_job(videos, "gs://bucket/job", env=store.variables())
    root = storage.Path("gs://bucket/job")
    assert (root / "clips" / "clips.parquet").exists()
    rows = writers.read_metrics(str(root / "video_highres" / "metrics.jsonl"))
    assert rows[-1]["step"] == 4
    assert (root / "autoencoder" / "export" / "config.json").exists()
