"""TensorBoard's event files, by tensorboardX, which is kept from PyTorch.

Where PyTorch is installed, tensorboardX imports it, for tensors that we never hand it. A training
process would then hold a second set of CUDA libraries, of which cuDNN must not be there in two
versions, and would start seconds later. tensorboardX works without, and is shown none.
"""

from collections.abc import Iterator
import contextlib
import sys


@contextlib.contextmanager
def _unseen(module: str) -> Iterator[None]:
  """Makes imports of `module` fail as if it were not installed, unless it is imported already."""
  if module in sys.modules:
    yield
    return
  sys.modules[module] = None  # pyright: ignore[reportArgumentType]  # Python's word for "none"
  try:
    yield
  finally:
    del sys.modules[module]


with _unseen("torch"):
  from tensorboardX import SummaryWriter

__all__ = ["SummaryWriter"]
