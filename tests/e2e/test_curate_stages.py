"""Stages of `vidjax curate` that need more than videos, and files that break decoders."""

import json
import pathlib
import socket
import subprocess
import sys
import time

from array_record.python import array_record_module
import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pytest
from safetensors import numpy as numpy_safetensors

from tests import chat_server, media
from tests.curate_runs import FLAGS, assert_same_result, payloads, rows, run, start
from vidjax.data import schema


@pytest.mark.slow
def test_files_that_crash_or_hang_the_decoder_cost_only_themselves(repo_root, tmp_path):
  (tmp_path / "videos").mkdir()
  names = ("crash", "good", "hang", "raise", "late-crash", "late-hang", "late-raise", "fine")
  for seed, name in enumerate(names):
    media.write(tmp_path / "videos" / f"{name}.mp4", media.shot(seed, 40))
  out = tmp_path / "clips"
  hostile = pathlib.Path(__file__).parent / "hostile_decoder"
  flags = [f"--videos={tmp_path / 'videos'}", f"--out={out}", *FLAGS]
  flags += ["--config.ingest.stall_seconds=12"]
  code, text = run(repo_root, *flags, python_path=[hostile])
  assert code == 0, text
  rejects = {r["source"]: r for r in parquet.read_table(out / "rejects.parquet").to_pylist()}
  assert set(rejects) == {"crash.mp4", "hang.mp4", "raise.mp4"}
  assert rejects["raise.mp4"]["error"] == "SystemError: an odd file"
  assert "crashed (SIGSEGV)" in rejects["crash.mp4"]["error"]
  assert "nothing happened for 12 s" in rejects["hang.mp4"]["error"]
  assert {r["source"]: (r["kept"], r["drop_reasons"]) for r in rows(out)} == {
    "good.mp4": (True, []),
    "fine.mp4": (True, []),
    "late-crash.mp4": (False, ["unreadable"]),
    "late-hang.mp4": (False, ["unreadable"]),
    "late-raise.mp4": (False, ["unreadable"]),
  }
  records = [schema.parse_record(d) for data in payloads(out).values() for d in data]
  assert {r.source for r in records} == {"good.mp4", "fine.mp4"}


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["analyses", "encoded"])
def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(repo_root, tmp_path, folder):
  (tmp_path / "videos").mkdir()
  for seed, name in enumerate(("a", "b")):
    media.write(tmp_path / "videos" / f"{name}.mp4", media.shot(seed, 40))
  flags = [f"--videos={tmp_path / 'videos'}", f"--out={tmp_path / 'clips'}", *FLAGS]
  hostile = pathlib.Path(__file__).parent / "hostile_decoder"
  code, text = run(repo_root, *flags, python_path=[hostile], env={"HOSTILE_DISK": folder})
  assert code == 7, text
  assert "no space left for the curated clips: free some, run again" in text
  assert "Traceback" not in text
  assert not (tmp_path / "clips" / "clips.parquet").exists()
  code, text = run(repo_root, *flags)
  assert code == 0, text
  assert run(repo_root, flags[0], f"--out={tmp_path / 'fresh'}", *FLAGS)[0] == 0
  assert_same_result(tmp_path / "clips", tmp_path / "fresh")


@pytest.mark.slow
def test_published_shards_are_not_written_again(repo_root, tmp_path):
  (tmp_path / "videos").mkdir()
  for seed in range(5):
    media.write(tmp_path / "videos" / f"{seed}.mp4", media.shot(seed, 40))
  out = tmp_path / "clips"
  flags = [f"--videos={tmp_path / 'videos'}", f"--out={out}", *FLAGS]
  flags += ["--config.shard.megabytes=0.01"]
  with start(repo_root, *flags) as process:
    assert process.stdout
    for line in process.stdout:
      if line.startswith("shard 2 "):
        process.kill()
  assert process.returncode == -9
  notes = sorted((out / ".cache" / "encoded").glob("published-*.json"))
  assert len(notes) >= 2
  published = [out / "shards" / n.name.removeprefix("published-0-")[: -len(".json")] for n in notes]
  before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in published}
  code, text = run(repo_root, *flags)
  assert code == 0, text
  assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in published} == before
  assert len(schema.shard_files(out, "train")) > 1
  assert run(repo_root, flags[0], f"--out={tmp_path / 'fresh'}", *flags[2:])[0] == 0
  assert_same_result(out, tmp_path / "fresh")


