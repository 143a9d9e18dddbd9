"""`vidjax curate` on files that are broken, lie, or are there twice: each costs itself only."""

import os

import numpy as np
from pyarrow import parquet
import pytest

from data_pipelines import tables
from tests import media
from tests.curate_runs import FLAGS, assert_same_result, rows, run
from vidjax.data.sources import sidecar

EPOCH_S = 1.7e9


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
  root = tmp_path_factory.mktemp("videos")
  media.write(root / "good.mp4", media.shot(1, 40))
  (root / "good.txt").write_text("The one that is read.")
  (root / "good too.mp4").write_bytes((root / "good.mp4").read_bytes())
  (root / "good too.txt").write_text("A copy.")
  (root / "deep").mkdir()
  (root / "deep" / "same.mkv").write_bytes((root / "good.mp4").read_bytes())
  same_size = bytearray((root / "good.mp4").read_bytes())
  same_size[-1] ^= 1
  (root / "good, almost.mp4").write_bytes(same_size)
  times_s = np.r_[0.0, EPOCH_S + np.arange(40) / 24]
  media.write(root / "epoch.mkv", media.shot(2, 41), times_s=times_s)
  times_s = np.r_[0.0, 2e4 + np.arange(40) / 24]  # as much as mp4 can say
  media.write(root / "hours.mp4", media.shot(3, 41), times_s=times_s)
  media.write(root / "thin.mp4", media.shot(4, 40, height=4, width=2400, speed=9))
  media.write(root / "told.mp4", media.shot(5, 40))
  (root / "told.txt").write_bytes(b"x" * (sidecar.MAX_BYTES + 1))
  media.write_encrypted(root / "secret.mp4", media.shot(6, 40))
  (root / "gone.mp4").symlink_to("nowhere.mp4")
  os.mkfifo(root / "pipe.mp4")
  os.mkfifo(root / "pipe")
  (root / "a1.mp4").touch()
  (root / "a2.mp4").touch()
  latin = media.write(root / "latin.mp4", media.shot(7, 40))
  os.rename(latin, os.fsencode(root) + b"/caf\xe9.mp4")
  return root


@pytest.fixture(scope="module")
def curated(repo_root, videos, tmp_path_factory):
  out = tmp_path_factory.mktemp("out") / "clips"
  code, text = run(repo_root, f"--videos={videos}", f"--out={out}", *FLAGS)
  assert code == 0, text
  assert "Traceback" not in text
  return out, text


def test_every_one_is_rejected_with_a_reason(curated):
  out, text = curated
  rejects = parquet.read_table(out / "rejects.parquet").to_pylist()
  assert [reject["source"] for reject in rejects] == sorted(r["source"] for r in rejects)
  found = {reject["source"]: (reject["stage"], reject["error"]) for reject in rejects}
  assert found.pop("epoch.mkv") == (
    "cut",
    "decoding stops or stumbles: time stamps jump by 1.7e+09 s at frame 1, more than "
    "ingest.max_gap_seconds=3600",
  )
  stage, reason = found.pop("hours.mp4")  # which says that the first frame lasts so long
  assert (stage, "time stamps jump by 2e+04 s at frame 0" in reason) == ("ingest", True)
  stage, reason = found.pop("told.mp4")
  assert (stage, "told.txt is larger than 16777216 bytes" in reason) == ("ingest", True)
  assert reason.startswith("ValueError: ")
  assert found == {
    "caf\\udce9.mp4": ("ingest", "the name of the file is not UTF-8: rename it"),
    "thin.mp4": ("ingest", "its pictures are 2400x4: one side is more than 500 times the other"),
    "secret.mp4": ("ingest", "the video is encrypted"),
    "gone.mp4": ("ingest", "FileNotFoundError: No such file or directory"),
    "pipe.mp4": ("ingest", "the file is empty"),
    "a1.mp4": ("ingest", "the file is empty"),
    "a2.mp4": ("ingest", "the file is empty"),
    "good.mp4": ("copy", "holds the same bytes as deep/same.mkv"),
    "good too.mp4": ("copy", "holds the same bytes as deep/same.mkv"),
  }
  assert "14 files (12 rejected), 2 shots, 1 kept (1 duplicate dropped)" in text
  assert "12</b>files rejected" in (out / "report.html").read_text()


def test_of_equal_files_the_first_by_name_is_read(curated):
  out, _ = curated
  found = {row["source"]: row for row in rows(out)}
  assert set(found) == {"deep/same.mkv", "good, almost.mp4"}
  assert dict(found["deep/same.mkv"]["captions"]) == {}, "texts of the others are theirs"
  remembered = list((out / ".cache" / "analyses").iterdir())
  assert not [p for p in remembered if '"good too.mp4"' in p.read_text()], "was not decoded"
  assert parquet.read_schema(out / "rejects.parquet").equals(tables.REJECT_SCHEMA)


@pytest.mark.slow
def test_workers_agree_which_one_is_read(repo_root, curated, videos, tmp_path):
  out = tmp_path / "clips"
  flags = ["--direct_running_mode=in_memory", "--direct_num_workers=3"]
  code, text = run(repo_root, f"--videos={videos}", f"--out={out}", *FLAGS, *flags)
  assert code == 0, text
  assert_same_result(out, curated[0])


@pytest.mark.slow
def test_a_list_and_a_pattern_end_alike(repo_root, curated, videos, tmp_path):
  code, text = run(repo_root, f"--videos={videos}/caf*.mp4", f"--out={tmp_path / 'a'}", *FLAGS)
  assert code == 3, text
  assert "no clip was kept of 0 shots in 1 files (unreadable files: 1)" in text
  names = ["good.mp4", "good too.mp4", "gone.mp4", "absent.mp4"]
  (videos / "list.csv").write_text("\n".join(["file_name,views", *(f"{n},1" for n in names)]))
  try:
    code, text = run(repo_root, f"--videos={videos}/list.csv", f"--out={tmp_path / 'b'}", *FLAGS)
    flags = [f"--videos={videos}/list.csv", f"--out={tmp_path / 'b'}", *FLAGS]
    assert "already done" in run(repo_root, *flags)[1]
    (videos / "good too.txt").write_text("Another text.")
    assert "already done" not in run(repo_root, *flags)[1], "texts beside videos count, too"
  finally:
    (videos / "list.csv").unlink()
    (videos / "good too.txt").write_text("A copy.")
  assert code == 0, text
  (row,) = rows(tmp_path / "b")
  assert (row["source"], dict(row["captions"])) == ("good too.mp4", {"sidecar": "Another text."})
  rejects = parquet.read_table(tmp_path / "b" / "rejects.parquet").to_pylist()
  assert {reject["source"] for reject in rejects} == {"good.mp4", "gone.mp4", "absent.mp4"}
