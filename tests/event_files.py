"""Reads TensorBoard's event files."""

import pathlib
import struct
from typing import Any

from tensorboardX.proto import event_pb2


def events(folder: pathlib.Path) -> dict[str, list[tuple[int, Any]]]:
  """(step, value) by name, of all event files: TFRecord frames of length, CRC, content, CRC."""
  found: dict[str, list[tuple[int, Any]]] = {}
  for file in sorted(folder.glob("events.out.tfevents.*")):
    content, at = file.read_bytes(), 0
    while at < len(content):
      (length,) = struct.unpack_from("<Q", content, at)
      event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
      at += 16 + length
      for value in event.summary.value:
        kind = value.WhichOneof("value")
        shown = {
          "simple_value": lambda v: v.simple_value,
          "image": lambda v: (v.image.height, v.image.width),
          "tensor": lambda v: b"".join(v.tensor.string_val).decode(),
        }[kind](value)
        found.setdefault(value.tag.removesuffix("/text_summary"), []).append((event.step, shown))
  return found
