"""Files of feature networks as their publishers write them, with the random weights of a model."""

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from vidjax.backbones import layouts


def torch_names(model):
  return dict(model.state_dict())


def graph_tensors(model):
  """As TF-Hub's graph has them: kernels (T, H, W, C, D), no gamma, five dims for statistics."""
  found = {}
  for name, tensor in model.state_dict().items():
    layer, _, part = name.rpartition(".")
    value = tensor.numpy()
    if layer == "logits.conv3d":
      layer = "RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d"
      found[f"{layer}/{part[0]}"] = value.transpose(2, 3, 4, 1, 0) if part == "weight" else value
      continue
    layer, _, kind = layer.rpartition(".")
    theirs = layouts.I3D_TFHUB.layer(layer[0].lower() + layer[1:])
    if kind == "conv3d":
      found[f"{theirs}/conv_3d/w"] = value.transpose(2, 3, 4, 1, 0)
    elif part in ("bias", "running_mean", "running_var"):
      ours = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
      found[f"{theirs}/batch_norm/{ours[part]}"] = value.reshape(1, 1, 1, 1, -1)
  return found


def chainer_arrays(model):
  return {
    name.replace(".weight", "/W").replace(".bias", "/b"): tensor.numpy()
    for name, tensor in model.state_dict().items()
    if name != "mean"
  }


class Traced(nn.Module):
  """Gives one tap, so that the network can be traced."""

  def __init__(self, net, tap):
    super().__init__()
    self.net, self.tap = net, tap

  def forward(self, x):
    return self.net(x)[self.tap]


def traced(model, tap, side):
  return torch.jit.trace(Traced(model, tap), torch.zeros(2, 3, 16, side, side), check_trace=False)


class I3DFile(nn.Module):
  """StyleGAN-V's interface. `gain` is what a file that was tampered with multiplies features by."""

  def __init__(self, model, gain=1.0):
    super().__init__()
    self.body = traced(model, "logits", 224)
    self.gain: float = gain

  def forward(self, x, rescale: bool = False, resize: bool = False, return_features: bool = False):
    if resize:
      batch, channels, frames = x.shape[0], x.shape[1], x.shape[2]
      flat = x.transpose(1, 2).reshape(batch * frames, channels, x.shape[3], x.shape[4])
      flat = F.interpolate(flat, size=[224, 224], mode="bilinear", align_corners=False)
      x = flat.reshape(batch, frames, channels, 224, 224).transpose(1, 2)
    if rescale:
      x = 2 * x / 255 - 1
    features = self.gain * self.body(x)
    return features if return_features else features.softmax(1)


class C3DFile(nn.Module):
  """StyleGAN-V's interface: bytes in, probabilities out."""

  def __init__(self, model):
    super().__init__()
    self.body = traced(model, "probabilities", 112)

  def forward(self, x):
    batch, frames = x.shape[0], x.shape[2]
    flat = x.transpose(1, 2).reshape(batch * frames, 3, x.shape[3], x.shape[4]).float()
    flat = 128 * (flat / 127.5 - 1).flip(1)
    flat = F.interpolate(flat, size=[112, 112], mode="bilinear", align_corners=True)
    return self.body(flat.reshape(batch, frames, 3, 112, 112).transpose(1, 2))


def script(path, module):
  torch.jit.script(module.eval()).save(str(path))
  return path


def mean_file(folder, mean_CTHW):
  """TGAN2's mean clip, of which rows and columns 8 to 120 are used."""
  whole = np.full((3, 16, 128, 171), -1e3, np.float32)
  whole[:, :, 8:120, 8:120] = mean_CTHW
  np.savez(folder / "mean2.npz", mean=whole)
