"""Published files of feature networks -> parameters. Each converter reads one kind of file.

A converter is called with the path and whether the user trusts the file, and gives parameters and
facts about their source. Pickles are read as tensors alone (`vidjax.interop.pickles`) and need no
trust. Files that are programs are run, to compare the network with them: these do.
"""

from collections.abc import Callable, Mapping
import dataclasses
import math

import numpy as np

from vidjax import packed, storage
from vidjax.backbones import (
  c3d,
  i3d,
  inception,
  layouts,
  proof,
  savedmodel,
  torchscript,
  videomae,
  weights,
)
from vidjax.interop import pickles, safetensors
from vidjax.nn.params import Network, Params


@dataclasses.dataclass(frozen=True)
class Converted:
  """What became of a file.

  Attributes:
    params: float32, by flat name.
    facts: texts for the header of the converted file.
  """

  params: Params
  facts: Mapping[str, str]


Converter = Callable[[storage.PathLike, bool], Converted]

_MEAN_FILE = "mean2.npz"
_MEAN_SHAPE = (3, c3d.FRAMES, 128, 171)  # C, T, H, W
_MEAN_CROP = 8  # of rows and columns, not the middle


def i3d_pickle(eps: float) -> Converter:
  """Of VideoGPT's `i3d_pretrained_400.pt` (eps 1e-5), piergiaj's `rgb_imagenet.pt` (1e-3)."""

  def convert(path: storage.PathLike, trust: bool) -> Converted:
    del trust  # nothing is run
    layout = layouts.with_eps(layouts.I3D_TORCH, eps)
    return _from_pickle(path, layout, i3d.describe(), "I3D in PyTorch's layout", eps)

  return convert


def inception_pickle(path: storage.PathLike, trust: bool) -> Converted:
  """Of `pt_inception-2015-12-05-6726825d.pth`, the same as torch-fidelity's."""
  del trust
  network, layout = inception.describe(), layouts.INCEPTION_TORCH
  return _from_pickle(path, layout, network, "Inception-v3 of 2015-12-05", layout.eps)


def videomae_pickle(config: videomae.Config) -> Converter:
  """Of VideoMAE V2's `vit_g_hybrid_pt_1200e_ssv2_ft.pth`, or another one of its layout."""

  def convert(path: storage.PathLike, trust: bool) -> Converted:
    del trust
    with pickles.as_safetensors(path) as local:
      stored, _ = safetensors.read_file(local)
      shapes = {name: tensor.shape for name, tensor in stored.items()}
      layouts.check(str(path), "VideoMAE V2, fine-tuned", shapes, videomae.published_shapes(config))
      tensors = {name: tensor.read() for name, tensor in stored.items()}
    facts = weights.source_facts(path, videomae.describe(config), None)
    return Converted(videomae.from_published(config, tensors), facts)

  return convert


def i3d_script(path: storage.PathLike, trust: bool) -> Converted:
  """Of StyleGAN-V's `i3d_torchscript.pt`: runs the file's program, see `torchscript.opened`.

  Tensors are matched by order and shape, then the file's own features of seeded clips are compared
  with ours.

  Raises:
    ValueError: without trust; not this network; features differ.
  """
  network, layout = i3d.describe(), layouts.I3D_TORCH
  with torchscript.opened(path, trust) as script:
    tensors = torchscript.match_i3d(script, layouts.wanted(layout, network))
    params = layouts.convert(layout, network, tensors)
    proof.check_i3d(path, network, params, lambda clip: torchscript.i3d_features(script, clip))
  return Converted(params, weights.source_facts(path, network, layout.eps))


def c3d_script(path: storage.PathLike, trust: bool) -> Converted:
  """Of StyleGAN-V's `c3d_ucf101.pt`, see `i3d_script`."""
  network, layout = c3d.describe(), layouts.C3D_CHAINER
  with torchscript.opened(path, trust) as script:
    tensors, mean_CTHW = torchscript.match_c3d(script, layouts.wanted(layout, network))
    params = layouts.convert(layout, network, tensors)
    params["mean"] = np.moveaxis(mean_CTHW, 0, -1)
    proof.check_c3d(path, network, params, lambda clip: torchscript.c3d_probabilities(script, clip))
  return Converted(params, weights.source_facts(path, network, None))


def i3d_graph(path: storage.PathLike, trust: bool) -> Converted:
  """Of the folder of TF-Hub's `i3d-kinetics-400/1`; needs TensorFlow and runs the graph in it.

  Raises:
    ValueError: without trust or TensorFlow; not this network; features differ.
  """
  network, layout = i3d.describe(), layouts.I3D_TFHUB
  with savedmodel.opened(path, trust) as model:
    expected = layouts.wanted(layout, network)
    found = {name: shape for name, shape in model.shapes.items() if name.startswith("RGB/")}
    layouts.check(str(path), "TF-Hub's i3d-kinetics-400/1", found, expected)
    tensors = {name: model.read(name) for name in expected}
    params = layouts.convert(layout, network, tensors)
    proof.check_i3d(path, network, params, model.features, resized=True)
  return Converted(params, weights.source_facts(path, network, layout.eps))


def c3d_arrays(path: storage.PathLike, trust: bool) -> Converted:
  """Of TGAN2's `conv3d_deepnetA_ucf.npz`; its mean clip `mean2.npz` lies in the same folder.

  Raises:
    ValueError: one of them is missing or is not what it should be.
  """
  del trust
  network, layout = c3d.describe(), layouts.C3D_CHAINER
  with packed.load_arrays(path) as arrays:
    tensors = {name: arrays[name] for name in arrays.files}
  shapes = {name: value.shape for name, value in tensors.items()}
  layouts.check(str(path), "C3D in Chainer's layout", shapes, layouts.wanted(layout, network))
  params = layouts.convert(layout, network, tensors)
  mean_path = storage.Path(path).parent / _MEAN_FILE
  if not mean_path.exists():
    raise ValueError(
      f"{mean_path} does not exist: the mean clip that C3D takes off is published beside its"
      " weights, copy it into the same folder"
    )
  with packed.load_arrays(mean_path) as arrays:
    mean = arrays["mean"] if "mean" in arrays.files else np.zeros(0)
  if mean.size != math.prod(_MEAN_SHAPE):
    raise ValueError(
      f"{mean_path} has no array `mean` of {_MEAN_SHAPE} (channels, frames, height, width)"
    )
  rows, columns = (slice(_MEAN_CROP, _MEAN_CROP + c3d.SIZE),) * 2
  mean_CTHW = mean.reshape(_MEAN_SHAPE)[:, :, rows, columns]
  params["mean"] = np.ascontiguousarray(np.moveaxis(mean_CTHW, 0, -1), np.float32)
  return Converted(params, weights.source_facts(path, network, None))


def _from_pickle(
  path: storage.PathLike, layout: layouts.Layout, network: Network, what: str, eps: float
) -> Converted:
  with pickles.as_safetensors(path) as local:
    stored, _ = safetensors.read_file(local)
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    layouts.check(str(path), what, shapes, layouts.wanted(layout, network))
    params = layouts.convert(layout, network, {name: t.read() for name, t in stored.items()})
  return Converted(params, weights.source_facts(path, network, eps))
