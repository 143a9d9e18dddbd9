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

from tests.parity import compare

# Their advice on missing optional packages and their progress bars are not about these tests.
for library in (diffusers_logging, transformers_logging):
  library.set_verbosity_error()
  library.disable_progress_bar()

Save = Callable[..., pathlib.Path]
_RECORD = pytest.StashKey[compare.Record]()


@pytest.fixture(scope="session")
def record(request) -> compare.Record:
  """What all comparisons of the run are noted in, and the seed that they draw from."""
  return request.config.stash.setdefault(_RECORD, compare.Record(compare.fresh_seed()))


def pytest_terminal_summary(terminalreporter, config):
  """Lists the worst relative error of each comparison with `-v`, the worst of all without."""
  record = config.stash.get(_RECORD, None)
  if record is None or not record.worst:
    return
  terminalreporter.section("parity with PyTorch: max |ours - theirs| / max |theirs|")
  rows = sorted(record.worst.items(), key=lambda row: row[1][0] / row[1][1], reverse=True)
  for what, (error, bound) in rows if config.option.verbose > 0 else rows[:1]:
    terminalreporter.line(f"{error:.1e} of {bound:.0e}  {what}")
  terminalreporter.line(f"{len(rows)} comparisons, VIDJAX_PARITY_SEED={record.seed}")


@pytest.fixture
def save(tmp_path) -> Save:
  """Fills a PyTorch model with random weights, zero layers included, and saves it.

  With a seed, it does so as `compare.randomize`.
  """

  def run(
    model: torch.nn.Module, seed: compare.Seed | None = None, faint: bool = False
  ) -> pathlib.Path:
    if seed is not None:
      compare.randomize(model, seed, faint=faint)
      model.save_pretrained(tmp_path)
      return tmp_path
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
