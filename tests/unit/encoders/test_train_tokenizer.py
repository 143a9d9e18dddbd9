"""The verb that learns a tokenizer: what it reads, writes and says."""

import subprocess
import sys

from caption_corpus import captions
import object_store
import pyarrow as pa
from pyarrow import parquet
import pytest

from vidjax import errors, storage, train_tokenizer
from vidjax.encoders import tokenizers

MAP = pa.map_(pa.string(), pa.string())


def write_text(path, lines=None):
  storage.write_text(path, "\n".join(lines or captions()) + "\n")
  return str(path)


def write_table(path, texts, kept=None):
  columns = {"captions": pa.array(texts, MAP)}
  if kept is not None:
    columns["kept"] = pa.array(kept)
  parquet.write_table(pa.table(columns), path)
  return str(path)


def code_of(*args, **kwargs):
  return errors.run_main(lambda: train_tokenizer.train(*args, **kwargs), debug=False)


def test_text_file(tmp_path, capfd):
  source = write_text(tmp_path / "captions.txt", [*captions(), "", "  "])
  train_tokenizer.train(source, str(tmp_path / "tokenizer"), 60, length=20)
  out, err = capfd.readouterr()
  assert "60 pieces from 400 captions; tokens per caption: " in out
  assert "are cut at --length=20" in out
  assert err == ""
  found = tokenizers.load(str(tmp_path / "text_encoder"))
  assert (found.length, found.pad, found.end) == (20, 0, 1)
  train_tokenizer.train(source, str(tmp_path / "again"), 60, length=20)
  assert tokenizers.load(str(tmp_path / "again")) == found


def test_table_of_clips(tmp_path):
  """All captions of all clips that were kept; the same as a text file of these."""
  texts = captions()
  rows = [[("a", text), ("b", f"{text}\n")] for text in texts]
  write_table(
    tmp_path / "clips.parquet", [*rows, [("a", "dropped")], None], [*[True] * 400, False, True]
  )
  assert list(train_tokenizer.read_captions(str(tmp_path))) == [t for t in texts for _ in range(2)]
  table = write_table(tmp_path / "any.parquet", rows)
  assert len(list(train_tokenizer.read_captions(table))) == 800
  train_tokenizer.train(str(tmp_path), str(tmp_path / "out"), 60, model_type="bpe")
  found = tokenizers.load(str(tmp_path / "out"))
  assert found.vocab_size == 60
  settings = storage.read_json(tmp_path / "out" / "tokenizer_config.json")
  assert settings["tokenizer_class"] == "vidjax.SentencePieceTokenizer"  # none of transformers


def test_on_an_object_store():
  with object_store.serve() as store, store.environment():
    source = write_text(storage.Path("gs://bucket/captions.txt"))
    train_tokenizer.train(source, "gs://bucket/tokenizer", 60)
    assert tokenizers.load("gs://bucket/text_encoder").vocab_size == 60


def test_of_too_many_captions_the_same_are_drawn():
  texts = [str(i) for i in range(1000)]
  chosen, count = train_tokenizer.draw(texts, 100)
  assert count == 1000
  assert len(set(chosen)) == 100
  assert chosen == train_tokenizer.draw(iter(texts), 100)[0]
  assert 300 < sum(map(int, chosen)) / 100 < 700
  assert train_tokenizer.draw(texts, 1000) == (texts, 1000)
  assert train_tokenizer.draw([], 5) == ([], 0)


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize(
  ("size", "message"),
  [
    (5000, "vocab_size=5000 is too high: these captions give at most "),
    (5, "vocab_size=5 is too low: the characters of these captions alone are "),
  ],
)
def test_a_vocabulary_that_does_not_fit_is_explained(tmp_path, capfd, size, message, model_type):
  source = write_text(tmp_path / "captions.txt")
  assert code_of(source, str(tmp_path / "out"), size, model_type=model_type) == 2
  err = capfd.readouterr().err
  assert err.startswith(f"vidjax: error: {message}")
  assert err.count("\n") == 1
  assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_is_one_line(tmp_path, capfd):
  empty, latin, broken = (tmp_path / name for name in ("empty.txt", "latin.txt", "broken.parquet"))
  empty.write_text("\n \n")
  latin.write_bytes("café\n".encode("latin-1"))
  whole = write_table(tmp_path / "whole.parquet", [[("a", "b")]])
  broken.write_bytes((tmp_path / "whole.parquet").read_bytes()[:-20])
  other = tmp_path / "other.parquet"
  parquet.write_table(pa.table({"captions": ["text"]}), other)
  cases = [
    (empty, 60, {}, 3, "has no captions: a line of text each"),
    (latin, 60, {}, 3, "latin.txt is not UTF-8 text"),
    (broken, 60, {}, 3, "broken.parquet cannot be read as a parquet file"),
    (other, 60, {}, 3, "other.parquet has no column `captions` of names and texts"),
    (tmp_path / "none.txt", 60, {}, 2, "none.txt does not exist"),
    (tmp_path, 60, {}, 2, "clips.parquet does not exist"),
    (whole, 60, {"length": 512}, 2, "--length=512: from 2 to 511"),
    (whole, 60, {"max_captions": 0}, 2, "--max_captions=0: at least 1"),
  ]
  for source, size, settings, code, message in cases:
    assert code_of(str(source), str(tmp_path / "out"), size, **settings) == code, source
    err = capfd.readouterr().err
    assert message in err
    assert err.count("\n") == 1, err


def test_a_missing_pyarrow_is_named(tmp_path, monkeypatch, capfd):
  table = write_table(tmp_path / "clips.parquet", [[("a", "b")]])
  monkeypatch.setitem(sys.modules, "pyarrow", None)
  assert code_of(table, str(tmp_path / "out"), 60) == 2
  assert "needs pyarrow: pip install 'vidjax[curate]'" in capfd.readouterr().err


def test_the_command(tmp_path, repo_root):
  source = write_text(tmp_path / "captions.txt")
  command = [sys.executable, "-m", "vidjax.cli", "train_tokenizer", f"--captions={source}"]
  command += [f"--out={tmp_path}/out", "--vocab_size=60", "--max_captions=300"]
  done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert "60 pieces from 300 of 400 captions" in done.stdout
  assert (tmp_path / "out" / "spiece.model").exists()
