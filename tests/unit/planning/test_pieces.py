"""The calls of a step: all of them, in their order, with their parameters; equal ones are one."""

import dataclasses

import jax

from tests.unit.planning import programs
from vidjax import flops, program
from vidjax.encoders import vae
from vidjax.models.blocks import VideoResBlock, VideoTransformer
from vidjax.nn import resblock
from vidjax.parallel import mesh as meshes
from vidjax.planning import pieces, planner, products


def test_every_parameter_of_the_model_is_in_a_call():
  steps = programs.measured().steps
  names = [name for call in steps.calls if call.trained for name in call.names]
  assert sorted(names) == sorted(programs.described().task.network.abstract)


def test_blocks_are_counted():
  steps = programs.measured().steps
  of_kind = [c for c in steps.calls if c.kind is VideoResBlock]
  assert len(of_kind) == 2 + 2 + 4  # two levels of one block, the middle, two levels of two
  assert sum(n for c, n in steps.distinct.values() if c.kind is VideoResBlock) == len(of_kind)
  assert sum(c.kind is VideoTransformer for c in steps.calls) == 1 + 1 + 2


def test_the_flops_of_the_calls_are_those_of_the_forward_pass():
  cell = programs.measured().cell.program
  live = {name: cell.params[name] for name in cell.trained}
  with jax.set_mesh(cell.mesh):
    whole = flops.step_flops(
      lambda live, frozen, batch: pieces._losses(cell, live, frozen, batch),
      live,
      cell.frozen,
      cell.batch,
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
  networks = {c.kind.__name__: c.network for c in programs.measured().steps.calls}
  assert networks["CLIPText"] == "text"
  assert networks["Encoder"] == "vae"
  assert networks["VideoTransformer"] == ""


def test_an_autoencoder_that_is_trained_is_made_of_its_blocks():
  config, _ = planner.load("configs/autoencoder/kl.py:tiny", [])
  with_one = dataclasses.replace(config, batch_size=1)
  mesh = meshes.make_mesh(with_one.mesh, jax.devices()[:1])
  steps = pieces.record(program.make(with_one, mesh, weights=False))
  kinds = {call.kind for call in steps.calls}
  assert vae.Encoder not in kinds
  assert {resblock.ResBlock, vae.SelfAttention} < kinds
  assert all(call.trained for call in steps.calls)


def test_recording_leaves_no_trace():
  before = VideoResBlock.__call__
  programs.measured()
  assert VideoResBlock.__call__ is before
