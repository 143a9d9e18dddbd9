"""Pictures, or videos, with texts: a folder with a table of captions, or WebDataset archives."""

from collections.abc import Mapping
import hashlib
import json
from typing import Any

from vidjax import errors, storage
from vidjax.data.sources import archive, folder, index, table
from vidjax.data.sources import options as data_options

_OPTIONS = ("caption",)


def open_source(path: str, split: str, options: Mapping[str, Any]) -> folder.FileSource:
  """Opens `path/split`, or `path` where there is no such folder.

  With `metadata.jsonl`, `metadata.csv` or `*.parquet` in it, it is a folder with a table
  (`table.units`); else its `*.tar` are archives (`archive.look`). The digest is of the relative
  paths, sizes in bytes and captions of all clips in their order.

  Args:
    path: the folder.
    split: name of the split.
    options: `caption`, which says what the captions are: a column of the table or a field of the
      JSON files in archives (`txt` is the text file), several, or a map from names to them.

  Raises:
    ValueError: an unknown option.
    FileNotFoundError: there is no such folder.
    DataError: there is no such split, no table and no archive, or one that cannot be read.
  """
  data_options.check("image_text", options, _OPTIONS)
  columns = None
  if options.get("caption") is not None:
    columns = data_options.columns("caption", options["caption"])
  root = folder.split_folder(path, split)
  states = folder.visible(storage.file_states(root))
  # Another choice of captions makes another index: two runs do not take turns in one file.
  text = json.dumps(columns, sort_keys=True)
  suffix = "-" + hashlib.sha256(text.encode()).hexdigest()[:8] if columns else ""
  name = f"index-image_text{suffix}.npz"
  tables = [s.name for s in states if "/" not in s.name and table.is_table(s.name)]
  if tables:
    return folder.open_index(path, root, name, *table.units(root, tables, states, columns))
  archives = [state for state in states if state.name.endswith(".tar")]
  if not archives:
    raise errors.DataError(
      f"{root}: neither metadata.jsonl, metadata.csv or *.parquet, nor archives *.tar in there"
    )
  units = [index.Unit(state.name, f"{state.size} {state.version}") for state in archives]
  return folder.open_index(path, root, name, units, lambda file: archive.look(root, file, columns))
