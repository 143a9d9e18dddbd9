"""PyTorch's pickled checkpoints as safetensors: the only use of torch, and only if asked for.

A pickle may run any program when it is read. torch's `weights_only=True`, which needs the extra
`torch`, refuses what is not plain tensors and containers. What it lets through is bounded here: a
file of kilobytes can hold zip members, or tensors of one number repeated, that unpack to terabytes.
"""

from collections.abc import Iterator
import contextlib
import re
import tempfile
from typing import Any
import zipfile

import numpy as np

from vidjax import lazy, storage
from vidjax.interop import safetensors
from vidjax.interop.layouts import PICKLES

# Before it, `weights_only` could be made to run programs (CVE-2025-32434).
_SAFE_TORCH = (2, 6)
# Lightning and many others, timm and MAE, DeepSpeed.
_NESTED = ("state_dict", "model", "module")
# Tensors that share their numbers, as tied embeddings do, are written once and counted twice.
_MAX_RATIO = 2


def is_pickle(path: storage.PathLike) -> bool:
  """Whether the file name is one of those under which models are pickled."""
  return storage.Path(path).suffix in PICKLES


@contextlib.contextmanager
def as_safetensors(path: storage.PathLike) -> Iterator[str]:
  """Gives a safetensors file with the tensors of a pickle, for the length of the block.

  Raises:
    ValueError: torch is not installed or too old, or the file holds other things than tensors, or
      says more than it has bytes for.
  """
  try:
    import torch
  except ModuleNotFoundError as exc:
    raise ValueError(f"{path} is read by torch: install the extra `torch`") from exc
  if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < _SAFE_TORCH:
    raise ValueError(
      f"{path} is not read by torch {torch.__version__}, which pickles can make run programs:"
      f" install torch {'.'.join(map(str, _SAFE_TORCH))} or newer"
    )
  if not storage.Path(path).exists():
    raise ValueError(f"{path} does not exist")
  with storage.local_copy(path) as local, tempfile.TemporaryDirectory(prefix="vidjax-") as folder:
    _check_members(path, local)
    try:
      content: Any = torch.load(local, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch raises what pickle, zipfile and itself think of
      raise ValueError(f"{path} is not a file of plain tensors: {_reason(exc)}") from exc
    content = _weights(content)
    tensors = _tensors(content, torch)
    if not tensors:
      raise ValueError(f"{path} holds no tensors by name")
    stated = sum(t.numel() * t.element_size() for t in tensors.values())
    available = storage.Path(local).stat().length
    if stated > _MAX_RATIO * available:
      raise ValueError(
        f"{path} has {available} bytes, and its tensors say that they have {stated}: this is no"
        " checkpoint that training writes"
      )
    specs = {name: (np.dtype(np.float32), tuple(t.shape)) for name, t in sorted(tensors.items())}
    size = sum(4 * t.numel() for t in tensors.values())
    progress = lazy.watched(list(specs), "reading the pickle", size)

    def value(name: str) -> np.ndarray:
      assert next(progress) == name
      return tensors[name].detach().float().numpy()

    (written,) = safetensors.write(folder, "model", specs, value, max_shard_bytes=1 << 62)
    yield str(written)


def _weights(content: Any) -> Any:
  """The map of weights in what training scripts save: below one of the usual keys, or all of it."""
  if isinstance(content, dict):
    for key in _NESTED:
      if isinstance(content.get(key), dict):
        return content[key]
  return content


def _reason(exc: Exception) -> str:
  """What torch found, without its advice to read the file in the way that runs programs."""
  text = str(exc)
  if found := re.search(r"\bGLOBAL ([\w.]+)", text):
    return f"it calls for {found[1]}, which is code and no tensor"
  if "weights_only" in text or "Weights only" in text:
    return "it holds more than tensors, numbers, texts and containers of them"
  return (text.splitlines() or [type(exc).__name__])[0]


def _check_members(path: storage.PathLike, local: str) -> None:
  """Refuses a zip file whose members unpack to more than it; torch stores them as they are."""
  if not zipfile.is_zipfile(local):
    return  # the layout before torch 1.6, whose tensors follow one another uncompressed
  try:
    with zipfile.ZipFile(local) as archive:
      members = archive.infolist()
  except zipfile.BadZipFile as exc:
    raise ValueError(f"{path} is not a file of plain tensors: {exc}") from exc
  unpacked = sum(member.file_size for member in members)
  if unpacked > storage.Path(local).stat().length:
    raise ValueError(
      f"{path} is a zip file that unpacks to {unpacked} bytes, more than it has: torch does not"
      " compress what it saves, decompression bombs do"
    )


def _tensors(content: Any, torch: Any) -> dict[str, Any]:
  """The tensors of floating-point numbers in a map, by name.

  A pickle may give a tensor attributes that stand before its methods, so methods are looked up in
  its class, and what comes out is a tensor without any.
  """
  if not isinstance(content, dict):
    return {}
  plain = {
    name: torch.Tensor.detach(value)
    for name, value in content.items()
    if isinstance(name, str) and type(value) in (torch.Tensor, torch.nn.Parameter)
  }
  return {
    name: value
    for name, value in plain.items()
    if value.is_floating_point() and value.layout is torch.strided and value.device.type == "cpu"
  }
