"""The calls of a step: all of them, in their order, with their parameters; equal ones are one."""

import jax

from tests.unit.planning import programs
from vidjax import flops
from vidjax.models.blocks import VideoResBlock, VideoTransformer
from vidjax.planning import pieces, products


def test_every_parameter_of_the_model_is_in_a_call():
  steps = programs.measured().steps
  names = [name for call in steps.calls for name in call.names]
  assert sorted(names) == sorted(programs.described().task.network.abstract)


def test_blocks_are_counted():
  steps = programs.measured().steps
  of_kind = [c for c in steps.calls if c.kind is VideoResBlock]
  assert len(of_kind) == 2 + 2 + 4  # two levels of one block, the middle, two levels of two
  assert sum(n for c, n in steps.distinct.values() if c.kind is VideoResBlock) == len(of_kind)
  assert sum(c.kind is VideoTransformer for c in steps.calls) == 1 + 1 + 2


def test_the_flops_of_the_calls_are_those_of_the_forward_pass():
  program = programs.measured().cell.program
  live = {name: program.params[name] for name in program.trained}
  with jax.set_mesh(program.mesh):
    whole = flops.step_flops(
      lambda live, frozen, batch: pieces._losses(program, live, frozen, batch),
      live,
      program.frozen,
      program.batch,
    ).forward
  counted = sum(products.count(call) for call in programs.measured().steps.calls)
  assert abs(counted - whole) < 1e-3 * whole


def test_policies_are_seen_and_change_what_is_stored():
  by_policy = {}
  for policy in ("none", "block"):
    steps = programs.measured(*(() if policy == "none" else (programs.BLOCK,))).steps
    blocks = [c for c in steps.calls if c.kind is VideoResBlock]
    assert {c.policy for c in blocks} == {policy}
    assert all(c.recomputed == (policy != "none") for c in blocks)
    by_policy[policy] = blocks[0].stored_bytes()
  x = blocks[0].x
  matmuls = blocks[0].stored_bytes("matmuls")
  assert by_policy["none"] > matmuls > by_policy["block"]
  assert by_policy["block"] < 1.1 * x.size * x.dtype.itemsize + 4096


def test_frozen_encoders_have_no_backward_pass():
  kinds = {c.kind.__name__: c.trained for c in programs.measured().steps.calls}
  assert kinds["Layer"] is False
  assert kinds["ResBlock"] is False
  assert kinds["VideoTransformer"] is True


def test_recording_leaves_no_trace():
  before = VideoResBlock.__call__
  programs.measured()
  assert VideoResBlock.__call__ is before
