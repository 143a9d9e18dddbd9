"""The networks of evaluation features in PyTorch, with random weights, as their papers have them.

Written for these tests; names of layers are those of the published files. Channels first:
x (B, C, T, H, W) or (B, C, H, W).
"""

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

MIXED = {
  "3b": (192, 64, 96, 128, 16, 32, 32),
  "3c": (256, 128, 128, 192, 32, 96, 64),
  "4b": (480, 192, 96, 208, 16, 48, 64),
  "4c": (512, 160, 112, 224, 24, 64, 64),
  "4d": (512, 128, 128, 256, 24, 64, 64),
  "4e": (512, 112, 144, 288, 32, 64, 64),
  "4f": (528, 256, 160, 320, 32, 128, 128),
  "5b": (832, 256, 160, 320, 32, 128, 128),
  "5c": (832, 384, 192, 384, 48, 128, 128),
}


def pad_same(x, kernel, stride):
  """Pads (T, H, W) as TensorFlow does: so that ceil(n / stride) comes out, more at the end."""
  pads = []
  sizes = [int(n) for n in x.shape[2:]]  # constants where the network is traced
  for n, k, s in zip(reversed(sizes), reversed(kernel), reversed(stride), strict=True):
    total = max((-(-n // s) - 1) * s + k - n, 0)
    pads += [total // 2, total - total // 2]
  return F.pad(x, pads)


def pool_same(x, kernel, stride):
  return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


class Unit3d(nn.Module):
  def __init__(self, channels, width, size, stride, eps):
    super().__init__()
    self.conv3d = nn.Conv3d(channels, width, size, stride, bias=False)
    self.bn = nn.BatchNorm3d(width, eps)

  def forward(self, x):
    x = pad_same(x, self.conv3d.kernel_size, self.conv3d.stride)
    return F.relu(self.bn(self.conv3d(x)))


class Mixed(nn.Module):
  def __init__(self, channels, b0, b1a, b1b, b2a, b2b, b3b, eps):
    super().__init__()
    self.b0 = Unit3d(channels, b0, 1, 1, eps)
    self.b1a, self.b1b = Unit3d(channels, b1a, 1, 1, eps), Unit3d(b1a, b1b, 3, 1, eps)
    self.b2a, self.b2b = Unit3d(channels, b2a, 1, 1, eps), Unit3d(b2a, b2b, 3, 1, eps)
    self.b3b = Unit3d(channels, b3b, 1, 1, eps)

  def forward(self, x):
    pooled = pool_same(x, (3, 3, 3), (1, 1, 1))
    parts = self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)
    return torch.cat(parts, 1)


class Logits(nn.Module):
  def __init__(self):
    super().__init__()
    self.conv3d = nn.Conv3d(1024, 400, 1)


class I3D(nn.Module):
  def __init__(self, eps=1e-3):
    super().__init__()
    self.Conv3d_1a_7x7 = Unit3d(3, 64, 7, 2, eps)
    self.Conv3d_2b_1x1 = Unit3d(64, 64, 1, 1, eps)
    self.Conv3d_2c_3x3 = Unit3d(64, 192, 3, 1, eps)
    for name, widths in MIXED.items():
      setattr(self, f"Mixed_{name}", Mixed(*widths, eps))
    self.logits = Logits()

  def endpoints(self, x):
    found = {}
    spatial = (1, 3, 3), (1, 2, 2)
    x = found["conv3d_1a_7x7"] = self.Conv3d_1a_7x7(x)
    x = found["conv3d_2b_1x1"] = self.Conv3d_2b_1x1(pool_same(x, *spatial))
    x = found["conv3d_2c_3x3"] = self.Conv3d_2c_3x3(x)
    pools = {"3b": spatial, "4b": ((3, 3, 3), (2, 2, 2)), "5b": ((2, 2, 2), (2, 2, 2))}
    for name in MIXED:
      if name in pools:
        x = pool_same(x, *pools[name])
      x = found[f"mixed_{name}"] = getattr(self, f"Mixed_{name}")(x)
    return found

  def forward(self, x):
    found = self.endpoints(x)
    pooled = F.avg_pool3d(found["mixed_5c"], (2, 7, 7), 1)
    found["pool"] = pooled.mean((2, 3, 4))
    found["logits"] = self.logits.conv3d(pooled)[..., 0, 0].mean(2)
    return found


class C3D(nn.Module):
  def __init__(self):
    super().__init__()
    widths = {"conv1a": 64, "conv2a": 128, "conv3a": 256, "conv3b": 256}
    widths |= {"conv4a": 512, "conv4b": 512, "conv5a": 512, "conv5b": 512}
    channels = 3
    for name, width in widths.items():
      setattr(self, name, nn.Conv3d(channels, width, 3, padding=1))
      channels = width
    self.fc6, self.fc7 = nn.Linear(512 * 4 * 4, 4096), nn.Linear(4096, 4096)
    self.fc8 = nn.Linear(4096, 101)
    self.register_buffer("mean", 90 + 30 * torch.rand(3, 16, 112, 112))

  def forward(self, x):
    """Clips in [-128, 128], BGR."""
    h = x + 128 - self.mean
    for name in ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b"):
      h = F.relu(getattr(self, name)(h))
      if name not in ("conv3a", "conv4a", "conv5a"):
        h = F.max_pool3d(h, (1 if name == "conv1a" else 2, 2, 2), ceil_mode=True)
    fc6 = F.relu(self.fc6(h.flatten(1)))
    fc7 = F.relu(self.fc7(fc6))
    logits = self.fc8(fc7)
    return {"fc6": fc6, "fc7": fc7, "logits": logits, "probabilities": logits.softmax(-1)}


def randomize(model, seed):
  """Weights of a variance that lasts through ReLUs; statistics of norms that matter."""
  generator = torch.Generator().manual_seed(seed)

  def uniform(tensor, low, high):
    return torch.rand(tensor.shape, generator=generator) * (high - low) + low

  with torch.no_grad():
    for name, tensor in model.state_dict().items():
      if tensor.ndim > 1 and name != "mean":
        # He's variance, after norms that halve it; C3D's input has a variance of its own.
        std = (2 / tensor[0].numel()) ** 0.5
        tensor.copy_(std * torch.randn(tensor.shape, generator=generator))
      elif name.endswith("running_var"):
        tensor.copy_(uniform(tensor, 0.5, 2))
      elif name.endswith("bn.weight"):
        tensor.copy_(uniform(tensor, 0.8, 1.6))
      elif tensor.ndim == 1:
        tensor.copy_(uniform(tensor, -0.3, 0.3))
  return model.eval()


def frames(x_BTHWC):
  """A clip (B, T, H, W, C) with channels first."""
  return torch.tensor(np.ascontiguousarray(np.moveaxis(x_BTHWC, -1, 1), np.float32))
