import io
import json
import math
import pickle
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow
from pyarrow import parquet
import pytest

from vidjax import errors
from vidjax.data import sources, video
from vidjax.data.config import SetConfig
from vidjax.data.sources import archive

RNG = np.random.default_rng(1)
PICTURES = RNG.integers(0, 256, (6, 12, 16, 3), dtype=np.uint8)


def open_set(path, split="train", **options):
  return sources.open_source(SetConfig(str(path), "image_text", split, options=options))


@pytest.fixture
def folder(tmp_path, png):
  for i, picture in enumerate(PICTURES):
    (tmp_path / "p").mkdir(exist_ok=True)
    (tmp_path / "p" / f"{i}.png").write_bytes(png(picture))
  return tmp_path


def rows(**changes):
  made = [{"file_name": f"p/{i}.png", "text": f"Picture {i}.", "short": f"P{i}"} for i in range(6)]
  made[2] |= changes
  return made


def write_jsonl(folder, table):
  text = "\n".join(json.dumps(row) for row in table) + "\n\n"
  (folder / "metadata.jsonl").write_text(text)


def write_csv(folder, table):
  lines = [",".join(table[0]), *(",".join(f'"{v}"' for v in row.values()) for row in table)]
  (folder / "metadata.csv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")


def write_parquet(folder, table):
  parquet.write_table(pyarrow.Table.from_pylist(table[:4]), folder / "train-00000-of-00002.parquet")
  parquet.write_table(pyarrow.Table.from_pylist(table[4:]), folder / "train-00001-of-00002.parquet")


@pytest.mark.parametrize("write", [write_jsonl, write_csv, write_parquet])
def test_tables(folder, write):
  write(folder, rows())
  source = open_set(folder)
  assert [source.name(i) for i in range(6)] == [f"p/{i}.png" for i in range(6)]
  assert (source.listing.durations_s == math.inf).all()
  assert source[4].captions == {"text": "Picture 4."}
  np.testing.assert_array_equal(source[4].read(np.zeros(1), (12, 16))[0], PICTURES[4])
  named = open_set(folder, caption={"long": "text", "brief": "short"})
  assert named[1].captions == {"long": "Picture 1.", "brief": "P1"}
  assert open_set(folder, caption="short")[1].captions == {"short": "P1"}
  assert named.listing.digest != source.listing.digest
  assert {named.index_file, source.index_file} <= {str(f) for f in folder.glob("index-*.npz")}


def test_rows_without_a_caption_or_with_several(folder):
  table = [
    *rows(text=None),
    {"file_name": "p/0.png", "text": ["Again.", " ", "And again."]},
    {"file_name": "p/1.png"},
  ]
  write_jsonl(folder, table)
  source = open_set(folder)
  assert source[2].captions == source[7].captions == {}
  assert source[6].captions == {"text": "Again.", "text_1": "And again."}
  assert source[6].clip_id == "p/0.png#2"  # a picture with two rows
  assert source[6].source == "p/0.png"
  np.testing.assert_array_equal(source[6].read(np.zeros(1), (12, 16))[0], PICTURES[0])


def test_the_digest_of_a_table(folder):
  write_jsonl(folder, rows())
  digests = [open_set(folder).listing.digest]
  write_jsonl(folder, rows(short="other"))  # nobody reads it
  assert open_set(folder).listing.digest == digests[0]
  write_jsonl(folder, rows(text="Other."))
  digests.append(open_set(folder).listing.digest)
  write_jsonl(folder, rows()[::-1])
  digests.append(open_set(folder).listing.digest)
  assert len(set(digests)) == 3
  assert open_set(folder)[0].captions == {"text": "Picture 5."}


def test_a_missing_file_is_a_damaged_clip(folder, caplog):
  write_jsonl(folder, rows(file_name="p/gone.png"))
  source = open_set(folder)
  assert np.isnan(source.listing.durations_s).tolist() == [False, False, True, False, False, False]
  assert "p/gone.png cannot be read" in caplog.text
  with pytest.raises(OSError):
    source[2].read(np.zeros(1), (8, 8))


