"""The FLOPs of a model, counted from the program of its loss: what a training step has to compute.

Convention. Two FLOPs for each multiply-add of matrix products and convolutions; all else is free.
A convolution has all its taps at each output, also those that read padding, and none for the holes
of a dilated input. The backward pass of a product costs as much as the product once for each of its
operands that depends on what is trained: a frozen encoder is run forward only, a frozen weight has
no gradient, and nobody asks for the gradient of the noisy latents that the first layer reads. What
is computed twice to save memory is not counted, so that recomputation does not look like work. This
is the model FLOPs of MFU: Chowdhery et al., "PaLM" (arXiv 2204.02311), appendix B.

Shapes are those of the whole batch, wherever the mesh puts its parts: a step's FLOPs do not depend
on the devices.
"""

from collections import Counter
from collections.abc import Callable, Sequence
import dataclasses
import math
from typing import Any

import jax
from jax import extend
import jax.numpy as jnp

from vidjax.parallel import plan

# Primitives that run one program on their operands as they are.
_CALLS = ("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "shard_map")
_CALLS += ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
# Primitives whose derivative is zero wherever it exists.
_CONSTANT = ("stop_gradient", "round", "floor", "ceil", "sign")

Tally = Counter[tuple[str, str]]  # FLOPs by (kind of product, "forward" or "backward")


@dataclasses.dataclass(frozen=True)
class Flops:
  """FLOPs of one training step on the whole batch.

  Attributes:
    forward: of the loss.
    backward: of its gradient by what is trained, without the forward pass.
    kinds: (forward, backward) by kind of product: "convolution", "matmul" (a weight, or a tap of a
      convolution along time, times activations), "batched matmul" (attention) and "kernel".
  """

  forward: int
  backward: int
  kinds: dict[str, tuple[int, int]]

  @property
  def total(self) -> int:
    """Of the step; the optimizer, which has no matrix products, is not counted."""
    return self.forward + self.backward


def step_flops(loss: Callable[..., Any], trained: Any, *args: Any) -> Flops:
  """Counts the FLOPs of a training step, without computing anything.

  Args:
    loss: `loss(trained, *args)` is what is differentiated by `trained`; auxiliary results may stand
      beside it.
    trained: a pytree of arrays, or of their shapes and dtypes.
    args: what else the loss reads, trained or not: frozen weights, the batch, keys.

  Raises:
    ValueError: a loop whose number of rounds only data tell, or a primitive that hides products.
  """
  with plan.references():  # kernels pad, and say little of what they compute
    # A function of its own: what was traced of `loss` before may hold kernels.
    closed = jax.make_jaxpr(lambda *args: loss(*args))(trained, *args)
  count = len(jax.tree.leaves(trained))
  inputs = [i < count and _has_gradient(v) for i, v in enumerate(closed.jaxpr.invars)]
  tally, _ = _program(closed.jaxpr, inputs)
  forward, backward = (
    sum(n for (_, which), n in tally.items() if which == of) for of in ("forward", "backward")
  )
  kinds = {
    kind: (tally[kind, "forward"], tally[kind, "backward"])
    for kind in sorted({k for k, _ in tally})
  }
  return Flops(forward, backward, kinds)


def rates(
  flops: int, step_seconds: float, devices: int, peak: float | None
) -> dict[str, float | None]:
  """What a step's FLOPs and time say of the devices, by the names of the metrics.

  Args:
    flops: of the step, `Flops.total`.
    step_seconds: from one step to the next, waits included.
    devices: how many share the step.
    peak: FLOP per second of one device in the dtype of the computation; None if nobody knows it.

  Returns:
    `tflops_per_device`, in 10^12 FLOP per second, and `mfu`, the share of the peak, or None.
  """
  rate = flops / step_seconds / devices
  return {"tflops_per_device": rate / 1e12, "mfu": None if peak is None else rate / peak}


def _program(jaxpr: extend.core.Jaxpr, inputs: Sequence[bool]) -> tuple[Tally, list[bool]]:
  """The FLOPs of a program, and which results depend on what is trained, as `inputs` do."""
  depends = dict(zip(jaxpr.invars, inputs, strict=True))
  tally: Tally = Counter()

  def flag(atom: Any) -> bool:
    return not isinstance(atom, extend.core.Literal) and depends.get(atom, False)

  for equation in jaxpr.eqns:
    flags = [flag(atom) for atom in equation.invars]
    cost, results = _equation(equation, flags)
    tally.update(cost)
    for v, result in zip(equation.outvars, results, strict=True):
      depends[v] = result and _has_gradient(v)
  return tally, [flag(atom) for atom in jaxpr.outvars]


def _equation(equation: extend.core.JaxprEqn, flags: list[bool]) -> tuple[Tally, list[bool]]:
  name, given = equation.primitive.name, equation.params
  any_result = [any(flags)] * len(equation.outvars)
  if name == "dot_general":
    (contracted, _), (batch, _) = given["dimension_numbers"]
    depth = math.prod(_shape(equation.invars[0])[dim] for dim in contracted)
    flops = 2 * math.prod(_shape(equation.outvars[0])) * depth
    return _product("batched matmul" if batch else "matmul", flops, sum(flags)), any_result
  if name == "conv_general_dilated":
    out_dim = given["dimension_numbers"].rhs_spec[0]
    kernel = _shape(equation.invars[1])
    holes = math.prod(given["lhs_dilation"])
    taps = math.prod(kernel) // kernel[out_dim]  # those of all input channels of a group
    flops = 2 * math.prod(_shape(equation.outvars[0])) * taps // holes
    return _product("convolution", flops, sum(flags)), any_result
  if name == "pallas_call":
    return _kernel(equation, any(flags)), any_result
  if name in _CONSTANT:
    return Counter(), [False] * len(equation.outvars)
  if name == "scan":
    return _scan(equation, flags)
  if name == "cond":
    branches = [_program(branch.jaxpr, flags[1:]) for branch in given["branches"]]
    dearest = max((tally for tally, _ in branches), key=lambda tally: sum(tally.values()))
    results = [any(of) for of in zip(*(results for _, results in branches), strict=True)]
    return dearest, results
  inner = list(extend.core.jaxprs_in_params(given))
  if name in _CALLS:
    assert len(inner) == 1, name
    tally, results = _program(inner[0], flags)
    return _times(tally, _shards(given) if name == "shard_map" else 1), results
  for jaxpr in inner:
    if sum(_program(jaxpr, [False] * len(jaxpr.invars))[0].values()):
      raise ValueError(
        f"FLOPs cannot be counted: matrix products in a {name!r}"
        + (", whose rounds only data tell: use a loop of a fixed length" if name == "while" else "")
      )
  return Counter(), any_result


def _product(kind: str, flops: int, trained_operands: int) -> Tally:
  return Counter({(kind, "forward"): flops, (kind, "backward"): flops * trained_operands})


def _kernel(equation: extend.core.JaxprEqn, trained: bool) -> Tally:
  """What a kernel says of itself; its backward pass, elsewhere, counts twice as much."""
  estimate = equation.params.get("cost_estimate")
  if estimate is None:
    raise ValueError("FLOPs cannot be counted: a kernel (pallas_call) without a cost_estimate")
  return _product("kernel", int(estimate.flops), 2 * trained)


def _scan(equation: extend.core.JaxprEqn, flags: list[bool]) -> tuple[Tally, list[bool]]:
  given = equation.params
  if "num_consts" in given:
    constants, carried = given["num_consts"], given["num_carry"]
  else:  # since JAX 0.11
    constants, carried, _ = (len(part) for part in given["ft_in"].unpack())
  carry = slice(constants, constants + carried)
  while True:  # what a round makes dependent is so in the next
    tally, results = _program(given["jaxpr"].jaxpr, flags)
    merged = [a or b for a, b in zip(flags[carry], results[:carried], strict=True)]
    if merged == flags[carry]:
      return _times(tally, given["length"]), results
    flags = [*flags[:constants], *merged, *flags[constants + carried :]]


def _shards(given: dict[str, Any]) -> int:
  """How many parts the shapes inside a `shard_map` are one of."""
  axes = set()
  for spec in (*given["in_specs"], *given["out_specs"]):
    for entry in filter(None, spec):
      axes.update(entry if isinstance(entry, tuple) else (entry,))
  return math.prod(given["mesh"].shape[axis] for axis in axes)


def _times(tally: Tally, factor: int) -> Tally:
  return Counter({key: factor * flops for key, flops in tally.items()})


def _shape(v: Any) -> tuple[int, ...]:
  return v.aval.shape


def _has_gradient(v: Any) -> bool:
  return jnp.issubdtype(v.aval.dtype, jnp.inexact)
