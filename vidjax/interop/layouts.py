"""A network wherever it is: in a folder in the layout of diffusers, or in a file in Stability's."""

from collections.abc import Callable
from typing import Any

from vidjax import storage
from vidjax.interop import diffusers, stability
from vidjax.lazy import LazyArray

_FILES = (".safetensors",)
PICKLES = (".ckpt", ".bin", ".pt", ".pth")

_FOLDERS: dict[str, Callable[[storage.PathLike], tuple[Any, dict[str, LazyArray]]]] = {
  "unet": diffusers.open_unet,
  "vae": diffusers.open_vae,
  "text": diffusers.open_text,
  "image": diffusers.open_image,
}


def open_network(kind: str, path: storage.PathLike) -> tuple[Any, dict[str, LazyArray]]:
  """Config of the network of this kind at `path`, and its parameters, which are read when used.

  Args:
    kind: "unet", "vae", "text" or "image".
    path: its folder, or a file that holds a whole model.

  Raises:
    ValueError: there is no such network; the message names folder, file and key.
    CheckpointError: its weights are not what its config says.
  """
  if is_file(path):
    return stability.open_file(path).open(kind)
  return _FOLDERS[kind](path)


def is_file(path: storage.PathLike) -> bool:
  """Whether `path` names a model in one file.

  Raises:
    ValueError: it is a pickle, which is read by `vidjax export` only.
  """
  suffix = storage.Path(path).suffix
  if suffix in PICKLES:
    raise ValueError(
      f"{path} is a pickle, which may run any program when it is read. Take the .safetensors file"
      f" of the model; or, if you trust it, convert it once: vidjax export --model={path}"
      " --allow_pickle --format=stability --out=DIR"
    )
  return suffix in _FILES