@pytest.mark.parametrize(
  ("text", "options", "message"),
  [
    (
      '{"file_name": "a.png", "prompt": "x"}',
      {},
      "no column 'text', it has file_name, prompt; say",
    ),
    (
      '{"file_name": "a.png", "text": "x"}',
      {"caption": "y"},
      "no column 'y', it has file_name, text",
    ),
    ('{"text": "x"}', {}, r"no column 'file_name', it has text$"),
    ('{"file_name": "a.png", "text": "x"}\n{"file_na', {}, "line 2 is not JSON"),
    ("[1, 2]", {}, "line 1 is no JSON object"),
    ('{"file_name": 3, "text": "x"}', {}, "row 0 names no file"),
    ("\n", {}, "has no rows"),
  ],
)
def test_tables_that_cannot_be_used(tmp_path, text, options, message):
  (tmp_path / "metadata.jsonl").write_text(text)
  with pytest.raises(errors.DataError, match=message):
    open_set(tmp_path, **options)


def test_other_things_that_cannot_be_used(folder):
  with pytest.raises(errors.DataError, match=r"neither metadata.jsonl.*nor archives"):
    open_set(folder)
  (folder / "metadata.parquet").write_bytes(b"PAR1 not really")
  with pytest.raises(errors.DataError, match=r"metadata\.parquet cannot be read"):
    open_set(folder)
  write_csv(folder, rows())
  with pytest.raises(errors.DataError, match=r"several tables: metadata.csv, metadata.parquet"):
    open_set(folder)
  with pytest.raises(ValueError, match="has no option 'captions': it knows caption"):
    open_set(folder, captions="text")
  with pytest.raises(ValueError, match="caption=3: give a name"):
    open_set(folder, caption=3)


def test_parquet_without_pyarrow(folder, monkeypatch):
  write_parquet(folder, rows())
  monkeypatch.setitem(sys.modules, "pyarrow", None)
  with pytest.raises(errors.DataError, match="needs pyarrow: pip install pyarrow"):
    open_set(folder)


def write_tar(path, members, format=tarfile.PAX_FORMAT):
  with tarfile.open(path, "w", format=format) as tar:
    for name, content in members:
      entry = tarfile.TarInfo(name)
      entry.size = len(content)
      tar.addfile(entry, io.BytesIO(content))
  return path


def sample(i, png, text=None):
  facts = {"caption": f"Caption {i}.", "alt": f"Alt {i}.", "url": "https://x", "width": 16}
  members = [(f"{i:05d}.png", png(PICTURES[i])), (f"{i:05d}.json", json.dumps(facts).encode())]
  return [*members, *([(f"{i:05d}.txt", text.encode())] if text else [])]


@pytest.fixture
def archives(tmp_path, png, videos):
  write_tar(tmp_path / "00000.tar", [m for i in range(3) for m in sample(i, png, f"Text {i}.")])
  long = "a" * 150 + "/"  # beyond what a plain header holds
  write_tar(
    tmp_path / "00001.tar",
    [
      *sample(3, png),
      (long + "film.x.mp4", (videos / "a.mp4").read_bytes()),
      (long + "film.x.png", b"no picture, and not looked at"),
      (long + "film.txt", b" A film. "),
      ("words.txt", b"shows nothing"),
    ],
    format=tarfile.GNU_FORMAT,
  )
  return tmp_path


