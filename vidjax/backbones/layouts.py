"""How published files name and lay out the tensors of feature networks, and what becomes of them.

A file is told from that of another network by the names and shapes of all its tensors. Batch norms
become a scale and an offset (`layers.Unit`), computed in float64 with the eps of the file.

K kernel dims, C input and D output channels.
"""

from collections.abc import Callable, Mapping
import dataclasses

import jax
import numpy as np

from vidjax.nn.params import Network, Params

Abstract = Mapping[str, jax.ShapeDtypeStruct]
Shapes = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Layout:
  """Names in a file.

  Attributes:
    layer: the name of one of our layers there.
    kernel: what follows it for a kernel of a convolution.
    norm: the same for gamma ("" where there is none), beta, mean and variance.
    bias: the same for a bias.
    linear: the same for a kernel of a linear layer.
    output_first: kernels are (D, C, K...), as in PyTorch and Chainer; else (K..., C, D).
    linear_ones: dims of 1 after a linear layer's two, where it is stored as a convolution.
    norm_ones: dims of 1 before the channels of a norm.
    eps: of the norms.
  """

  layer: Callable[[str], str]
  kernel: str
  bias: str
  norm: tuple[str, str, str, str] = ("", "", "", "")
  linear: str = ""
  output_first: bool = True
  linear_ones: int = 0
  norm_ones: int = 0
  eps: float = 1e-3


def with_eps(layout: Layout, eps: float) -> Layout:
  """The same names in a file whose norms have another eps."""
  return dataclasses.replace(layout, eps=eps)


def capital(layer: str) -> str:
  """`mixed_3b.b0` -> `Mixed_3b.b0`."""
  return layer[0].upper() + layer[1:] if layer.startswith(("conv", "mixed")) else layer


def _of_graph(layer: str) -> str:
  """`mixed_3b.b1b` -> `RGB/inception_i3d/Mixed_3b/Branch_1/Conv3d_0b_3x3`."""
  block, _, branch = capital(layer).partition(".")
  within = {
    "": "",
    "b0": "/Branch_0/Conv3d_0a_1x1",
    "b1a": "/Branch_1/Conv3d_0a_1x1",
    "b1b": "/Branch_1/Conv3d_0b_3x3",
    "b2a": "/Branch_2/Conv3d_0a_1x1",
    # One block of the graph calls this layer 0a, as it calls the one before it.
    "b2b": f"/Branch_2/Conv3d_0{'a' if block == 'Mixed_5b' else 'b'}_3x3",
    "b3b": "/Branch_3/Conv3d_0b_1x1",
  }
  if block == "logits":
    block = "Logits/Conv3d_0c_1x1"
  return f"RGB/inception_i3d/{block}{within[branch]}"


_TORCH_NORM = (".bn.weight", ".bn.bias", ".bn.running_mean", ".bn.running_var")
I3D_TORCH = Layout(
  capital,
  kernel=".conv3d.weight",
  linear=".conv3d.weight",
  linear_ones=3,
  bias=".conv3d.bias",
  norm=_TORCH_NORM,
)
I3D_TFHUB = Layout(
  _of_graph,
  kernel="/conv_3d/w",
  linear="/conv_3d/w",
  linear_ones=3,
  bias="/conv_3d/b",
  norm=("", "/batch_norm/beta", "/batch_norm/moving_mean", "/batch_norm/moving_variance"),
  norm_ones=4,
  output_first=False,
)
INCEPTION_TORCH = Layout(
  capital, kernel=".conv.weight", linear=".weight", bias=".bias", norm=_TORCH_NORM
)
C3D_CHAINER = Layout(lambda layer: layer, kernel="/W", linear="/W", bias="/b")


def wanted(layout: Layout, network: Network) -> Shapes:
  """Name and shape of each tensor that a file of `network` has in this layout."""
  found: Shapes = {}
  for name, leaf in network.abstract.items():
    layer, _, part = name.rpartition(".")
    if not layer:
      continue  # no layer: read from another file
    theirs, (channels,) = layout.layer(layer), leaf.shape[-1:]
    if part == "kernel":
      linear = len(leaf.shape) == 2
      shape = leaf.shape
      if linear and layout.linear_ones:
        shape = ((1,) * layout.linear_ones) + shape
      if layout.output_first:
        shape = (shape[-1], shape[-2], *shape[:-2])
      found[theirs + (layout.linear if linear else layout.kernel)] = shape
    elif part == "scale":
      for suffix in filter(None, layout.norm):
        found[theirs + suffix] = (1,) * layout.norm_ones + (channels,)
    elif f"{layer}.scale" not in network.abstract:
      found[theirs + layout.bias] = (channels,)
  return found


def check(where: str, what: str, found: Mapping[str, tuple[int, ...]], expected: Shapes) -> None:
  """Refuses a file whose tensors are not those of a network.

  Args:
    where: the file.
    what: the network, in words.
    found: the shapes of its tensors.
    expected: those of the network.

  Raises:
    ValueError: says how many tensors there are, the first that does not fit, and what is expected.
  """
  problem = ""
  for name in [*expected, *found]:
    if name not in found:
      problem = f"has no {name}, of shape {expected[name]}"
    elif name not in expected:
      problem = f"has {name} of shape {found[name]}, which is not expected"
    elif found[name] != expected[name]:
      problem = f"has {name} of shape {found[name]} and not {expected[name]}"
    if problem:
      raise ValueError(
        f"{where} is not {what}: of its {len(found)} tensors, {len(expected)} expected, the first"
        f" that does not fit: it {problem}; take the file that `vidjax convert_weights --list`"
        " names"
      )


def convert(layout: Layout, network: Network, tensors: Mapping[str, np.ndarray]) -> Params:
  """The parameters of `network`, float32, from the tensors of a file that has passed `check`.

  Raises:
    ValueError: a variance is negative or a number is not finite.
  """
  made: Params = {}
  for name, leaf in network.abstract.items():
    layer, _, part = name.rpartition(".")
    if not layer or name in made:
      continue
    theirs = layout.layer(layer)
    if part == "kernel":
      suffix = layout.linear if len(leaf.shape) == 2 else layout.kernel
      value = np.asarray(tensors[theirs + suffix], np.float32)
      if layout.output_first:
        value = np.moveaxis(value, (0, 1), (-1, -2))
      made[name] = value.reshape(leaf.shape)
    elif f"{layer}.scale" in network.abstract:
      gamma, beta, mean, variance = (
        np.asarray(tensors[theirs + suffix], np.float64).reshape(-1) if suffix else np.ones(())
        for suffix in layout.norm
      )
      if not (variance >= 0).all():
        raise ValueError(f"{theirs + layout.norm[3]} has negative variances: the file is damaged")
      scale = gamma / np.sqrt(variance + layout.eps)
      made[f"{layer}.scale"] = np.broadcast_to(scale, leaf.shape).astype(np.float32)
      made[f"{layer}.offset"] = (beta - mean * scale).astype(np.float32)
    else:
      made[name] = np.asarray(tensors[theirs + layout.bias], np.float32).reshape(leaf.shape)
  broken = next((name for name, value in made.items() if not np.isfinite(value).all()), None)
  if broken:
    raise ValueError(f"{broken} has numbers that are not finite: the file is damaged")
  return made
