"""Training on several data sets, views and pictures beside videos, through the real command."""

import dataclasses
import json
import shutil

from array_record.python import array_record_module
from miniature_job import SMALL, VIDEO, run_vidjax
import numpy as np
import pytest

from vidjax import checkpoint, lazy, pretrained
from vidjax.data import schema
from vidjax.observe import writers

pytestmark = pytest.mark.slow


def stage(job, workdir, *flags):
  """Arguments of the low-resolution stage on the miniature's clips, from fresh weights."""
  return [
    "train",
    "--config=configs/svd/video_lowres.py:tiny",
    f"--workdir={workdir}",
    f"--config.encoders.vae={job}/autoencoder/export",
    "--config.init_from=",
    "--config.batch_size=4",
    *SMALL,
    *VIDEO,
    *flags,
  ]


def path(job):
  return f"--config.data.path={job}/clips/shards"


def weights(workdir, step):
  return checkpoint.restore_params(workdir / "checkpoints" / str(step), "raw")


def test_every_other_step_shows_pictures_and_a_resumed_run_is_the_same(job, tmp_path):
  flags = (path(job), "--config.data.images.every_steps=2")
  run_vidjax(*stage(job, tmp_path / "whole", *flags, "--config.total_samples=24"))
  programs = json.loads((tmp_path / "whole" / "run.json").read_text())["programs"]
  assert [p["batch"]["video_BTHWC"] for p in programs] == ["4x4x16x24x3", "4x1x16x24x3"]
  assert programs[0]["model_flops"] > 2 * programs[1]["model_flops"] > 0
  # Interrupted within a pair of steps: after one of videos.
  run_vidjax(*stage(job, tmp_path / "parts", *flags, "--config.total_samples=12"))
  run_vidjax(*stage(job, tmp_path / "parts", *flags, "--config.total_samples=24"))
  whole, parts = weights(tmp_path / "whole", 6), weights(tmp_path / "parts", 6)
  for name in whole:
    np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)
  rows = [writers.read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")]
  for a, b in zip(*rows, strict=True):
    assert (a["loss"], a["sample_ids_hash"]) == (b["loss"], b["sample_ids_hash"])


def test_pictures_train_no_temporal_layer(job, tmp_path):
  """Rows of pictures have no gradient there; one row of video in the batch has."""
  flags = (
    f"--config.init_from={job}/video_lowres",  # the output layer of fresh weights is zero
    "--config.total_samples=4",
    "--config.optimizer.weight_decay=0.0",
  )
  run_vidjax(*stage(job, tmp_path / "a", path(job), *flags, "--config.data.num_frames=1"))
  run_vidjax(*stage(job, tmp_path / "b", path(job), *flags, "--config.data.images.rows=3"))
  still, mixed, before = (
    lazy.read_all(pretrained.load(str(workdir), which).params, "reading")
    for workdir, which in (
      (tmp_path / "a", "raw"),
      (tmp_path / "b", "raw"),
      (job / "video_lowres", "ema"),
    )
  )
  temporal = [name for name in still if ".temporal" in name or "time_mixer" in name]
  assert len(temporal) > 20
  for name in temporal:
    np.testing.assert_array_equal(still[name], before[name], err_msg=name)
  changed = [name for name in temporal if not np.array_equal(mixed[name], before[name])]
  assert len(changed) > 0.9 * len(temporal)
  (row,) = writers.read_metrics(tmp_path / "b" / "metrics.jsonl")
  expected = 0.25 * row["loss_videos"] + 0.75 * row["loss_images"]
  assert row["loss"] == pytest.approx(expected, rel=1e-5)
  assert row["rejected_clips"] == 0


def test_data_sets_and_views_of_several_shapes_train(job, tmp_path):
  sets = [
    {"path": f"{job}/clips/shards", "weight": 3.0},
    {"path": f"{job}/clips/shards", "split": "holdout", "template": "a film of {caption}"},
  ]
  flags = [f"--config.data.sets={sets}", "--config.data.buckets=((16, 24), (24, 16))"]
  arguments = stage(job, tmp_path / "w", *flags, "--config.total_samples=8")
  run_vidjax(*arguments)
  rows = writers.read_metrics(tmp_path / "w" / "metrics.jsonl")
  assert all(np.isfinite(row["loss"]) for row in rows)
  out = tmp_path / "shown"
  done = run_vidjax(
    "inspect_data", *arguments[1:2], *flags, "--config.batch_size=4", f"--out={out}", *VIDEO
  )
  assert "75.0% of the videos" in done.stdout
  captions = json.loads((out / "captions.json").read_text())
  templated = sum(row["caption"].startswith("a film of") for row in captions)
  assert templated == len(captions) // 4
  assert (out / "contact_sheet.png").is_file()


def test_other_data_are_refused_unless_told_otherwise(job, tmp_path):
  run_vidjax(*stage(job, tmp_path / "w", path(job), "--config.total_samples=8"))
  changed = (path(job), "--config.data.template=film: {caption}", "--config.total_samples=16")
  done = run_vidjax(*stage(job, tmp_path / "w", *changed), code=3)
  assert "template was '{caption}', is 'film: {caption}'" in done.stderr
  assert "--config.data.accept_changes=true" in done.stderr
  done = run_vidjax(
    *stage(job, tmp_path / "w", *changed, "--config.data.accept_changes=true"), code=0
  )
  assert "template was" in done.stderr
  assert weights(tmp_path / "w", 4)


def test_clips_that_cannot_be_read_are_counted_and_listed(job, tmp_path):
  clips = tmp_path / "clips"
  shutil.copytree(job / "clips" / "shards", clips)
  shard = next(clips.glob("*-train.array_record-*"))
  damage(shard, 1)
  flags = (f"--config.data.path={clips}", "--config.total_samples=16")
  run_vidjax(*stage(job, tmp_path / "w", *flags))
  rows = writers.read_metrics(tmp_path / "w" / "metrics.jsonl")
  assert rows[-1]["rejected_clips"] == 1
  ((name, error),) = json.loads((tmp_path / "w" / "rejected_clips.json").read_text()).items()
  assert shard.name in name
  assert error
  # And where none is left, the run stops, here in a decoding process.
  for shard in clips.glob("*-train.array_record-*"):
    damage(shard, 10**6)
  done = run_vidjax(*stage(job, tmp_path / "x", *flags, "--config.data.num_workers=1"), code=3)
  assert "cannot be read" in done.stderr or "cannot read" in done.stderr
  assert "Traceback" not in done.stderr


def damage(shard, count):
  """Makes the videos of the first `count` records of a shard unreadable, and nothing else."""
  reader = array_record_module.ArrayRecordReader(str(shard))
  clips = [schema.parse_record(data) for data in reader.read_all()]
  writer = array_record_module.ArrayRecordWriter(str(shard), "group_size:1")
  for number, clip in enumerate(clips):
    if number < count:
      clip = dataclasses.replace(clip, video=bytes(len(clip.video)))
    writer.write(schema.serialize_record(clip))
  writer.close()
