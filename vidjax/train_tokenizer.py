"""Learns a text encoder's tokenizer from captions: a SentencePiece model with the ids of T5.

  vidjax train_tokenizer --captions=PATH --out=DIR --vocab_size=N [--model_type=unigram|bpe]
    [--length=128] [--max_captions=5000000]

`--captions` is a UTF-8 text file with a caption in each line, or what `vidjax curate` leaves: the
table `clips.parquet` or its folder, of which all captions of all clips that were kept are taken
(needs the extra `curate`). Writes `spiece.model` and `tokenizer_config.json`, which text encoders
find in a folder `tokenizer` beside them; transformers' T5Tokenizer reads those of type unigram. The
same captions give the same files.
Exit codes: 0 done; 2 bad flag, path or vocabulary size; 3 captions that cannot be read, or none;
7 disk full; 130 interrupted.
"""

from collections.abc import Iterable, Iterator
import io
import random
from typing import Any

from absl import flags
import numpy as np

from vidjax import command, storage
from vidjax.encoders import sentencepiece_tokenizer, tokenizers
from vidjax.encoders.sentencepiece_tokenizer import LENGTH, MODEL_TYPES, TRAINED_LENGTH
from vidjax.errors import DataError
from vidjax.observe import console

_TABLE = "clips.parquet"
_SEED = 0  # of the choice among too many captions


def train(
  captions: str,
  out: str,
  vocab_size: int,
  *,
  model_type: str = MODEL_TYPES[0],
  length: int = LENGTH,
  max_captions: int = 5_000_000,
) -> None:
  """Learns a tokenizer from the captions in `captions` and writes it to folder `out`.

  Args:
    captions: text file, table of clips, or folder with one.
    out: folder to write.
    vocab_size: number of ids, with those of padding, end and what is unknown.
    model_type: one of `MODEL_TYPES`.
    length: ids of a caption, padding included.
    max_captions: of more, as many are drawn and held in memory.

  Raises:
    ValueError: no such file, or a number that does not fit.
    DataError: the captions cannot be read, or there are none.
  """
  if not 2 <= length < TRAINED_LENGTH:
    raise ValueError(f"--length={length}: from 2 to {TRAINED_LENGTH - 1}")
  if max_captions < 1:
    raise ValueError(f"--max_captions={max_captions}: at least 1")
  texts, found = draw(read_captions(captions), max_captions)
  if not texts:
    raise DataError(f"{captions} has no captions: a line of text each, or clips with captions")
  tokenizer = sentencepiece_tokenizer.learn(texts, vocab_size, model_type=model_type, length=length)
  tokenizers.save(tokenizer, out)
  tokens = np.array([len(tokenizer.pieces(text)) + 1 for text in texts])
  of_all = f" of {found:,}" if found > len(texts) else ""
  console.line(
    f"{tokenizer.vocab_size:,} pieces from {len(texts):,}{of_all} captions; tokens per caption:"
    f" {tokens.mean():.1f} on average, {np.percentile(tokens, 95):.0f} or fewer in 95 %,"
    f" {tokens.max()} at most; {np.mean(tokens > length):.2%} are cut at --length={length}"
  )
  console.line(f"{out}: {sentencepiece_tokenizer.FILE}, tokenizer_config.json")


def read_captions(source: str) -> Iterator[str]:
  """The captions in `source`, one line each and without empty ones, in their order.

  Raises:
    ValueError: there is no such file, or what reads it is not installed.
    DataError: the file is broken, or of another kind.
  """
  path = storage.Path(source)
  if path.is_dir():
    path = path / _TABLE
    if not path.exists():
      raise ValueError(f"{path} does not exist: name a text file, or what `vidjax curate` wrote")
  if not path.exists():
    raise ValueError(f"--captions={source} does not exist")
  lines = _table_lines(path) if path.suffix == ".parquet" else _text_lines(path)
  return (text for line in lines if (text := " ".join(line.split())))


def draw(captions: Iterable[str], most: int) -> tuple[list[str], int]:
  """At most `most` of the captions, always the same ones, all with the same chance.

  Returns:
    The captions, and how many there were.
  """
  chosen: list[str] = []
  rng, count = random.Random(_SEED), 0
  for count, caption in enumerate(captions, start=1):
    if count <= most:
      chosen.append(caption)
    elif (place := rng.randrange(count)) < most:
      chosen[place] = caption
  return chosen, count


def _text_lines(path: storage.Path) -> Iterator[str]:
  with io.TextIOWrapper(storage.open_read(path), encoding="utf-8-sig") as file:
    try:
      yield from file
    except UnicodeDecodeError as exc:
      raise DataError(f"{path} is not UTF-8 text: {exc.reason}; convert it first") from exc


def _table_lines(path: storage.Path) -> Iterator[str]:
  try:
    import pyarrow as pa
    from pyarrow import parquet
  except ImportError as exc:
    raise ValueError(f"reading {path} needs pyarrow: pip install 'vidjax[curate]'") from exc
  with storage.open_read(path) as file:
    try:
      table = parquet.ParquetFile(file)
      schema = table.schema_arrow
      if "captions" not in schema.names or not pa.types.is_map(schema.field("captions").type):
        raise DataError(
          f"{path} has no column `captions` of names and texts: is it a table of `vidjax curate`?"
        )
      columns = [name for name in ("captions", "kept") if name in schema.names]
      for batch in table.iter_batches(columns=columns):
        yield from _row_captions(batch.to_pylist())
    except (pa.ArrowException, OSError) as exc:
      raise DataError(f"{path} cannot be read as a parquet file: {exc}") from exc


def _row_captions(rows: list[dict[str, Any]]) -> Iterator[str]:
  for row in rows:
    if row.get("kept", True):
      yield from (text for _, text in row["captions"] or () if text)


def main() -> None:
  """The verb: see the module's text."""
  given = flags.FLAGS
  train(
    given.captions,
    given.out,
    given.vocab_size,
    model_type=given.model_type,
    length=given.length,
    max_captions=given.max_captions,
  )


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  flags.DEFINE_string("captions", None, "Text file, clips.parquet or its folder.", required=True)
  flags.DEFINE_string("out", None, "Folder to write.", required=True)
  flags.DEFINE_integer("vocab_size", None, "Number of token ids.", required=True)
  flags.DEFINE_enum("model_type", MODEL_TYPES[0], list(MODEL_TYPES), "How pieces are learned.")
  flags.DEFINE_integer("length", LENGTH, "Tokens of a caption, padding included.")
  flags.DEFINE_integer("max_captions", 5_000_000, "Of more captions, as many are drawn.")


if __name__ == "__main__":
  define_flags()
  command.run(main)