@pytest.mark.slow
def test_another_list_at_the_same_place_is_another_run(repo_root, tmp_path):
  (tmp_path / "videos").mkdir()
  for seed, name in enumerate(("a", "b", "c")):
    media.write(tmp_path / "videos" / f"{name}.mp4", media.shot(seed, 40))
  out, chosen = tmp_path / "clips", tmp_path / "chosen.parquet"
  flags = [f"--videos={tmp_path / 'videos'}", f"--out={out}", *FLAGS]
  clip = ["--config.look.clip=random:tiny", "--config.select.min_embedding_distance=0"]
  assert run(repo_root, *flags, *clip)[0] == 0
  assert (out / "embeddings").exists()
  ids = [row["clip_id"] for row in rows(out)]
  for wanted in (ids[:2], ids[1:]):
    parquet.write_table(pa.table({"clip_id": wanted}), chosen)
    code, text = run(repo_root, *flags, f"--config.select.within={chosen}")
    assert code == 0, text
    assert {row["clip_id"] for row in rows(out) if row["kept"]} == set(wanted)
    assert not (out / "embeddings").exists()


@pytest.mark.slow
def test_two_sizes_at_once(repo_root, tmp_path):
  (tmp_path / "videos").mkdir()
  for seed, name in enumerate(("a", "b")):
    media.write(tmp_path / "videos" / f"{name}.mp4", media.shot(seed, 40))
  media.write(tmp_path / "videos" / "small.mp4", media.shot(7, 40, height=48, width=64))
  out = tmp_path / "clips"
  flags = [f"--videos={tmp_path / 'videos'}", f"--out={out}"]
  flags += ["--config.select.min_seconds=1.0", "--config.encode.short_side=32"]
  code, text = run(repo_root, *flags, "--config.encode.rungs=(64,)")
  assert code == 0, text
  kept = {r["clip_id"] for r in rows(out) if r["kept"]}
  assert len(kept) == 3
  found = {}
  for folder in ("shards", "shards-64"):
    for split in schema.SPLITS:
      for path in schema.shard_files(out / folder, split):
        for data in array_record_module.ArrayRecordReader(str(path)).read_all():
          record = schema.parse_record(data)
          found.setdefault(folder, {})[record.source] = min(record.width, record.height)
  assert found["shards"] == {"a.mp4": 32, "b.mp4": 32, "small.mp4": 32}
  assert found["shards-64"] == {"a.mp4": 64, "b.mp4": 64}
  alone = tmp_path / "alone"
  assert run(repo_root, flags[0], f"--out={alone}", *flags[2:])[0] == 0
  assert payloads(alone) == payloads(out)


