"""A run of `vidjax curate` that is killed at one place after the other ends as if it had not been.

Kills while files are analysed and encoded, and between shards, are in the other two.
"""

import json
import pathlib
import re

from array_record.python import array_record_module
import pytest

from tests import chat_server, media
from tests.curate_runs import FLAGS, assert_same_result, rows, run

HOSTILE = pathlib.Path(__file__).parent / "hostile_decoder"


def shards(out):
  """Of each shard what tells whether it was written again."""
  files = (out / "shards").glob("*.array_record-*")
  return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


@pytest.mark.slow
def test_kills_at_every_later_stage(repo_root, tmp_path):
  (tmp_path / "videos").mkdir()
  for seed, name in enumerate(("a", "b", "c")):
    media.write(tmp_path / "videos" / f"{name}.mp4", media.shot(seed, 40))
  (tmp_path / "videos" / "empty.mp4").touch()
  server = chat_server.Chat()
  flags = [f"--videos={tmp_path / 'videos'}", *FLAGS, "--config.look.clip=random:tiny"]
  flags += ["--config.caption.image.model=m", f"--config.caption.image.endpoint={server.url}"]
  flags += [
    "--config.select.min_embedding_distance=1e-9",
  ]
  # So that looking and captioning are over for all clips before the next stage begins.
  flags += ["--config.select.drop_most_text=0.1", "--config.select.drop_least_similar=0.1"]
  out = tmp_path / "clips"
  encoded = out / ".cache" / "encoded"

  def killed(place):
    env = {"HOSTILE_KILL": place}
    code, text = run(repo_root, *flags, f"--out={out}", python_path=[HOSTILE], env=env)
    assert code == -9, f"{place}: {text}"

  killed("/looks/.*json")
  killed("/captions/.*json")
  assert len(list((out / ".cache" / "looks").glob("*.json"))) == 3
  killed(r"/clips\.parquet")
  cost = sum(json.loads(path.read_text())["cpu_s"] for path in encoded.glob("cost-*.json"))
  records = sorted(path.name for path in encoded.iterdir() if "." not in path.name)
  assert (len(records), cost > 0) == (3, True)
  killed(r"/report\.html")
  killed("/index-train")
  published = shards(out)
  assert len(published) == 2
  killed(r"/\.curated\.json")
  assert not (out / ".curated.json").exists()
  killed("/encoded$")
  assert (out / ".curated.json").exists()
  assert sorted(path.name for path in encoded.iterdir() if "." not in path.name) == records

  asked = len(server.requests)
  code, text = run(repo_root, *flags, f"--out={out}")
  assert (code, "already done" in text) == (0, True)
  assert not encoded.exists()
  assert shards(out) == published, "no shard was written again"
  fresh = tmp_path / "fresh"
  code, text = run(repo_root, *flags, f"--out={fresh}")
  assert code == 0, text
  assert len(server.requests) == asked + 3
  server.close()
  assert_same_result(out, fresh)
  assert sum(row["kept"] for row in rows(out)) == 3
  (row,) = re.findall(r"<tr><td>encode</td>.*</tr>", (out / "report.html").read_text())
  assert float(re.findall(r">([\d.]+)</td></tr>", row)[0]) > 0, "costs are those of a killed run"


@pytest.mark.slow
def test_a_published_shard_that_was_damaged_is_written_again(repo_root, tmp_path):
  (tmp_path / "videos").mkdir()
  for seed, name in enumerate(("a", "b")):
    media.write(tmp_path / "videos" / f"{name}.mp4", media.shot(seed, 40))
  out = tmp_path / "clips"
  flags = [f"--videos={tmp_path / 'videos'}", f"--out={out}", *FLAGS]
  env = {"HOSTILE_KILL": "/index-train"}
  assert run(repo_root, *flags, python_path=[HOSTILE], env=env)[0] == -9
  before = shards(out)
  (damaged,) = (out / "shards").glob("*-train.array_record-*")
  content = bytearray(damaged.read_bytes())
  content[len(content) // 3] ^= 1
  damaged.write_bytes(content)  # of the same size
  assert run(repo_root, *flags)[0] == 0
  changed = {name for name, stats in shards(out).items() if stats != before[name]}
  assert changed == {damaged.name}
  assert len(array_record_module.ArrayRecordReader(str(damaged)).read_all()) == 1
  assert run(repo_root, flags[0], f"--out={tmp_path / 'fresh'}", *FLAGS)[0] == 0
  assert_same_result(out, tmp_path / "fresh")
