"""A step of its pieces: what rows, policies and devices change, and what they do not."""

import dataclasses

import pytest

from tests.unit.planning import programs
from vidjax.planning import data_parallel, quick, search, topology


def assembled(*overrides, **kwargs):
  return quick.assemble(
    programs.described(*overrides), programs.measured(*overrides), programs.TOPOLOGY, **kwargs
  )


def test_time_and_activations_go_with_the_rows():
  once, twice, thrice = (assembled(rows=rows) for rows in (100.0, 200.0, 300.0))
  update = data_parallel.update_seconds(programs.described(), programs.TOPOLOGY)
  assert twice.cost.seconds - update == pytest.approx(2 * (once.cost.seconds - update))
  assert twice.arguments == once.arguments
  more = twice.temporaries - once.temporaries
  assert more > 0
  assert thrice.temporaries - twice.temporaries == pytest.approx(more, rel=1e-3)


def test_a_batch_in_parts_takes_the_memory_of_one():
  whole, parts = assembled(), assembled("accumulation_steps=2")
  update = data_parallel.update_seconds(programs.described(), programs.TOPOLOGY)
  assert parts.cost.seconds == pytest.approx(whole.cost.seconds, rel=0.05)
  assert parts.cost.seconds > update
  twice = 2 * whole.traffic.collectives["all-reduce"][1]
  assert parts.traffic.collectives["all-reduce"][1] == twice


def test_the_devices_of_a_cell_share_its_rows():
  alone, shared = assembled(), assembled("mesh.fsdp=2", "mesh.context=2")
  assert programs.measured("mesh.fsdp=2", "mesh.context=2").cell.program.mesh.size == 2
  # Up to what does not depend on the rows, the positions of frames.
  assert shared.cost.matrix_flops == pytest.approx(alone.cost.matrix_flops, rel=0.02)


def test_recomputation_costs_time_and_saves_memory():
  stored, again = assembled(rows=64.0, policy="none"), assembled(rows=64.0, policy="block")
  assert again.cost.seconds > stored.cost.seconds
  assert again.temporaries < stored.temporaries
  assert again.cost.matrix_flops > stored.cost.matrix_flops


def test_state_is_divided_among_the_devices_that_shard_it():
  steps = programs.measured().steps
  sharded = data_parallel.argument_bytes(programs.described(), steps)
  copies = programs.described("mesh.replica=4", "mesh.fsdp=1")
  whole = data_parallel.argument_bytes(copies, steps)
  assert whole > 1.5 * sharded  # small parameters are copied anyway


def test_weights_are_gathered_and_gradients_summed():
  program, measured = programs.described(), programs.measured()
  found = data_parallel.traffic(
    program, measured.cell.program, measured.steps, programs.TOPOLOGY, 1.0
  )
  gradients = sum(p.size for p in program.params.values()) * 4  # the tiny model is in float32
  assert found.collectives["all-reduce"][1] == gradients
  assert found.collectives["all-gather"][1] > 0
  seconds, exposed = found.collectives["all-gather"][2:]
  assert 0.0 < exposed < 0.5 * seconds  # there is a whole second to hide behind
  copies = programs.described("mesh.replica=4", "mesh.fsdp=1")
  found = data_parallel.traffic(
    copies, measured.cell.program, measured.steps, programs.TOPOLOGY, 1.0
  )
  assert set(found.collectives) == {"all-reduce"}


def test_slices_pay_for_the_slower_network():
  copies = programs.described("mesh.replica=2", "mesh.fsdp=2")
  measured = programs.measured()
  seconds = [
    data_parallel.traffic(
      copies, measured.cell.program, measured.steps, topology.parse("v5e:1x1", slices), 1.0
    ).exposed_seconds
    for slices in (2, 4)
  ]
  assert 0 < seconds[0] < seconds[1]


def estimator(limit):
  found = search.Estimator("x", programs.site(limit), None, 1)
  found.measure = lambda config: programs.measured()
  return found


def test_search_ranks_what_fits_by_clips_per_second(monkeypatch):
  config, fits_some = programs.config(), int(assembled(rows=4.0, policy="block").total_bytes)
  monkeypatch.setattr(search, "_policies", lambda config: ("none", "block"))
  found = search.search(config, estimator(fits_some))
  fitting = [c for c in found if c.plan.hbm.fits]
  assert 0 < len(fitting) < len(found)
  assert found[: len(fitting)] == fitting
  rates = [c.plan.clips_per_second for c in fitting]
  assert rates == sorted(rates, reverse=True)
  assert all(c.config.batch_size == c.rows * 4 for c in found)
  assert {len(row) for row in search.rows(found)} == {len(search.HEADER)}


def test_the_largest_batch_that_fits():
  config = dataclasses.replace(programs.config(), batch_size=8)
  one_row = int(assembled(rows=0.5).total_bytes)
  assert search.largest_batch(config, estimator(one_row)) == 4
  assert search.largest_batch(config, estimator(2**40)) == 8
  assert search.largest_batch(config, estimator(1)) == 0
