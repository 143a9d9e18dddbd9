"""Captions in files of their own beside what they describe: what users have, and curation reads.

For `a/x.mp4` they are `x.json` and `x.txt`, or the same after the full name, `x.mp4.txt`. A text
file is one caption, named "sidecar". A JSON file may be a text, or an object with `caption` or
`text` (named "sidecar") and `captions`: an object of names and texts, or a list, of which the first
is "sidecar" and the others "sidecar_1" and so on; the rest of it is ignored. An object that has
none of the three and holds nothing but texts is taken for names and texts itself.
"""

import json
from typing import Any

NAME = "sidecar"
MAX_BYTES = (
  1 << 24
)  # captions of one clip, a sentence for each frame of an hour included, have 10 MB


def names(source: str) -> list[str]:
  """Names that side-cars of the file `source` may have; the captions of a later one win."""
  folder, slash, file = source.rpartition("/")
  dot = file.rfind(".")
  stem = file[:dot] if dot > 0 else file
  candidates = (f"{start}{suffix}" for start in (stem, file) for suffix in (".json", ".txt"))
  return [f"{folder}{slash}{name}" for name in candidates if name != file]


def parse(content: bytes, name: str) -> dict[str, str]:
  """Captions in a side-car called `name`, by their names; empty ones are left out."""
  text = content.decode("utf-8-sig", "replace").strip()
  found = _of_json(text) if name.endswith(".json") else {NAME: text}
  return {key: caption for key, caption in found.items() if caption}


def numbered(name: str, texts: list[str]) -> dict[str, str]:
  """Several texts under one name: the first has it, the others a number behind it."""
  return {f"{name}_{i}" if i else name: text for i, text in enumerate(texts)}


def _of_json(text: str) -> dict[str, str]:
  try:
    value = json.loads(text)
  except (ValueError, RecursionError):
    return {}
  if isinstance(value, str):
    return {NAME: value.strip()}
  if not isinstance(value, dict):
    return {}
  captions: dict[str, str] = {}
  many: Any = value.get("captions")
  if not {"captions", "text", "caption"} & set(value):
    many = value if all(isinstance(v, str) for v in value.values()) else None
  if isinstance(many, dict):
    captions.update({str(k): v.strip() for k, v in many.items() if isinstance(v, str)})
  elif isinstance(many, list):
    captions.update(numbered(NAME, [v.strip() for v in many if isinstance(v, str)]))
  for key in ("text", "caption"):
    if isinstance(value.get(key), str):
      captions[NAME] = value[key].strip()
  return captions