@pytest.mark.slow
def test_all_scores_and_texts(repo_root, tmp_path):
  """CLIP, a head and three captioners behind a server; cut off by the server, and gone on with."""
  (tmp_path / "videos").mkdir()
  for seed, name in enumerate(("a", "b", "c")):
    media.write(tmp_path / "videos" / f"{name}.mp4", media.shot(seed, 40))
  media.write(tmp_path / "videos" / "still.mp4", media.still(7, 40))
  (tmp_path / "videos" / "b.json").write_text(json.dumps({"captions": {"image": "a wall"}}))
  head = {"weight": np.full((1, 64), 0.5, np.float32), "bias": np.array([5.0], np.float32)}
  numpy_safetensors.save_file(head, tmp_path / "head.safetensors")
  server = chat_server.Chat()
  out = tmp_path / "clips"
  flags = [f"--videos={tmp_path / 'videos'}", f"--out={out}", *FLAGS]
  flags += [
    "--config.look.clip=random:tiny",
    f"--config.look.aesthetic={tmp_path}/head.safetensors",
  ]
  for name in ("image", "video", "llm"):
    flags += [f"--config.caption.{name}.model={name}-model"]
    flags += [f"--config.caption.{name}.endpoint={server.url}"]
  flags += ["--config.caption.retries=0", "--config.caption.num_frames=3"]
  # An untrained network finds all pictures alike.
  flags += ["--config.select.min_embedding_distance=1e-9"]
  # Shares, so that looking and captioning wait for all clips; they are too few to drop any.
  flags += ["--config.select.drop_most_text=0.2", "--config.select.drop_least_similar=0.2"]

  server.answer = lambda _, body: (404, b"") if body["model"] == "llm-model" else None
  code, text = run(repo_root, *flags)
  assert code == 3, text
  assert f"the captioner at {server.url} answers 404" in text
  assert "Traceback" not in text
  server.answer = lambda *_: None
  code, text = run(repo_root, *flags)
  assert code == 0, text

  found = {r["source"]: r for r in rows(out)}
  assert [r["kept"] for r in found.values()] == [True, True, True, False]
  assert found["still.mp4"]["aesthetic"] is None  # dropped before anything costly
  texts = {name: dict(r["captions"]) for name, r in found.items()}
  assert texts["still.mp4"] == {}
  assert texts["b.mp4"]["image"] == "a wall"
  assert texts["a.mp4"]["image"].startswith("image-model sees [")
  assert texts["b.mp4"]["llm"].count("a wall") == 1
  assert texts["c.mp4"]["video"] in texts["c.mp4"]["llm"]
  for name in ("a.mp4", "b.mp4", "c.mp4"):
    scores = dict(found[name]["scores"])
    assert -1 <= found[name]["clip_similarity"] <= 1
    assert {"similarity_image", "similarity_video", "similarity_llm"} <= set(scores)
    assert found[name]["aesthetic"] == pytest.approx(5, abs=4)
  records = [schema.parse_record(d) for data in payloads(out).values() for d in data]
  assert {r.source: r.captions for r in records} == {n: t for n, t in texts.items() if t}
  assert records[0].scores["aesthetic"] == pytest.approx(found[records[0].source]["aesthetic"])

  (part,) = (out / "embeddings").iterdir()
  table = parquet.read_table(part).to_pylist()
  assert {row["clip_id"] for row in table} == {r["clip_id"] for r in found.values() if r["kept"]}
  lengths = [np.linalg.norm(np.reshape(row["embedding"], (3, 64)), axis=-1) for row in table]
  np.testing.assert_allclose(lengths, 1, atol=1e-5)

  asked = len(server.requests)
  code, text = run(repo_root, *flags, "--config.select.min_aesthetic=20")
  assert code == 3, text
  assert "3 low_aesthetic" in text or "low_aesthetic: 3" in text
  again = tmp_path / "again"
  assert run(repo_root, *flags[:1], f"--out={again}", *flags[2:])[0] == 0
  assert len(server.requests) == asked + 8
  assert run(repo_root, *flags)[0] == 0
  assert len(server.requests) == asked + 8  # all texts are remembered
  assert_same_result(out, again)
  server.close()


def _listens(port):
  with socket.socket() as probe:
    return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_the_portable_runner_gives_the_same(repo_root, tmp_path, monkeypatch):
  """The documented job: a job server runs it in workers that call back here (loopback)."""
  monkeypatch.syspath_prepend(str(repo_root / "tests" / "repo"))
  import documented_commands

  here = "tests/e2e/test_curate_stages.py::test_the_portable_runner_gives_the_same"
  serve, curate = (c for c, where in documented_commands.RUN_BY.items() if where == here)
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  (tmp_path / "VIDEOS").mkdir()
  for seed, name in enumerate(("a", "b", "c")):
    media.write(tmp_path / "VIDEOS" / f"{name}.mp4", media.shot(seed, 40))
  media.write(tmp_path / "VIDEOS" / "copy.webm", media.shot(0, 40), codec="libvpx")
  (tmp_path / "VIDEOS" / "broken.mp4").write_bytes(b"nothing")
  server = subprocess.Popen(
    [sys.executable, *serve.replace("8099", str(port)).split()[1:]],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  try:
    until = time.monotonic() + 120
    while not _listens(port):
      assert server.poll() is None
      assert time.monotonic() < until
      time.sleep(0.2)
    flags = curate.replace("8099", str(port)).split()[2:]
    code, text = run(repo_root, *flags, *FLAGS, cwd=tmp_path)
    assert code == 0, text
  finally:
    server.kill()
    server.wait()
  code, text = run(repo_root, "--videos=VIDEOS", "--out=EMBEDDED", *FLAGS, cwd=tmp_path)
  assert code == 0, text
  assert len(rows(tmp_path / "PORTABLE")) == 4
  assert_same_result(tmp_path / "PORTABLE", tmp_path / "EMBEDDED")


def test_dataflow_sees_no_local_files(repo_root, tmp_path):
  media.write(tmp_path / "a.mp4", media.shot(0, 10))
  flags = [f"--videos={tmp_path}", f"--out={tmp_path / 'clips'}", "--runner=DataflowRunner"]
  code, text = run(repo_root, *flags)
  assert code == 2, text
  assert "put both into a bucket" in text
