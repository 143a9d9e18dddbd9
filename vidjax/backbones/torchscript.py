"""Feature networks in files of TorchScript: their tensors, and what their programs compute.

`torch.jit.load` may run any program that is in a file, so it is only used on files that the user
says to trust.

Names of tensors in these files are not relied on. Tensors are matched by their order and shape, and
`proof` compares the result with the file's own program.

B clips, T frames, H W pixels, C channels.
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
from typing import Any
import warnings

import numpy as np

from vidjax import storage
from vidjax.backbones import c3d, i3d
from vidjax.backbones.layouts import Shapes

Named = list[tuple[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Script:
  """A program with its tensors.

  Attributes:
    path: the file, for messages.
    module: torch's `ScriptModule`.
    parameters: floating-point parameters in their order, float32.
    buffers: floating-point buffers in their order, float32.
  """

  path: str
  module: Any
  parameters: Named
  buffers: Named


@contextlib.contextmanager
def opened(path: storage.PathLike, trust: bool) -> Iterator[Script]:
  """Loads a program: RUNS WHAT IS IN THE FILE, so only with `trust`.

  Raises:
    ValueError: without trust; torch is not installed; the file is no TorchScript.
  """
  if not trust:
    raise ValueError(
      f"{path} is a program (TorchScript), and converting it runs it: pass --trust if you know"
      " where it comes from"
    )
  try:
    import torch
  except ModuleNotFoundError as exc:
    raise ValueError(f"{path} is read by torch: install the extra `torch`") from exc
  if not storage.Path(path).exists():
    raise ValueError(f"{path} does not exist")
  with storage.local_copy(path) as local:
    try:
      with warnings.catch_warnings():
        # PyTorch finds TorchScript old; these files are in it all the same.
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        module = torch.jit.load(local, map_location="cpu")
    except RuntimeError as exc:
      reason = (str(exc).splitlines() or ["unknown"])[0]
      raise ValueError(f"{path} is not a TorchScript file: {reason}") from exc
    module.eval()
    yield Script(
      str(path), module, _named(module.named_parameters()), _named(module.named_buffers())
    )


def i3d_features(script: Script, video_BTHWC: np.ndarray) -> np.ndarray:
  """Logits (B, 400) that StyleGAN-V's file gives: it rescales and resizes frames itself."""
  return _call(script, video_BTHWC, rescale=True, resize=True, return_features=True)


def c3d_probabilities(script: Script, video_BTHWC: np.ndarray) -> np.ndarray:
  """Probabilities (B, 101) that StyleGAN-V's file gives, which prepares frames itself."""
  return _call(script, video_BTHWC)


def match_i3d(script: Script, wanted: Shapes) -> dict[str, np.ndarray]:
  """Tensors by the names of `layouts.I3D_TORCH`.

  Kernels, vectors and statistics are each in the order of the layers. The last layer has shapes of
  its own, so it may come first or last. Norms without gamma get one of 1.

  Raises:
    ValueError: they do not fit; says how many there are and which is the first that does not.
  """
  kernels = _of_dims(script.parameters, 5)
  vectors = _of_dims(script.parameters, 1)
  last = "logits.conv3d"
  last_shapes = {f"{last}.weight": wanted[f"{last}.weight"], f"{last}.bias": (i3d.CLASSES,)}
  found = {}
  for name, named in ((f"{last}.weight", kernels), (f"{last}.bias", vectors)):
    places = [i for i, (_, value) in enumerate(named) if value.shape == last_shapes[name]]
    if len(places) != 1:
      raise ValueError(_not(script, "I3D", f"no single tensor of shape {last_shapes[name]}"))
    found[name] = named.pop(places[0])[1]
  layers = [name.removesuffix(".conv3d.weight") for name in wanted if name.endswith("3d.weight")]
  layers.remove("logits")
  with_gamma = len(vectors) == 2 * len(layers)
  parts = (".bn.weight", ".bn.bias") if with_gamma else (".bn.bias",)
  statistics = (".bn.running_mean", ".bn.running_var")
  for named, suffixes in (
    (kernels, (".conv3d.weight",)),
    (vectors, parts),
    (_of_dims(script.buffers, 1), statistics),
  ):
    names = [layer + suffix for layer in layers for suffix in suffixes]
    found |= _in_order(script, "I3D", named, names, wanted)
  if not with_gamma:
    found |= {f"{layer}.bn.weight": np.ones_like(found[f"{layer}.bn.bias"]) for layer in layers}
  return found


def match_c3d(script: Script, wanted: Shapes) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Tensors by the names of `layouts.C3D_CHAINER`, and the mean clip (C, T, H, W), BGR.

  The file may hold the mean or what is added in its place, 128 - mean: the mean of video is above
  64, and what is added below.

  Raises:
    ValueError: as `match_i3d`.
  """
  shape = (3, c3d.FRAMES, c3d.SIZE, c3d.SIZE)
  both = script.parameters + script.buffers
  means = [value.reshape(shape) for _, value in both if value.shape in (shape, (1, *shape))]
  if len(means) != 1:
    raise ValueError(_not(script, "C3D", f"no single mean clip of shape {shape}"))
  mean_CTHW = means[0] if means[0].mean() > 64 else 128 - means[0]
  names = list(wanted)
  found = {}
  for dims in (5, 2, 1):
    # A convolution of one pixel may stand before the network, to change the order of colours.
    named = [
      (name, value) for name, value in _of_dims(script.parameters, dims) if value.shape[2:3] != (1,)
    ]
    ordered = [name for name in names if len(wanted[name]) == dims]
    found |= _in_order(script, "C3D", named, ordered, wanted)
  return found, mean_CTHW


def _named(tensors: Any) -> Named:
  return [
    (name, value.detach().float().numpy())
    for name, value in tensors
    if value.is_floating_point() and value.device.type == "cpu"
  ]


def _of_dims(named: Named, dims: int) -> Named:
  return [(name, value) for name, value in named if value.ndim == dims]


def _in_order(
  script: Script, what: str, named: Named, names: list[str], wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
  """Gives the tensors `named` the names `names`, one after the other."""
  for (theirs, value), name in zip(named, names, strict=False):
    if value.shape != wanted[name]:
      problem = f"{theirs} is of shape {value.shape} where {name} of {wanted[name]} is expected"
      raise ValueError(_not(script, what, problem))
  if len(named) != len(names):
    kind = names[0].rpartition(".")[2] if names else "tensor"
    problem = f"{len(named)} tensors like {kind!r} where {len(names)} are expected"
    raise ValueError(_not(script, what, problem))
  return {name: value for name, (_, value) in zip(names, named, strict=True)}


def _not(script: Script, what: str, problem: str) -> str:
  count = len(script.parameters) + len(script.buffers)
  return (
    f"{script.path} is not {what}: of its {count} tensors, the first that does not fit: {problem};"
    " take the file that `vidjax convert_weights --list` names"
  )


def _call(script: Script, video_BTHWC: np.ndarray, **options: bool) -> np.ndarray:
  import torch

  video = torch.from_numpy(np.ascontiguousarray(np.moveaxis(video_BTHWC, -1, 1)))
  try:
    with torch.no_grad():
      result = script.module(video, **options)
  except Exception as exc:  # a program may raise anything
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    raise ValueError(
      f"{script.path}: its program does not take clips as StyleGAN-V's does: {lines[-1]}"
    ) from exc
  if not isinstance(result, torch.Tensor):
    raise ValueError(f"{script.path}: its program gives a {type(result).__name__} and no tensor")
  return result.numpy()
