"""Input that fails under a run of the real command: it ends with exit code 3 and names the file, or
as an undisturbed run does, to the last bit of every loss."""

from collections.abc import Callable
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from typing import TypeVar

import clip_shards
import object_store
import pytest

from vidjax import config as configs
from vidjax import storage
from vidjax.data import loader
from vidjax.data.sources import shards
from vidjax.observe import writers

pytestmark = pytest.mark.slow

T = TypeVar("T")
CONFIG = "configs/svd/image.py:tiny"
STEPS, BATCH, CLIPS = 24, 8, 12
# Processes that take longer to start, on a busy machine, are taken to hang; that is borne thrice.
TIMEOUT_S = 20
OVERRIDES = (
  "encoders.vae=random:tiny",
  f"batch_size={BATCH}",
  "log_every_steps=1",
  "checkpoint.every_steps=1000",
  # One level: what a batch is made of is the matter here, and compiling is most of the time.
  "model.overrides.block_out_channels=(32,)",
  "model.overrides.attention=(False,)",
  "model.overrides.layers_per_block=(1,)",
  "model.overrides.transformer_layers_per_block=(1,)",
  "model.overrides.num_attention_heads=(4,)",
)


def overrides(data, *more: str, steps: int = STEPS) -> list[str]:
  return [*OVERRIDES, f"data.path={data}", f"total_samples={BATCH * steps}", *more]


def start(workdir: pathlib.Path, data, *more: str, steps: int = STEPS) -> subprocess.Popen:
  flags = [f"--config.{one}" for one in overrides(data, *more, steps=steps)]
  return subprocess.Popen(
    [sys.executable, "-m", "vidjax.train", f"--config={CONFIG}", f"--workdir={workdir}", *flags],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
  )


def end(run: subprocess.Popen, code: int = 0) -> str:
  """Waits for the end of a run; what it said."""
  try:
    said = run.communicate(timeout=240)[0]
  finally:
    run.kill()
  assert run.returncode == code, said
  assert "Traceback" not in said
  return said


def rows(workdir: pathlib.Path) -> list[dict]:
  path = workdir / "metrics.jsonl"
  return writers.read_metrics(path) if path.exists() else []


def course(workdir: pathlib.Path) -> list[tuple]:
  """What the run was fed, and what it made of it."""
  names = ("step", "samples", "sample_ids_hash", "loss", "grad_norm")
  return [tuple(row[name] for name in names) for row in rows(workdir)]


def until(run: subprocess.Popen, holds: Callable[[], T]) -> T:
  """Waits for something that is true, and returns it as it was seen."""
  deadline = time.monotonic() + 200
  while not (found := holds()):
    assert run.poll() is None, end(run)
    assert time.monotonic() < deadline, "the run does not get there"
    time.sleep(0.02)
  return found


def decoders(run: subprocess.Popen) -> list[int]:
  """Decoding processes of a run."""
  found = []
  for folder in pathlib.Path("/proc").iterdir():
    try:
      parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
      if parent == run.pid and b"spawn_main" in (folder / "cmdline").read_bytes():
        found.append(int(folder.name))
    except (OSError, ValueError, IndexError):
      continue  # no process, or one that has just ended
  return sorted(found)


@pytest.fixture(scope="module")
def records() -> list:
  return [clip_shards.make_clip(number, clip_shards.steady(2.0)) for number in range(CLIPS)]


@pytest.fixture(scope="module")
def data(tmp_path_factory, records) -> pathlib.Path:
  folder = clip_shards.write_shards(tmp_path_factory.mktemp("clips"), records, shards=2)
  shards.write_index(str(folder), "train")
  return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data) -> list[tuple]:
  workdir = tmp_path_factory.mktemp("undisturbed") / "w"
  end(start(workdir, data))  # which decodes where it trains: nobody there to be killed
  found = course(workdir)
  assert len(found) == STEPS
  return found


