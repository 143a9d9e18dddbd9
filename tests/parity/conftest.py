"""Parity with PyTorch: the same random weights in both, written by one side and read by the other.

Needs the extra `torch`; without it these tests are skipped.
"""

from collections.abc import Callable
import pathlib

import jax
import pytest

pytest.importorskip("torch", reason="parity tests need the extra `torch`")
pytest.importorskip("diffusers", reason="parity tests need the extra `torch`")

from diffusers.utils import logging as diffusers_logging
import torch
from transformers.utils import logging as transformers_logging

# Their advice on missing optional packages and their progress bars are not about these tests.
for library in (diffusers_logging, transformers_logging):
  library.set_verbosity_error()
  library.disable_progress_bar()

Save = Callable[[torch.nn.Module], pathlib.Path]


@pytest.fixture
def save(tmp_path) -> Save:
  """Fills a PyTorch model with random weights, zero layers included, and saves it."""

  def run(model: torch.nn.Module) -> pathlib.Path:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
      for parameter in model.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 400
        parameter.normal_(0, fan_in**-0.5, generator=generator)
        if parameter.ndim == 1:
          parameter.add_(0.5)
    model.eval()
    model.save_pretrained(tmp_path)
    return tmp_path

  return run


@pytest.fixture(autouse=True)
def exact_matmuls():
  with jax.default_matmul_precision("highest"):
    yield
