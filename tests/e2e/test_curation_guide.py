"""The commands of docs/curation.md, one after the other, on videos and models of a test's size."""

import shlex

from array_record.python import array_record_module
from miniature_job import VIDEO, run_vidjax
import numpy as np
from pyarrow import parquet
import pytest
from safetensors import numpy as numpy_safetensors

from tests import chat_server, media, scoring_models
from vidjax.data import schema, subset


def rows(out):
  return parquet.read_table(out / "clips.parquet").to_pylist()


@pytest.mark.slow
def test_documented_commands(repo_root, tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(str(repo_root / "tests" / "repo"))
  monkeypatch.chdir(tmp_path)
  import documented_commands

  here = "tests/e2e/test_curation_guide.py::test_documented_commands"
  commands = [c for c, where in documented_commands.RUN_BY.items() if where == here]
  assert len(commands) == 7
  (tmp_path / "configs").symlink_to(repo_root / "configs")
  (tmp_path / "VIDEOS").mkdir()
  for seed in range(5):
    size = {"height": 576, "width": 640} if seed == 4 else {"height": 96, "width": 128}
    frames = media.shot(seed, 40, speed=1.5 + seed, **size)
    media.write(tmp_path / "VIDEOS" / f"{seed}.mp4", frames)
  (tmp_path / "LIST.csv").write_text("file_name,text,rating\nVIDEOS/0.mp4,a wall,3\n")
  scoring_models.save_clip(tmp_path / "CLIP")
  scoring_models.save_blip(tmp_path / "BLIP")
  head = {"weight": np.full((1, scoring_models.CLIP_WIDTH), 1.0, np.float32)}
  numpy_safetensors.save_file({**head, "bias": np.array([5.0], np.float32)}, tmp_path / "HEAD")
  server = chat_server.Chat()

  small = ["--config.select.min_seconds=1", "--config.look.text_area=False"]
  small += ["--config.select.min_embedding_distance=0"]
  done = {}
  for command in commands:
    _, verb, *arguments = shlex.split(command.replace("http://127.0.0.1:8000/v1", server.url))
    size = [] if "short_side" in command else ["--config.encode.short_side=48"]
    extra = {
      "curate": small + size,
      "inspect_data": [*VIDEO, "--num_windows=2", "--config.data.fps=8"],
    }
    done[command] = run_vidjax(verb, *arguments, *extra.get(verb, []), env={"PYTHONPATH": ""})
  server.close()

  scored = {row["source"]: row for row in rows(tmp_path / "SCORED")}
  assert all(isinstance(row["aesthetic"], float) for row in scored.values())
  for row in rows(tmp_path / "CAPTIONED"):
    texts = dict(row["captions"])
    assert texts["video"].startswith("VLM sees [")
    assert texts["video"] in texts["llm"]
    assert set(texts["image"].split()) <= set(scoring_models.WORDS)
  (copied,) = rows(tmp_path / "COPIED")
  assert (copied["source"], dict(copied["captions"])) == ("VIDEOS/0.mp4", {"text": "a wall"})
  assert dict(copied["scores"])["rating"] == 3
  lvd_f, best = (
    set(subset.read(tmp_path / f"{name}.parquet").astype(str)) for name in ("LVD_F", "BEST")
  )
  everything = {row["clip_id"] for row in scored.values()}
  assert everything > lvd_f > best > set()
  assert f"{len(lvd_f)} of {len(everything)} clips" in done[commands[2]].stdout
  large = {row["clip_id"]: row for row in rows(tmp_path / "LARGE")}
  assert {clip_id for clip_id, row in large.items() if row["kept"]} == best
  assert large.keys() == everything
  records = [
    schema.parse_record(data)
    for path in schema.shard_files(tmp_path / "LARGE", "train")
    for data in array_record_module.ArrayRecordReader(str(path)).read_all()
  ]
  sizes = {r.source: min(r.width, r.height) for r in records}
  assert sizes.items() <= {"4.mp4": 576, **{f"{i}.mp4": 96 for i in range(4)}}.items()
  # Nothing was analysed or looked at again.
  assert not (tmp_path / "LARGE" / ".cache" / "analyses").exists()
  remembered = list((tmp_path / "SCORED" / ".cache" / "looks").iterdir())
  assert len(remembered) == len(everything)
