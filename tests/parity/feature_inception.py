"""Inception-v3 of the Frechet inception distance in PyTorch, with random weights.

Written for these tests from the description of the graph of 2015-12-05; layers have the names of
the published PyTorch files. x (B, C, H, W).
"""

import torch
from torch import nn
import torch.nn.functional as F


class Conv(nn.Module):
  def __init__(self, channels, width, size, stride=1, padding=0):
    super().__init__()
    self.conv = nn.Conv2d(channels, width, size, stride, padding, bias=False)
    self.bn = nn.BatchNorm2d(width, 1e-3)

  def forward(self, x):
    return F.relu(self.bn(self.conv(x)))


def mean(x):
  return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class Block(nn.Module):
  """Chains of layers: `chains[name]` lists (outputs, height, width, stride, padded)."""

  def __init__(self, channels, chains):
    super().__init__()
    for name, layers in chains.items():
      inputs = channels
      for number, (width, height, across, stride) in enumerate(layers, 1):
        label = f"{name}_{number}" if len(layers) > 1 else name
        padding = (height // 2, across // 2) if stride == 1 else 0
        setattr(self, label, Conv(inputs, width, (height, across), stride, padding))
        inputs = width

  def chain(self, name, x):
    if hasattr(self, name):
      return getattr(self, name)(x)
    number = 1
    while hasattr(self, f"{name}_{number}"):
      x = getattr(self, f"{name}_{number}")(x)
      number += 1
    return x


class A(Block):
  def __init__(self, channels, pool):
    super().__init__(
      channels,
      {
        "branch1x1": [(64, 1, 1, 1)],
        "branch5x5": [(48, 1, 1, 1), (64, 5, 5, 1)],
        "branch3x3dbl": [(64, 1, 1, 1), (96, 3, 3, 1), (96, 3, 3, 1)],
        "branch_pool": [(pool, 1, 1, 1)],
      },
    )

  def forward(self, x):
    names = ("branch1x1", "branch5x5", "branch3x3dbl")
    parts = [self.chain(name, x) for name in names]
    return torch.cat([*parts, self.branch_pool(mean(x))], 1)


class B(Block):
  def __init__(self, channels):
    super().__init__(
      channels,
      {
        "branch3x3": [(384, 3, 3, 2)],
        "branch3x3dbl": [(64, 1, 1, 1), (96, 3, 3, 1), (96, 3, 3, 2)],
      },
    )

  def forward(self, x):
    parts = self.chain("branch3x3", x), self.chain("branch3x3dbl", x), F.max_pool2d(x, 3, 2)
    return torch.cat(parts, 1)


class C(Block):
  def __init__(self, channels, c):
    long = [(c, 1, 1, 1), (c, 7, 1, 1), (c, 1, 7, 1), (c, 7, 1, 1), (192, 1, 7, 1)]
    super().__init__(
      channels,
      {
        "branch1x1": [(192, 1, 1, 1)],
        "branch7x7": [(c, 1, 1, 1), (c, 1, 7, 1), (192, 7, 1, 1)],
        "branch7x7dbl": long,
        "branch_pool": [(192, 1, 1, 1)],
      },
    )

  def forward(self, x):
    names = ("branch1x1", "branch7x7", "branch7x7dbl")
    parts = [self.chain(name, x) for name in names]
    return torch.cat([*parts, self.branch_pool(mean(x))], 1)


class D(Block):
  def __init__(self, channels):
    super().__init__(
      channels,
      {
        "branch3x3": [(192, 1, 1, 1), (320, 3, 3, 2)],
        "branch7x7x3": [(192, 1, 1, 1), (192, 1, 7, 1), (192, 7, 1, 1), (192, 3, 3, 2)],
      },
    )

  def forward(self, x):
    parts = self.chain("branch3x3", x), self.chain("branch7x7x3", x), F.max_pool2d(x, 3, 2)
    return torch.cat(parts, 1)


class E(Block):
  def __init__(self, channels, pool):
    super().__init__(channels, {"branch1x1": [(320, 1, 1, 1)], "branch_pool": [(192, 1, 1, 1)]})
    self.pool = pool
    self.branch3x3_1 = Conv(channels, 384, 1)
    self.branch3x3dbl_1 = Conv(channels, 448, 1)
    self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
    for name in ("branch3x3_2", "branch3x3dbl_3"):
      setattr(self, f"{name}a", Conv(384, 384, (1, 3), padding=(0, 1)))
      setattr(self, f"{name}b", Conv(384, 384, (3, 1), padding=(1, 0)))

  def forward(self, x):
    short, long = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
    parts = (
      self.branch1x1(x),
      *(self.branch3x3_2a(short), self.branch3x3_2b(short)),
      *(self.branch3x3dbl_3a(long), self.branch3x3dbl_3b(long)),
      self.branch_pool(self.pool(x)),
    )
    return torch.cat(parts, 1)


class InceptionV3(nn.Module):
  def __init__(self):
    super().__init__()
    self.Conv2d_1a_3x3 = Conv(3, 32, 3, 2)
    self.Conv2d_2a_3x3 = Conv(32, 32, 3)
    self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
    self.Conv2d_3b_1x1 = Conv(64, 80, 1)
    self.Conv2d_4a_3x3 = Conv(80, 192, 3)
    self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = A(192, 32), A(256, 64), A(288, 64)
    self.Mixed_6a = B(288)
    self.Mixed_6b, self.Mixed_6c = C(768, 128), C(768, 160)
    self.Mixed_6d, self.Mixed_6e = C(768, 160), C(768, 192)
    self.Mixed_7a = D(768)
    self.Mixed_7b, self.Mixed_7c = E(1280, mean), E(2048, lambda x: F.max_pool2d(x, 3, 1, 1))
    self.fc = nn.Linear(2048, 1008)

  def forward(self, x):
    """Pictures in [-1, 1]."""
    found = {}
    x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
    x = F.max_pool2d(x, 3, 2)
    found["64"] = x.mean((2, 3))
    x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
    found["192"] = x.mean((2, 3))
    for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e"):
      x = getattr(self, f"Mixed_{name}")(x)
    found["768"] = x.mean((2, 3))
    x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
    found["2048"] = x.mean((2, 3))
    found["logits_unbiased"] = found["2048"] @ self.fc.weight.T
    found["logits"] = self.fc(found["2048"])
    return found
