"""How often the body of a loop runs.

XLA for TPUs does not always write the number of trips into its text. Where it does not, the
loop's integers are followed: their first values, the step that the body takes, the comparison that
ends it.
"""

from collections.abc import Callable, Mapping
import operator
import re

from vidjax.planning import hlo

MAX_TRIPS = 100_000  # a loop that counts further than this is given up on

_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
  "add": operator.add,
  "subtract": operator.sub,
  "multiply": operator.mul,
}
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
  "LT": operator.lt,
  "LE": operator.le,
  "GT": operator.gt,
  "GE": operator.ge,
  "NE": operator.ne,
  "EQ": operator.eq,
}
_SAME_VALUE = ("copy", "bitcast", "convert", "copy-start", "copy-done", "reshape")


def trip_count(module: hlo.Module, around: hlo.Computation, loop: hlo.Instruction) -> int | None:
  """Trips of `loop`, a `while` in the computation `around`; None if the text does not tell."""
  written = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
  if written:
    return int(written.group(1))
  condition = module.computations[loop.values["condition"].removeprefix("%")]
  body = module.computations[loop.values["body"].removeprefix("%")]
  start = around.by_name[loop.operands[0]]
  if start.opcode != "tuple" or body.root.opcode != "tuple":
    return None
  state = {
    index: value
    for index, name in enumerate(start.operands)
    if (value := _scalar(module, around, around.by_name[name], {})) is not None
  }
  for trips in range(MAX_TRIPS):
    goes_on = _scalar(module, condition, condition.root, state)
    if goes_on is None:
      return None
    if not goes_on:
      return trips
    state = {
      index: value
      for index in state
      if (value := _scalar(module, body, body.by_name[body.root.operands[index]], state))
      is not None
    }
  return None


def _scalar(
  module: hlo.Module,
  inside: hlo.Computation,
  instruction: hlo.Instruction,
  state: Mapping[int, int],
) -> int | None:
  """Value of an integer, given those in the tuple that is the computation's only parameter.

  In a fused computation `state` holds the values of its parameters instead.
  """
  if not instruction.arrays or any(array.dims for array in instruction.arrays):
    return None
  if instruction.opcode == "constant":
    return int(instruction.literal) if re.fullmatch(r"-?\d+", instruction.literal) else None
  if instruction.opcode == "parameter":
    return state.get(int(instruction.literal))
  if instruction.opcode == "get-tuple-element":
    source = inside.by_name[instruction.operands[0]]
    index = int(instruction.values["index"])
    return state.get(index) if source.opcode == "parameter" else None
  values = [_scalar(module, inside, each, state) for each in inside.operands(instruction)]
  known = [value for value in values if value is not None]
  if len(known) < len(values):
    return None
  if instruction.opcode in _SAME_VALUE:
    return known[0]
  if instruction.opcode in _ARITHMETIC:
    return _ARITHMETIC[instruction.opcode](known[0], known[1])
  if instruction.opcode == "compare":
    return _COMPARISONS[instruction.values["direction"]](known[0], known[1])
  if instruction.opcode == "fusion":
    called = module.computations[instruction.called]
    return _scalar(module, called, called.root, dict(enumerate(known)))
  return None