def test_decoding_processes_that_die_and_hang_change_nothing(data, undisturbed, tmp_path):
  run = start(tmp_path / "w", data, "data.num_workers=1", f"data.timeout_s={TIMEOUT_S}")
  try:
    until(run, lambda: len(rows(tmp_path / "w")) >= 2)
    first = decoders(run)
    assert len(first) == 1
    os.kill(first[0], signal.SIGKILL)
    second = until(run, lambda: [pid for pid in decoders(run) if pid not in first])
    os.kill(second[0], signal.SIGSTOP)  # before it has made anything: it has just been started
  finally:
    said = end(run)
  assert said.count("Starting the decoding processes again") >= 2
  assert f"no batch for data.timeout_s={TIMEOUT_S} s" in said
  assert course(tmp_path / "w") == undisturbed
  assert not any(pathlib.Path(f"/proc/{pid}").exists() for pid in second), "nobody is left behind"


def test_a_bad_record_within_the_budget_is_replaced_and_told(records, tmp_path):
  broken = dataclasses.replace(records[3], video=b"\0" * 1000)
  data = clip_shards.write_shards(tmp_path / "d", [*records[:3], broken, *records[4:]], shards=2)
  said = end(start(tmp_path / "w", data, steps=4))
  # What stands in for it is a function of the sample's number: another reader sees the same.
  config = configs.load(CONFIG, overrides(data, steps=4))
  with loader.make_loader(
    config.data, global_batch=BATCH, start_sample=0, seed=config.seed, tokenizer=None
  ) as batches:
    expected = [loader.ids_hash(next(batches)) for _ in range(4)]
  assert [row["sample_ids_hash"] for row in rows(tmp_path / "w")] == expected
  assert rows(tmp_path / "w")[-1]["rejected_clips"] == 1
  ((clip, _),) = json.loads((tmp_path / "w" / "rejected_clips.json").read_text()).items()
  assert clip.startswith("clip03 (clips-train.array_record-00000-of-00002")
  assert said.count(f"clip {clip} is replaced by another one") == 1


def test_bad_records_beyond_the_budget_end_the_run_by_name(records, tmp_path):
  broken = [dataclasses.replace(record, video=b"\0" * 1000) for record in records[2:5]]
  data = clip_shards.write_shards(tmp_path / "d", [*records[:2], *broken, *records[5:]], shards=2)
  said = end(start(tmp_path / "w", data, "data.num_workers=1"), code=3)
  assert "2 clips cannot be read, 1 would be borne (data.max_rejected_share=0.01 of 12)" in said
  assert "(clips-train.array_record-00000-of-00002" in said
  assert not list((tmp_path / "w").glob("checkpoints/*"))


@pytest.mark.parametrize("fault", ["missing", "truncated"])
def test_a_shard_that_is_not_whole_ends_the_run_by_name(data, tmp_path, fault):
  folder = shutil.copytree(data, tmp_path / "d")
  shard = folder / "shards" / "clips-train.array_record-00001-of-00002"
  if fault == "missing":
    shard.unlink()
    expected = f"{folder}/shards has 1 shards of the split 'train', but their names say there are 2"
  else:
    os.truncate(shard, shard.stat().st_size // 2)
    expected = f"shard {shard} is not an ArrayRecord file, or it is cut short"
  assert expected in end(start(tmp_path / "w", folder), code=3)


def test_storage_that_stops_answering_ends_the_run_by_name(data, tmp_path, monkeypatch):
  monkeypatch.setenv("VIDJAX_CACHE", str(tmp_path / "cache"))
  with object_store.serve() as store, store.environment():
    storage.publish(data, "gs://bucket/clips")
    store.silent = r"array_record-\d+-of-\d+\?.*alt=media"  # listed, and never read
    run = start(tmp_path / "w", "gs://bucket/clips", "data.num_workers=1", "data.timeout_s=2")
    said = end(run, code=3)
  assert "gs://bucket/clips: decoding processes died, or gave no batch for data.timeout_s=2" in said
  assert "4 times in a row at sample 0" in said
  assert "does the storage answer?" in said
