"""Reads the text of a compiled program: computations and their instructions.

Only what pricing asks for is understood; every attribute of an instruction is kept as text, since
each compiler version adds some. The grammar is that of `HloModule::ToString` in XLA:

    [ROOT] %name = type opcode(operands), key=value, key={...}
"""

from collections.abc import Iterator
import dataclasses
import functools
import re

from vidjax.planning import shapes

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) [({]")
_DEFINITION = re.compile(r"^\s+(ROOT\s+)?%?([\w.\-]+) = ")
_END = re.compile(r"\}(, \w+=.*)?$")
# What matters when nesting is counted: strings (whole), brackets, commas.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[()\[\]{},]')
_COMMENT = re.compile(r"/\*.*?\*/")


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: without the percent sign.
    opcode: "fusion", "all-gather-start", ...
    arrays: of the result; a tuple's are flattened.
    operands: names, in order. Empty for constants and parameters.
    literal: what stands in the brackets of a constant ("3") or a parameter (its number).
    attributes: what follows the operands.
    is_root: its value is that of the computation.
    is_tuple: the result is a tuple, even of one array.
  """

  name: str
  opcode: str
  arrays: tuple[shapes.Array, ...]
  operands: tuple[str, ...]
  literal: str
  attributes: str
  is_root: bool
  is_tuple: bool

  @functools.cached_property
  def values(self) -> dict[str, str]:
    """Attributes by key, values as written, brackets included."""
    pairs = (part.partition("=") for part in split(self.attributes))
    return {key.strip(): value for key, _, value in pairs}

  @property
  def called(self) -> str:
    """Name of the computation of a fusion, call or asynchronous instruction; empty if none."""
    value = self.values.get("calls") or self.values.get("to_apply") or ""
    return value.removeprefix("%")

  @property
  def branches(self) -> tuple[str, ...]:
    """Names of the computations of a conditional."""
    listed = self.values.get("branch_computations")
    if listed is None:
      found = [self.values.get("true_computation"), self.values.get("false_computation")]
      return tuple(name.removeprefix("%") for name in found if name)
    return tuple(name.strip().removeprefix("%") for name in listed.strip("{}").split(","))

  @property
  def custom_call_target(self) -> str:
    """What a custom call calls, without quotes."""
    return self.values.get("custom_call_target", "").strip('"')

  @property
  def op_name(self) -> str:
    """Where in the Python program it comes from, "jit(step)/.../dot_general"; may be empty."""
    found = re.search(r'op_name="([^"]*)"', self.values.get("metadata", ""))
    return found.group(1) if found else ""

  @property
  def estimated_cycles(self) -> int:
    """XLA's own estimate, 0 where it gives none."""
    found = re.search(r'"estimated_cycles":"(\d+)"', self.values.get("backend_config", ""))
    return int(found.group(1)) if found else 0


@dataclasses.dataclass(frozen=True)
class Computation:
  """Instructions in the order in which they run (if the module is scheduled)."""

  name: str
  instructions: tuple[Instruction, ...]

  @functools.cached_property
  def by_name(self) -> dict[str, Instruction]:
    """The instructions by name."""
    return {each.name: each for each in self.instructions}

  @functools.cached_property
  def users(self) -> dict[str, list[tuple[Instruction, int]]]:
    """Name -> (instruction that uses it, as which operand)."""
    found: dict[str, list[tuple[Instruction, int]]] = {}
    for each in self.instructions:
      for number, operand in enumerate(each.operands):
        found.setdefault(operand, []).append((each, number))
    return found

  @functools.cached_property
  def parameters(self) -> dict[int, Instruction]:
    """The parameters by number."""
    return {int(each.literal): each for each in self.instructions if each.opcode == "parameter"}

  @property
  def root(self) -> Instruction:
    """The instruction whose value the computation returns."""
    return next((each for each in self.instructions if each.is_root), self.instructions[-1])

  def operands(self, instruction: Instruction) -> Iterator[Instruction]:
    """The instructions that `instruction` takes its operands from."""
    for name in instruction.operands:
      yield self.by_name[name]


@dataclasses.dataclass(frozen=True)
class Module:
  """A program: its computations by name, and which one it starts with."""

  computations: dict[str, Computation]
  entry: Computation


def parse(text: str) -> Module:
  """Reads `compiled.as_text()`.

  Raises:
    ValueError: it is not the text of one compiled (scheduled) HLO module.
  """
  first = text.lstrip().split("\n", 1)[0]
  if not first.startswith("HloModule"):
    raise ValueError(
      f"not the text of an HLO module, which starts with HloModule: {first[:60]!r};"
      " pass what compiled.as_text() returns"
    )
  if "is_scheduled=true" not in first:
    raise ValueError(
      "the HLO module is not scheduled, so that the order of its instructions says nothing:"
      " pass compiled.as_text(), not lowered.as_text()"
    )
  computations: dict[str, Computation] = {}
  entry = name = ""
  lines: list[str] = []
  for line in text.split("\n"):
    if not name:
      if line.endswith("{") and (header := _COMPUTATION.match(line)):
        name, lines = header.group(2), []
        entry = name if header.group(1) else entry
    elif _END.match(line):
      computations[name] = Computation(name, tuple(map(_instruction, lines)))
      name = ""
    elif _DEFINITION.match(line):
      lines.append(line)
    elif lines:
      lines[-1] += line  # the attributes of kernels hold texts of several lines
  if entry not in computations:
    raise ValueError("the HLO module has no entry computation: the text is cut off")
  return Module(computations, computations[entry])


def split(text: str) -> list[str]:
  """Parts of a list, at the commas that are in no brackets and no string; without empty ones."""
  parts, start, depth = [], 0, 0
  for token in _TOKEN.finditer(text):
    mark = token.group()
    if mark in "([{":
      depth += 1
    elif mark in ")]}":
      depth -= 1
    elif mark == "," and depth == 0:
      parts.append(text[start : token.start()])
      start = token.end()
  parts.append(text[start:])
  return [part.strip() for part in parts if part.strip()]


def _closing(text: str, start: int) -> int:
  """Position of the bracket that closes the one at `start`."""
  depth = 0
  for token in _TOKEN.finditer(text, start):
    if token.group() in "([{":
      depth += 1
    elif token.group() in ")]}":
      depth -= 1
      if depth == 0:
        return token.start()
  raise ValueError(f"the HLO text is cut off or damaged at: {text[:100]!r}")


def _instruction(line: str) -> Instruction:
  definition = _DEFINITION.match(line)
  assert definition, line
  text = line[definition.end() :]
  is_tuple = text.startswith("(")
  end = _closing(text, 0) + 1 if is_tuple else text.find(" ")
  opening = text.find("(", end)
  if end < 0 or opening < 0:
    raise ValueError(f"the HLO text is cut off or damaged at: {line.strip()[:100]!r}")
  closing = _closing(text, opening)
  opcode, inside = text[end:opening].strip(), text[opening + 1 : closing]
  has_operands = opcode not in ("constant", "parameter")
  operands = split(_COMMENT.sub("", inside)) if has_operands else []
  return Instruction(
    name=definition.group(2),
    opcode=opcode,
    arrays=shapes.parse(text[:end]),
    operands=tuple(operand.rsplit(" ", 1)[-1].removeprefix("%") for operand in operands),
    literal="" if has_operands else inside,
    attributes=text[closing + 1 :],
    is_root=bool(definition.group(1)),
    is_tuple=is_tuple,
  )
