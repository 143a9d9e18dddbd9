"""Blocks of both libraries with equal weights, ours compiled together as one program."""

from collections.abc import Callable
import dataclasses
from typing import Any

from flax import nnx
import jax
import numpy as np
import torch

from tests.parity import compare
from vidjax.interop import names
from vidjax.nn.params import Network, network

REGIMES = ("normal", "faint")


@dataclasses.dataclass
class Case:
  """One block: what runs here, and what came out there, in each regime of `REGIMES`."""

  net: Network
  call: Callable[..., Any]
  params: list[dict[str, np.ndarray]]
  args: list[tuple[Any, ...]]
  expected: list[torch.Tensor]
  bound: float


class Blocks:
  """Collects blocks, runs ours once, compares.

  Every block is run twice: with weights and inputs of order one, and with faint ones, whose
  variance is of the order of the norms' epsilons.

  Args:
    record: of the test run.
    table: names of parameters there.
    prefix: what the table needs before the name of a block's parameter.
  """

  def __init__(self, record: compare.Record, table: names.Table, prefix: str = "block."):
    self._record, self._table, self._prefix = record, table, prefix
    self._cases: dict[str, Case] = {}

  def add(
    self,
    name: str,
    module: torch.nn.Module,
    build: Callable[..., nnx.Module],
    args: tuple[Any, ...],
    reference: Callable[..., torch.Tensor],
    call: Callable[..., jax.Array] = lambda block, *args: block(*args),
    bound: float = compare.BLOCK,
  ) -> None:
    """Adds a block.

    Args:
      name: of the comparison.
      module: the block there; gets random weights.
      build: makes ours from `Keys`.
      args: inputs; the first, an array or several, runs along the residual stream.
      reference: runs theirs: (module, *args).
      call: runs ours: (block, *args).
      bound: largest relative error; `compare.MODEL` for what is made of several blocks.
    """
    net = network(build)
    case = Case(net, call, [], [], [], bound)
    for regime in REGIMES:
      faint = regime == "faint"
      compare.randomize(module, [self._record.seed, len(self._cases)], faint=faint)
      scale = np.float32(compare.FAINT if faint else 1)
      scaled = (jax.tree.map(lambda x: x * scale, args[0]), *args[1:])  # noqa: B023
      with torch.no_grad():
        case.expected.append(reference(module, *scaled))
      case.params.append(transplant(net, module, self._table, self._prefix))
      case.args.append(scaled)
    self._cases[name] = case

  def check(self) -> None:
    """Compares all blocks in both regimes; fails with the list of those that differ."""
    outputs, failures = self._run(), []
    for name, case in self._cases.items():
      for regime, ours, theirs in zip(REGIMES, outputs[name], case.expected, strict=True):
        what = name if regime == "normal" else f"{name} ({regime})"
        try:
          self._record.check(what, ours, theirs, case.bound)
        except AssertionError as failure:
          failures.append(str(failure))
    assert not failures, "\n".join(failures)

  def _run(self) -> dict[str, list[np.ndarray]]:
    @jax.jit
    def run(params, args):
      return {n: c.call(c.net.bind(params[n]), *args[n]) for n, c in self._cases.items()}

    outputs = []
    for i in range(len(REGIMES)):
      params = {name: case.params[i] for name, case in self._cases.items()}
      args = {name: case.args[i] for name, case in self._cases.items()}
      with jax.default_matmul_precision("highest"):
        outputs.append(jax.device_get(run(params, args)))
    return {name: [output[name] for output in outputs] for name in self._cases}


def transplant(
  net: Network, module: torch.nn.Module, table: names.Table, prefix: str = ""
) -> dict[str, np.ndarray]:
  """Our parameters with the values of PyTorch's; every one of either side has its counterpart."""
  stored = {name: value.numpy() for name, value in module.state_dict().items()}
  pairs = table.pairs(prefix + name for name in net.abstract)
  pairs = {a.removeprefix(prefix): b.removeprefix(prefix) for a, b in pairs.items()}
  assert set(pairs.values()) == stored.keys(), set(pairs.values()) ^ stored.keys()
  return {
    ours: np.array(  # a copy: the module's weights are drawn again
      names.from_torch(prefix + ours, stored[theirs], net.abstract[ours].shape)
    )
    for ours, theirs in pairs.items()
  }
