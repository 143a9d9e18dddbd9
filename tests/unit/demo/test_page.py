"""The demo page: built from whatever is there, with files of its own folder only."""

import html.parser
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from demo import page, page_quality
from tests import clip_shards
from vidjax import render, storage


class Links(html.parser.HTMLParser):
  """Collects what a page refers to, and checks that tags close in order."""

  VOID = frozenset({"meta", "img", "br", "line", "path", "circle", "source"})

  def __init__(self, text):
    super().__init__()
    self.links, self.open = [], []
    self.feed(text)
    assert not self.open, self.open

  def handle_starttag(self, tag, attrs):
    self.links += [value for name, value in attrs if name in ("src", "href")]
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    if tag not in self.VOID and tag != "li":
      assert self.open.pop() == tag
    elif tag == "li":
      assert self.open.pop() == "li"


def clip_row(clip_id, **changes):
  row = {
    "clip_id": clip_id,
    "source": f"{clip_id}.mp4",
    "cut_start_frame": 0,
    "cut_end_frame": 60,
    "source_fps": 12.0,
    "start_boundary": "file",
    "start_time_s": 0.0,
    "end_time_s": 5.0,
    "width": 64,
    "height": 64,
    "motion_score": 1.5,
    "captions": [("sidecar", "<b>not bold</b> & more")],
    "kept": True,
    "drop_reasons": [],
  }
  return row | changes


def write_clips(root):
  records = [clip_shards.make_clip(i, clip_shards.steady(5)) for i in range(2)]
  clip_shards.write_shards(root / "clips", records)
  rows = [
    clip_row("clip00"),
    clip_row("clip01"),
    clip_row("short", kept=False, drop_reasons=["too_short"], motion_score=None, captions=[]),
  ]
  schema = pa.schema(
    [("captions", pa.map_(pa.string(), pa.string())), ("drop_reasons", pa.list_(pa.string()))]
  )
  table = pa.Table.from_pylist(rows)
  for field in schema:
    values = pa.array([row[field.name] for row in rows], field.type)
    table = table.set_column(table.column_names.index(field.name), field.name, values)
  pa.parquet.write_table(table, root / "clips" / "clips.parquet")
  rejects = pa.Table.from_pylist([{"source": "x.mp4", "stage": "open", "error": "no moov atom"}])
  pa.parquet.write_table(rejects, root / "clips" / "rejects.parquet")


def write_training(root, name, steps, total):
  rows = [
    {"attempt": 1, "step": s, "samples": 4 * s, "loss": 1 / s if s != 3 else None,
     "step_seconds": 0.5, "clips_per_second": 8.0}
    for s in range(1, steps + 1)
  ]  # fmt: skip
  (root / name).mkdir(parents=True)
  (root / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  storage.write_json(root / name / "config.json", {"total_samples": 4 * total, "batch_size": 4})


def write_rest(root):
  for kind in ("real", "reconstructed", "generated"):
    render.write_video(root / "samples" / f"00_{kind}.gif", np.zeros((2, 8, 8, 3), np.uint8), 4.0)
    (root / "samples" / f"00_{kind}.gif").rename(root / "samples" / f"00_{kind}.mp4")
  note = {"clip_id": "clip00", "split": "holdout", "caption": "a <caption>"}
  storage.write_json(root / "samples" / "00.json", note)
  render.write_png(root / "samples" / "contact_sheet.png", np.zeros((8, 8, 3), np.uint8))
  storage.write_json(root / "eval.json", result())
  storage.write_json(root / "export" / "model_index.json", {"_class_name": "SomePipeline"})


def result(model_motion=0.5):
  values = {
    "real_split": (0.05, 0.05),
    "model": (0.3, model_motion),
    "first_frame": (0.02, 1.5),
    "mean_frame": (1.0, 1.5),
    "untrained": (20.0, 20.0),
  }
  metrics = {}
  for key, (appearance, motion) in values.items():
    terms = {"distance": appearance + motion, "appearance": appearance, "motion": motion}
    for term, value in (terms | {"frame_difference": 1.0}).items():
      metrics[f"{key}/{term}"] = {"value": value, "low": None, "high": None, "unit": "u"}
  return {
    "protocol": "demo", "protocol_hash": "abcd", "n_real": 16, "n_fake": 16, "metrics": metrics
  }  # fmt: skip


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path):
  path = page.build(str(tmp_path))
  text = (tmp_path / "index.html").read_text()
  assert path == str(tmp_path / "index.html")
  assert text.count("Not there yet") == 8
  Links(text)


def test_a_whole_run_is_shown_with_files_that_exist(tmp_path):
  write_clips(tmp_path)
  for name, *_ in page.STAGES:
    write_training(tmp_path, name, steps=12, total=12)
  write_rest(tmp_path)
  page.build(str(tmp_path))
  text = (tmp_path / "index.html").read_text()
  assert "Not there yet" not in text
  assert text.count('<li class="done">') == 8
  for link in Links(text).links:
    assert link.startswith("#") or (tmp_path / link).is_file(), link
  for outside in ("http://", "https://", "@import", "url("):
    assert outside not in text
  assert "<b>not bold</b>" not in text
  assert "&lt;b&gt;not bold&lt;/b&gt; &amp; more" in text
  assert "no moov atom" in text
  assert "1 too short" in text
  assert "diffusers.SomePipeline.from_pretrained" in text


def test_building_again_changes_nothing(tmp_path):
  write_clips(tmp_path)
  page.build(str(tmp_path))
  first = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
  page.build(str(tmp_path))
  assert first == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_kept_clips_are_playable_files(tmp_path):
  write_clips(tmp_path)
  page.build(str(tmp_path))
  record = clip_shards.make_clip(1, clip_shards.steady(5))
  assert (tmp_path / "page" / "clips" / "clip01.mp4").read_bytes() == record.video
  assert not (tmp_path / "page" / "clips" / "short.mp4").exists()


def test_a_stage_under_way_is_not_called_done(tmp_path):
  write_training(tmp_path, "image", steps=5, total=12)
  write_training(tmp_path, "autoencoder", steps=1, total=12)
  page.build(str(tmp_path))
  text = (tmp_path / "index.html").read_text()
  assert "5 of 12 steps" in text
  assert "1 steps so far" in text
  assert '<li class="done">' not in text


@pytest.mark.parametrize(("motion", "good"), [(0.5, True), (2.5, False)])
def test_claims_follow_the_numbers(tmp_path, motion, good):
  storage.write_json(tmp_path / "eval.json", result(motion))
  quality = page_quality.describe(storage.Path(tmp_path))
  assert quality is not None
  claims = {claim.text: claim.good for claim in quality["claims"]}
  assert claims == {
    f"{'Closer' if good else 'Not closer'} to real video than the mean training frame": good,
    "Closer to real video than the untrained model": True,
    f"{'Motion closer' if good else 'Motion not closer'} to real video than a frozen first frame":
      good,
  }  # fmt: skip
