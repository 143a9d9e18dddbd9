"""`vidjax curate` as a user runs it: what it writes, how it ends, how it survives interruption."""

import json
import pathlib
import signal
import time

import numpy as np
from pyarrow import parquet
import pytest

from tests import media, object_store
from tests.curate_runs import FLAGS, assert_same_result, payloads, rows, run, start
from vidjax import storage
from vidjax.data import schema, video


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
  """A folder such as a user has: nested, mixed, partly broken."""
  root = tmp_path_factory.mktemp("videos")
  two = np.concatenate([media.shot(1, 48), media.shot(2, 60), media.shot(3, 12)])
  media.write(root / "walk.mp4", two, sound=True)
  (root / "walk.txt").write_text("A camera pans over a wall.")
  media.write(root / "deep" / "er" / "pan.mkv", media.shot(4, 50))
  media.write(root / "copy of pan.webm", media.shot(4, 50), codec="libvpx")
  media.write(root / "still.avi", media.still(5, 60), codec="mpeg4")
  media.write(root / "tall.mov", media.shot(6, 40), rotation=90)
  media.write_sound(root / "sound.m4a")
  (root / "empty.mp4").touch()
  (root / "noise.mp4").write_bytes(bytes(range(256)) * 20)
  whole = media.write(root / "half.mkv", media.shot(7, 90)).read_bytes()
  (root / "half.mkv").write_bytes(whole[: len(whole) // 2])
  (root / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
  (root / "README.md").write_text("notes")
  return root


@pytest.fixture(scope="module")
def curated(repo_root, videos, tmp_path_factory):
  out = tmp_path_factory.mktemp("out") / "clips"
  code, text = run(repo_root, f"--videos={videos}", f"--out={out}", *FLAGS)
  assert code == 0, text
  return out, text


def test_every_media_file_is_in_one_of_the_tables(curated):
  out, text = curated
  rejects = parquet.read_table(out / "rejects.parquet").to_pylist()
  assert {r["source"] for r in rows(out)} == {
    "walk.mp4",
    "deep/er/pan.mkv",
    "copy of pan.webm",
    "still.avi",
    "tall.mov",
  }
  by_source = {r["source"]: r for r in rejects}
  assert set(by_source) == {"sound.m4a", "empty.mp4", "noise.mp4", "half.mkv"}
  assert "no video stream" in by_source["sound.m4a"]["error"]
  assert "empty" in by_source["empty.mp4"]["error"]
  assert by_source["half.mkv"]["stage"] == "cut"
  assert 10 < by_source["half.mkv"]["frames_decoded"] < 80
  assert by_source["half.mkv"]["frames_expected"] == 90
  assert "9 files (4 rejected), 7 shots, 4 kept" in text


def test_the_table_says_what_happened_to_each_shot(curated):
  out, _ = curated
  found = rows(out)
  walk = [r for r in found if r["source"] == "walk.mp4"]
  assert [(r["cut_start_frame"], r["cut_end_frame"]) for r in walk] == [
    (0, 48),
    (48, 108),
    (108, 120),
  ]
  assert [r["drop_reasons"] for r in walk] == [[], [], ["too_short"]]
  assert [r["start_boundary"] for r in walk] == ["file", "hard", "hard"]
  assert walk[1]["start_time_s"] == pytest.approx(2.0)
  assert dict(walk[0]["captions"]) == {"sidecar": "A camera pans over a wall."}
  reasons = {r["source"]: r["drop_reasons"] for r in found}
  assert reasons["still.avi"] == ["low_motion"]
  assert sorted([reasons["deep/er/pan.mkv"], reasons["copy of pan.webm"]]) == [[], ["duplicate"]]
  tall = next(r for r in found if r["source"] == "tall.mov")
  assert (tall["width"], tall["height"], tall["rotation"]) == (72, 128, 90)
  assert len({r["clip_id"] for r in found}) == len(found)
  for column in ("aesthetic", "clip_similarity"):  # no weights were given
    assert {r[column] for r in found} == {None}
  assert {r["text_area"] for r in found if r["kept"]} == {0.0}


def test_shards_hold_the_kept_clips(curated):
  out, _ = curated
  records = [schema.parse_record(d) for data in payloads(out).values() for d in data]
  kept = {r["clip_id"]: r for r in rows(out) if r["kept"]}
  assert {r.clip_id for r in records} == set(kept)
  for record in records:
    row, info = kept[record.clip_id], video.probe(record.video)
    assert record.num_frames == info.num_frames == row["end_frame"] - row["start_frame"]
    assert (record.width, record.height) == (info.width, info.height)
    assert min(info.width, info.height) == 48
    assert record.fps == pytest.approx(row["fps"], rel=1e-6)
    assert record.captions == dict(row["captions"])
  assert len(schema.shard_files(out, "holdout")) == 1


def test_the_report_is_one_page_with_everything(curated):
  out, _ = curated
  page = (out / "report.html").read_text()
  for text in ("walk.mp4", "low_motion", "half.mkv", "data:image/jpeg", "<svg", "too_short"):
    assert text in page
  assert "http" not in page.replace("http-equiv", "")


def test_a_finished_run_returns_at_once(repo_root, curated, videos):
  out, _ = curated
  before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
  begin = time.monotonic()
  code, text = run(repo_root, f"--videos={videos}", f"--out={out}", *FLAGS)
  assert (code, "already done" in text) == (0, True)
  assert time.monotonic() - begin < 15
  assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(
  ("stage", "signal_number", "code"),
  [
    ("analyse 4/", signal.SIGKILL, -9),
    ("encode 2 ", signal.SIGKILL, -9),
    ("analyse 2/", signal.SIGINT, 130),
  ],
)
def test_an_interrupted_run_ends_with_the_same_result(
  repo_root, curated, videos, tmp_path, stage, signal_number, code
):
  out = tmp_path / "clips"
  flags = [f"--videos={videos}", f"--out={out}", *FLAGS]
  process = start(repo_root, *flags)
  assert process.stdout is not None
  for line in process.stdout:
    if line.startswith(stage):
      process.send_signal(signal_number)
      break
  process.communicate(timeout=60)
  assert process.returncode == code
  (out / ".cache/analyses/.0123456789ab.tmp.json").write_text("half of a file")
  assert not (out / ".curated.json").exists()
  assert run(repo_root, *flags)[0] == 0
  assert_same_result(out, curated[0])


@pytest.mark.slow
def test_bundling_does_not_change_the_result(repo_root, curated, videos, tmp_path):
  out = tmp_path / "clips"
  flags = ["--direct_running_mode=in_memory", "--direct_num_workers=3"]
  code, text = run(repo_root, f"--videos={videos}", f"--out={out}", *FLAGS, *flags)
  assert code == 0, text
  assert_same_result(out, curated[0])


@pytest.mark.slow
def test_a_changed_config_runs_again_and_replaces_the_result(repo_root, videos, tmp_path):
  out = tmp_path / "clips"
  flags = [f"--videos={videos}", f"--out={out}", *FLAGS]
  assert run(repo_root, *flags, "--config.shard.megabytes=0.01")[0] == 0
  many = len(schema.shard_files(out, "train"))
  assert many == len(list((out / "shards").glob("clips-train*")))
  assert run(repo_root, *flags)[0] == 0
  assert many > len(schema.shard_files(out, "train")) == 1


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--videos={absent}", "--out={out}"], "no such folder"),
    (["--videos={empty}", "--out={out}"], "no video found"),
    (["--out={out}"], "--videos is missing"),
    (["--videos={videos}", "--out={out}", "--config.select.min_second=1"], "min_seconds"),
    (["--videos={videos}", "--out={out}", "--config={absent}.py"], "does not exist"),
    (["--videos={videos}", "--out={out}", "--confg=x.py"], "did you mean --config?"),
    (["--videos={videos}", "--out={out}", "--runer=x"], "did you mean --runner?"),
  ],
)
def test_bad_input_is_one_line_and_code_2(repo_root, videos, tmp_path, flags, message):
  (tmp_path / "empty").mkdir()
  (tmp_path / "empty" / "note.txt").write_text("nothing here")
  known = {n: tmp_path / n for n in ("absent", "empty", "out")} | {"videos": videos}
  code, text = run(repo_root, *(f.format(**known) for f in flags))
  assert code == 2, text
  assert message in text
  assert "Traceback" not in text
  assert not (tmp_path / "out").exists()


def test_when_nothing_is_kept_the_tables_say_why(repo_root, videos, tmp_path):
  out = tmp_path / "clips"
  code, text = run(
    repo_root, f"--videos={videos}", f"--out={out}", *FLAGS, "--config.select.min_motion_score=99"
  )
  assert code == 3, text
  assert "no clip was kept of 7 shots" in text
  assert "low_motion" in text
  assert len(rows(out)) == 7
  assert (out / "report.html").exists()


@pytest.mark.slow
def test_intact_parts_are_kept_by_option(repo_root, videos, tmp_path):
  out = tmp_path / "clips"
  flags = [*FLAGS, "--config.ingest.keep_intact_part=True"]
  assert run(repo_root, f"--videos={videos}", f"--out={out}", *flags)[0] == 0
  (half,) = [r for r in rows(out) if r["source"] == "half.mkv"]
  assert half["kept"]
  rejects = parquet.read_table(out / "rejects.parquet").to_pylist()
  assert "half.mkv" in {r["source"] for r in rejects}


@pytest.mark.slow
def test_a_list_of_videos(repo_root, videos, tmp_path):
  lines = ["file_name,text,views", "walk.mp4,a listed walk,7", "tall.mov,a tall one,8", "no.mp4,,"]
  (videos / "list.csv").write_text("\n".join(lines))
  out = tmp_path / "clips"
  try:
    code, text = run(repo_root, f"--videos={videos}/list.csv", f"--out={out}", *FLAGS)
  finally:
    (videos / "list.csv").unlink()
  assert code == 0, text
  found = {row["source"]: row for row in rows(out)}
  assert set(found) == {"walk.mp4", "tall.mov"}
  assert dict(found["walk.mp4"]["captions"]).keys() == {"text", "sidecar"}
  assert dict(found["tall.mov"]["captions"]) == {"text": "a tall one"}
  assert dict(found["tall.mov"]["scores"])["views"] == 8.0
  (reject,) = parquet.read_table(out / "rejects.parquet").to_pylist()
  assert (reject["source"], reject["stage"]) == ("no.mp4", "ingest")


@pytest.mark.slow
def test_clips_are_copied_by_option(repo_root, videos, tmp_path):
  out = tmp_path / "clips"
  flags = [*FLAGS, "--config.encode.copy=True", "--config.encode.short_side=32"]
  code, text = run(repo_root, f"--videos={videos}", f"--out={out}", *flags)
  assert code == 0, text
  kept = {row["clip_id"]: row for row in rows(out) if row["kept"]}
  records = [schema.parse_record(d) for data in payloads(out).values() for d in data]
  assert {record.clip_id for record in records} == set(kept)
  codecs = {r.source: (video.probe(r.video).codec, min(r.width, r.height)) for r in records}
  assert codecs.pop("tall.mov") == ("h264", 72)
  codecs.pop("deep/er/pan.mkv", None)  # or its copy is kept
  assert set(codecs.values()) == {("h264", 32)}, "encoded: VP8 and AVI fit no mp4"
  walk = [row for row in rows(out) if row["source"] == "walk.mp4"]
  assert all("too_short" in row["drop_reasons"] for row in walk), "no key frames but the first"


@pytest.mark.slow
def test_videos_and_results_in_an_object_store(repo_root, curated, videos, tmp_path):
  with object_store.serve() as store, store.environment():
    storage.publish(videos, "gs://raw/videos")
    code, text = run(repo_root, "--videos=gs://raw/videos", "--out=gs://lake/clips", *FLAGS)
    assert code == 0, text
    assert (
      "already done"
      in run(repo_root, "--videos=gs://raw/videos", "--out=gs://lake/clips", *FLAGS)[1]
    )
    with storage.local_copy("gs://lake/clips") as local:
      assert_same_result(pathlib.Path(local), curated[0], same_videos=False)


@pytest.mark.slow
def test_real_videos(repo_root, shared_data, tmp_path):
  out = tmp_path / "clips"
  code, text = run(repo_root, f"--videos={shared_data}", f"--out={out}")
  assert code == 0, text
  manifest = json.loads((shared_data / "MANIFEST.json").read_text())["files"]
  kinds = {f["file"]: f["kind"] for f in manifest if f["file"].startswith("videos/")}
  rejects = {r["source"] for r in parquet.read_table(out / "rejects.parquet").to_pylist()}
  assert {r["source"] for r in rows(out)} == {n for n, k in kinds.items() if k == "video"}
  assert rejects == {n for n, k in kinds.items() if k in ("broken", "audio")}
  repeated = {r["source"] for r in rows(out) if "duplicate" in r["drop_reasons"]}
  assert repeated == {
    "videos/big_buck_bunny_480p_30s.mp4",
    "videos/chaplin_vp9.webm",
    "videos/flower_hevc.mov",
    "videos/nasa_13013.mp4",
  }
