"""I3D, C3D and Inception-v3 against PyTorch with the same random weights, tap by tap."""

import functools

import jax
import numpy as np
import pytest
import torch

from tests.parity import feature_inception, feature_networks
from tests.parity.compare import MODEL
from vidjax.backbones import c3d, i3d, inception, layers, layouts


def converted(layout, network, model):
  tensors = {
    name: tensor.numpy()
    for name, tensor in model.state_dict().items()
    if tensor.is_floating_point()
  }
  return layouts.convert(layout, network, tensors)


def picture(seed, *shape):
  """Smooth and noisy parts in [-1, 1], as video has them."""
  rng = np.random.default_rng(seed)
  noise = rng.uniform(-1, 1, shape)
  smooth = np.broadcast_to(rng.uniform(-1, 1, (*shape[:-3], 1, 1, shape[-1])), shape)
  return (0.5 * noise + 0.5 * smooth).astype(np.float32)


@functools.cache
def i3d_pair(seed):
  model = feature_networks.randomize(feature_networks.I3D(), seed % 2**31)
  network = i3d.describe()
  return model, network, converted(layouts.I3D_TORCH, network, model)


def compare(record, what, ours, theirs):
  assert ours.keys() == theirs.keys()
  for tap, expected in theirs.items():
    expected = expected.movedim(1, -1) if expected.ndim > 2 else expected
    record.check(f"{what}, {tap}", np.asarray(ours[tap]), expected.numpy(), MODEL)


@pytest.mark.parametrize("frames", [9, pytest.param(17, marks=pytest.mark.slow)])
def test_i3d(record, frames):
  model, network, params = i3d_pair(record.seed)
  x = picture([record.seed, frames], 1, frames, 224, 224, 3)
  with torch.no_grad():
    theirs = model(feature_networks.frames(x))
  ours = jax.jit(lambda p, x: network.bind(p)(x))(params, x)
  compare(record, f"I3D, {frames} frames", ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [16, 32])
def test_i3d_features(record, frames):
  model, network, params = i3d_pair(record.seed)
  x = picture([record.seed, frames], 2, frames, 224, 224, 3)
  with torch.no_grad():
    theirs = {tap: model(feature_networks.frames(x))[tap] for tap in ("pool", "logits")}
  run = jax.jit(lambda p, x: {tap: network.bind(p)(x)[tap] for tap in ("pool", "logits")})
  compare(record, f"I3D, {frames} frames", run(params, x), theirs)


@pytest.mark.parametrize("shape", [(1, 1, 33, 50), (2, 6, 31, 64), (1, 11, 65, 47)])
def test_i3d_of_odd_sizes(record, shape):
  """What does not divide is padded as TensorFlow pads it."""
  model, network, params = i3d_pair(record.seed)
  x = picture([record.seed, *shape], *shape, 3)
  with torch.no_grad():
    theirs = model.endpoints(feature_networks.frames(x))
  ours = jax.jit(lambda p, x: network.bind(p).endpoints(x))(params, x)
  compare(record, f"I3D, {shape[1:]}", ours, theirs)


def test_i3d_says_what_it_cannot_take():
  with pytest.raises(ValueError, match=r"clips of 8 frames: I3D pools two time steps.* at least 9"):
    i3d.check((1, 8, 224, 224, 3))
  with pytest.raises(ValueError, match="frames of 112x224: I3D takes 224x224"):
    i3d.check((1, 9, 112, 224, 3))


@pytest.mark.slow
def test_c3d(record):
  model = feature_networks.randomize(feature_networks.C3D(), record.seed % 2**31)
  network = c3d.describe()
  chainer = {
    name.replace(".weight", "/W").replace(".bias", "/b"): tensor.numpy()
    for name, tensor in model.state_dict().items()
  }
  params = layouts.convert(layouts.C3D_CHAINER, network, chainer)
  params["mean"] = np.moveaxis(model.mean.numpy(), 0, -1)
  x = 128 * picture(record.seed, 2, 16, 112, 112, 3)
  with torch.no_grad():
    theirs = model(feature_networks.frames(x))
  ours = jax.jit(lambda p, x: network.bind(p)(x))(params, x)
  compare(record, "C3D", ours, theirs)
  with pytest.raises(ValueError, match=r"\(16, 64, 64\): C3D takes \(16, 112, 112\)"):
    network.bind(params)(x[:, :, :64, :64])


@pytest.mark.parametrize("size", [(299, 299), (111, 150)])
def test_inception(record, size):
  model = feature_networks.randomize(feature_inception.InceptionV3(), record.seed % 2**31)
  network = inception.describe()
  params = converted(layouts.INCEPTION_TORCH, network, model)
  x = picture([record.seed, *size], 2, *size, 3)
  with torch.no_grad():
    theirs = model(torch.tensor(x).permute(0, 3, 1, 2))
  ours = jax.jit(lambda p, x: network.bind(p)(x))(params, x)
  compare(record, f"Inception-v3, {size[0]}x{size[1]}", ours, theirs)


@pytest.mark.parametrize(("taps", "stride"), [(3, 1), (7, 2)])
@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_convolutions_of_cpus_are_those_of_accelerators(record, taps, stride, frames):
  rng = np.random.default_rng([record.seed, taps, frames])
  x = rng.standard_normal((2, frames, 9, 12, 4), np.float32)
  kernel = rng.standard_normal((taps, taps, taps, 4, 8), np.float32) / np.float32(taps**1.5)
  run = jax.jit(layers.convolve, static_argnums=2)
  plain = jax.jit(layers._convolve, static_argnums=(2, 3))(x, kernel, stride, "SAME")
  record.check("3-D convolution frame by frame", run(x, kernel, stride), np.asarray(plain), 2e-6)
  # A CPU is given no convolution over time, an accelerator exactly that one.
  assert "b012f" not in run.lower(x, kernel, stride).compile().as_text()
  there = run.trace(x, kernel, stride).lower(lowering_platforms=("tpu",)).as_text()
  assert there.count("stablehlo.convolution") == 1
