"""PyTorch's pickled checkpoints as safetensors: the only use of torch, and only if asked for.

A pickle may run any program when it is read. torch's `weights_only=True` refuses what is not plain
tensors and containers; it needs the extra `torch`.
"""

from collections.abc import Iterator
import contextlib
import tempfile
from typing import Any

import numpy as np

from vidjax import lazy, storage
from vidjax.interop import safetensors
from vidjax.interop.layouts import PICKLES


def is_pickle(path: storage.PathLike) -> bool:
  """Whether the file name is one of those under which models are pickled."""
  return storage.Path(path).suffix in PICKLES


@contextlib.contextmanager
def as_safetensors(path: storage.PathLike) -> Iterator[str]:
  """Gives a safetensors file with the tensors of a pickle, for the length of the block.

  Raises:
    ValueError: torch is not installed, or the file holds other things than tensors.
  """
  try:
    import torch
  except ModuleNotFoundError as exc:
    raise ValueError(f"{path} is read by torch: install the extra `torch`") from exc
  if not storage.Path(path).exists():
    raise ValueError(f"{path} does not exist")
  with storage.local_copy(path) as local, tempfile.TemporaryDirectory(prefix="vidjax-") as folder:
    try:
      content: Any = torch.load(local, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch raises what pickle, zipfile and itself think of
      raise ValueError(
        f"{path} is not a file of plain tensors: {str(exc).splitlines()[0]}"
      ) from exc
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    tensors = _tensors(content, torch.Tensor)
    if not tensors:
      raise ValueError(f"{path} holds no tensors by name")
    specs = {name: (np.dtype(np.float32), tuple(t.shape)) for name, t in sorted(tensors.items())}
    size = sum(4 * t.numel() for t in tensors.values())
    progress = lazy.watched(list(specs), "reading the pickle", size)

    def value(name: str) -> np.ndarray:
      assert next(progress) == name
      return tensors[name].detach().float().numpy()

    (written,) = safetensors.write(folder, "model", specs, value, max_shard_bytes=1 << 62)
    yield str(written)


def _tensors(content: Any, kind: type) -> dict[str, Any]:
  if not isinstance(content, dict):
    return {}
  return {
    name: value
    for name, value in content.items()
    if isinstance(name, str) and isinstance(value, kind) and value.is_floating_point()
  }
