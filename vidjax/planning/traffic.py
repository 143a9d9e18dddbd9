"""Bytes that an instruction reads from and writes to HBM.

Arrays count in their physical layout, padded to tiles (`shapes`); those that the compiler placed in
on-chip memory are free. What a fusion reads only a part of, or updates in place, counts that part.
"""

from vidjax.planning import hlo

_PARTIAL = ("slice", "dynamic-slice", "gather")
_VIEWS = ("bitcast",)


def of_instruction(
  module: hlo.Module, inside: hlo.Computation, instruction: hlo.Instruction
) -> int:
  """HBM bytes of one run of `instruction`, standing in the computation `inside`."""
  if instruction.opcode == "fusion":
    return _of_fusion(module.computations[instruction.called], inside, instruction)
  written = sum(array.hbm_bytes for array in instruction.arrays)
  operands = [sum(a.hbm_bytes for a in each.arrays) for each in inside.operands(instruction)]
  if instruction.opcode == "dynamic-update-slice":
    return 2 * min(operands[1], written)  # in place: the update is read and written
  if instruction.opcode in _PARTIAL:
    return written + min(operands[0], written) + sum(operands[1:])
  return written + sum(operands)


def _of_fusion(
  called: hlo.Computation, inside: hlo.Computation, instruction: hlo.Instruction
) -> int:
  total, in_place = 0, set()
  results = list(called.operands(called.root)) if called.root.opcode == "tuple" else [called.root]
  for result, array in zip(results, instruction.arrays, strict=False):
    update = _behind_views(called, result)
    if update.opcode == "dynamic-update-slice":
      target, part = (called.by_name[name] for name in update.operands[:2])
      in_place.add(_behind_views(called, target).name)
      if array.hbm_bytes:
        total += sum(a.physical_bytes for a in part.arrays)
    else:
      total += array.hbm_bytes
  for number, source in enumerate(inside.operands(instruction)):
    if source.is_tuple:
      continue  # a tuple of addresses
    read = sum(array.hbm_bytes for array in source.arrays)
    parameter = called.parameters.get(number)
    if parameter is None or not read:
      continue
    users = called.users.get(parameter.name, [])
    if parameter.name in in_place and len(users) == 1:
      continue
    if users and all(user.opcode in _PARTIAL and at == 0 for user, at in users):
      read = min(read, sum(a.physical_bytes for user, _ in users for a in user.arrays))
    total += read
  return total


def _behind_views(inside: hlo.Computation, instruction: hlo.Instruction) -> hlo.Instruction:
  """What `instruction` shows in another shape, if it only does that."""
  while instruction.opcode in _VIEWS:
    instruction = inside.by_name[instruction.operands[0]]
  return instruction