def test_archives(archives, videos):
  source = open_set(archives)
  long = "a" * 150
  assert [source.name(i) for i in range(5)] == [
    *(f"00000.tar/0000{i}.png" for i in range(3)),
    "00001.tar/00003.png",
    f"00001.tar/{long}/film.x.mp4",
  ]
  assert [source[i].captions["sidecar"] for i in range(5)] == [
    *("Text 0.", "Text 1.", "Text 2.", "Caption 3.", "A film.")
  ]
  for i in range(4):
    np.testing.assert_array_equal(source[i].read(np.zeros(1), (12, 16))[0], PICTURES[i])
  film = source[4]
  assert film.duration_s == source.listing.durations_s[4] == pytest.approx(2.0)
  moments_s = np.array([0.3, 1.7])
  np.testing.assert_array_equal(
    film.read(moments_s, (72, 128)), video.read_frames_at(str(videos / "a.mp4"), moments_s)
  )
  assert len(film.times_s()) == 24
  assert len(pickle.dumps(source)) < 2500


def test_fields_of_archives(archives):
  source = open_set(archives, caption={"alt": "alt", "own": "txt"})
  assert source[0].captions == {"alt": "Alt 0.", "own": "Text 0."}
  assert source[3].captions == {"alt": "Alt 3."}


def test_only_changed_archives_are_walked_again(archives, png, monkeypatch):
  before = open_set(archives).listing.digest
  walked = []
  look = archive.look
  monkeypatch.setattr(archive, "look", lambda *a: walked.append(a[1]) or look(*a))
  assert open_set(archives).listing.digest == before
  assert walked == []
  write_tar(archives / "00000.tar", [m for i in range(3) for m in sample(i, png, f"Line {i}.")])
  changed = open_set(archives)  # of the same size
  assert walked == ["00000.tar"]
  assert changed[1].captions == {"sidecar": "Line 1."}
  assert changed.listing.digest != before


@pytest.mark.parametrize("cut", ["in a picture", "in a header"])
def test_an_archive_that_is_cut_short(tmp_path, png, caplog, cut):
  path = write_tar(tmp_path / "0.tar", [(f"{i}.png", png(PICTURES[i])) for i in range(3)])
  with tarfile.open(path) as tar:
    last = tar.getmembers()[2]
  keep = last.offset_data + 50 if cut == "in a picture" else last.offset + 100
  path.write_bytes(path.read_bytes()[:keep])
  source = open_set(tmp_path)
  whole = np.isinf(source.listing.durations_s).tolist()
  assert whole == ([True, True, False] if cut == "in a picture" else [True, True])
  np.testing.assert_array_equal(source[1].read(np.zeros(1), (12, 16))[0], PICTURES[1])
  if cut == "in a picture":
    assert "0.tar is cut short" in caplog.text
    assert "0.tar/2.png cannot be read" in caplog.text
    with pytest.raises(errors.DataError, match="ends before byte"):
      source[2].read(np.zeros(1), (8, 8))


@pytest.mark.parametrize("content", [b"", b"no archive" * 200])
def test_what_is_no_archive(archives, content):
  (archives / "00002.tar").write_bytes(content)
  with pytest.raises(errors.DataError, match=r"00002\.tar is no tar archive"):
    open_set(archives)


def test_an_archive_that_shrinks_while_it_is_used(archives):
  source = open_set(archives)
  (archives / "00000.tar").write_bytes((archives / "00000.tar").read_bytes()[:600])
  with pytest.raises(errors.DataError, match="ends before byte"):
    source[1].read(np.zeros(1), (8, 8))


def test_decoding_needs_neither_jax_nor_pyarrow(folder):
  write_parquet(folder, rows())
  code = (
    "import pickle, sys, numpy as np\n"
    "source = pickle.loads(sys.stdin.buffer.read())\n"
    "print(source[0].captions, source[0].read(np.zeros(1), (12, 16)).shape)\n"
    "print([m for m in ('jax', 'flax', 'tensorflow_datasets', 'pyarrow') if m in sys.modules])"
  )
  pickled = pickle.dumps(open_set(folder))
  done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True)
  lines = done.stdout.decode().split("\n")
  assert lines[:2] == ["{'text': 'Picture 0.'} (1, 12, 16, 3)", "[]"], done.stderr.decode()
