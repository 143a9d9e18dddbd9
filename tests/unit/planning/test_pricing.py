"""Prices of small programs written by hand, each checked against arithmetic."""

import math

import pytest

from vidjax.planning import chips, collectives, pricing, topology

V5E = topology.parse("v5e:4x4")
CHIP = V5E.chip
BANDWIDTH = 0.85 * CHIP.hbm_bytes_per_second
MIB = 2**20
ARRAY = "f32[1024,1024]{1,0:T(8,128)}"  # 4 MiB
CYCLES = 'backend_config={"window_config":{"estimated_cycles":"1500000"}}'  # 1 ms
COMPUTE = f"{ARRAY[:-1]}S(1)}} add(%v, %v), {CYCLES}"  # on the chip: 1/6 ms and the issue
COMPUTE_SECONDS = 1e-3 / 6 + 0.3e-6


def program(*lines, before="", slices=1, prices=None):
  body = "\n".join(f"  {line}" for line in lines)
  text = f"""HloModule m, is_scheduled=true

{before}
ENTRY %main (x: f32[1024,1024]) -> f32[1024,1024] {{
  %x = {ARRAY} parameter(0)
  %v = {ARRAY[:-1]}S(1)}} parameter(1)
{body}
}}
"""
  return pricing.price(text, topology.parse("v5e:4x4", slices), prices)


def test_memory_bound_and_compute_bound():
  cost = program(f"ROOT %y = {ARRAY} add(%x, %x)")
  assert cost.bytes_accessed == 12 * MIB
  assert cost.seconds == pytest.approx(12 * MIB / BANDWIDTH + 0.3e-6)
  assert cost.low_seconds == pytest.approx(12 * MIB / CHIP.hbm_bytes_per_second)
  assert cost.by_kind == {"elementwise": cost.seconds}
  cost = program(f"ROOT %y = {COMPUTE}")
  assert cost.bytes_accessed == 0
  assert cost.seconds == pytest.approx(COMPUTE_SECONDS)
  assert cost.high_seconds == pytest.approx(1e-3)


def test_matrix_product_takes_the_lesser_of_cycles_and_padded_flops():
  product = "bf16[1024,1024]{1,0:T(8,128)(2,1)S(1)} dot(%a, %a), lhs_contracting_dims={1}"
  a = "%a = bf16[1024,1024]{1,0:T(8,128)(2,1)S(1)} parameter(2)"
  flops = 2 * 1024**3
  cost = program(a, f"ROOT %y = {product}, {CYCLES}")
  assert cost.matrix_flops == flops
  assert cost.seconds == pytest.approx(flops / (0.9 * CHIP.peak_flops) + 0.3e-6)
  assert cost.low_seconds == pytest.approx(flops / CHIP.peak_flops)
  cost = program(a, f"ROOT %y = {product}, {CYCLES.replace('1500000', '1500')}")
  assert cost.seconds == pytest.approx(1e-6 + 0.3e-6)


def test_fusions_count_what_they_touch():
  """A slice is read in part, an update is written in place."""
  before = f"""%fused (p: f32[1024,1024], i: s32[]) -> f32[1024,1024] {{
  %p = {ARRAY} parameter(0)
  %i = s32[] parameter(1)
  %s = f32[8,1024]{{1,0:T(8,128)}} dynamic-slice(%p, %i, %i), dynamic_slice_sizes={{8,1024}}
  ROOT %n = f32[8,1024]{{1,0:T(8,128)}} negate(%s)
}}

%update (p: f32[1024,1024], u: f32[8,1024], i: s32[]) -> f32[1024,1024] {{
  %p = {ARRAY} parameter(0)
  %u = f32[8,1024]{{1,0:T(8,128)}} parameter(1)
  %i = s32[] parameter(2)
  ROOT %d = {ARRAY} dynamic-update-slice(%p, %u, %i, %i)
}}
"""
  cost = program(
    "%zero = s32[]{:S(6)} constant(0)",
    "%part = f32[8,1024]{1,0:T(8,128)} fusion(%x, %zero), kind=kLoop, calls=%fused",
    f"ROOT %y = {ARRAY} fusion(%x, %part, %zero), kind=kLoop, calls=%update",
    before=before,
  )
  assert cost.bytes_accessed == 4 * 8 * 1024 * 4


def test_copies_hide_behind_computation():
  start = f"%c = ({ARRAY[:-1]}S(1)}}, {ARRAY}, u32[]{{:S(2)}}) copy-start(%x)"
  done = f"ROOT %d = {ARRAY[:-1]}S(1)}} copy-done(%c)"
  copy = 4 * MIB / BANDWIDTH
  cost = program(start, done)
  assert cost.seconds == pytest.approx(copy)
  assert cost.by_kind == {"exposed copy": pytest.approx(copy)}
  hidden = program(start, f"%z = {COMPUTE}", done)
  assert hidden.seconds == pytest.approx(COMPUTE_SECONDS)
  two = program(start, start.replace("%c ", "%c2 "), done.replace("%c", "%c2"))
  assert two.seconds == pytest.approx(2 * copy)  # one after the other


def test_copies_to_the_host_are_slow_and_assumed():
  cost = program(
    f"%c = ({ARRAY[:-1]}S(5)}}, {ARRAY}, u32[]{{:S(2)}}) copy-start(%x)",
    f"ROOT %d = {ARRAY[:-1]}S(5)}} copy-done(%c)",
  )
  assert cost.seconds == cost.assumed_seconds == pytest.approx(4 * MIB / 16e9)


def test_collectives_alone_and_hidden():
  groups = "channel_id=1, replica_groups=mesh['a'=16] {'a'}"
  cost = program(f"ROOT %r = {ARRAY} all-reduce(%x), {groups}, to_apply=%add")
  ring = 2 * 15 / 16 * 4 * MIB / 90e9 + 4 * collectives.HOP_SECONDS  # two axes, neither closed
  assert cost.seconds == pytest.approx(ring)
  assert cost.collectives == {
    "all-reduce": pricing.CollectiveCost(1, 4 * MIB, pytest.approx(ring), pytest.approx(ring))
  }
  assert cost.low_seconds == cost.high_seconds == 0
  cost = program(
    f"%s = ({ARRAY}, f32[16384,1024]{{1,0:T(8,128)}}) all-gather-start(%x), {groups}",
    f"%z = {COMPUTE}",
    "ROOT %d = f32[16384,1024]{1,0:T(8,128)} all-gather-done(%s)",
  )
  gather = cost.collectives["all-gather"]
  assert gather.bytes == 64 * MIB
  assert gather.seconds == pytest.approx(15 / 16 * 64 * MIB / 90e9 + 8e-6)
  assert gather.exposed_seconds == pytest.approx(gather.seconds - COMPUTE_SECONDS)
  assert cost.seconds == pytest.approx(gather.seconds)


def test_collectives_between_slices():
  """Of an all-reduce over two slices, each device sends a sixteenth to the other slice."""
  group = collectives.Group(32, 2)
  both = topology.parse("v5e:4x4", 2)
  within = collectives.Collective("all-reduce", 16 * MIB, collectives.Group(16))
  cross = collectives.Collective("all-reduce", 16 * MIB, group)
  extra = collectives.seconds(cross, both) - collectives.seconds(within, both)
  assert extra == pytest.approx(MIB / 3.125e9 + collectives.DCN_HOP_SECONDS)
  megascale = (
    "is_host_transfer=true, frontend_attributes={"
    '_xla_host_transfer_rendezvous="r0",_xla_megascale_transfer_type="ALL_REDUCE"}'
  )
  cost = program(
    "%token = token[] after-all()",
    f"%s = ({ARRAY}, u32[], token[]) send(%x, %token), channel_id=1, {megascale}",
    f"%r = ({ARRAY}, u32[], token[]) recv(%token), channel_id=2, {megascale}",
    "%sd = token[] send-done(%s), channel_id=1",
    f"%z = {COMPUTE}",
    f"ROOT %rd = ({ARRAY}, token[]) recv-done(%r), channel_id=2",
    slices=2,
  )
  exchange = 4 * MIB / 3.125e9 + 50e-6
  assert cost.seconds == pytest.approx(exchange)
  assert cost.collectives["dcn all-reduce"].seconds == pytest.approx(exchange)
  assert cost.assumed_seconds == pytest.approx(exchange - COMPUTE_SECONDS)


def test_kernels_need_a_price():
  call = (
    f"ROOT %scan.3 = {ARRAY[:-1]}S(1)}} custom-call(%v),"
    ' custom_call_target="tpu_custom_call", metadata={op_name="jit(f)/my_kernel"}'
  )
  cost = program(call)
  assert list(cost.unpriced) == ["kernel my_kernel f32[1024,1024]"]
  cost = program(call, prices={"my_ker": pricing.KernelPrice(6e9, vector_flops=4096e3)})
  assert not cost.unpriced
  assert cost.matrix_flops == 6e9
  seconds = 6e9 / (0.6 * CHIP.peak_flops) + 4096e3 / (4096 * CHIP.clock_hz)
  assert cost.seconds == cost.assumed_seconds == pytest.approx(seconds)


def test_unknown_custom_calls_are_reported():
  free = f'%b = {ARRAY} custom-call(), custom_call_target="AllocateBuffer"'
  cost = program(free, f'ROOT %y = {ARRAY} custom-call(%x), custom_call_target="TopK"')
  assert cost.unpriced == {"TopK": 1}
  assert cost.seconds == 0


def test_branches_and_calls():
  """Of a conditional the dearer branch is paid."""
  before = f"""%cheap (p: f32[1024,1024]) -> f32[1024,1024] {{
  ROOT %p = {ARRAY} parameter(0)
}}

%dear (q: f32[1024,1024]) -> f32[1024,1024] {{
  %q = {ARRAY} parameter(0)
  ROOT %n = {ARRAY} negate(%q)
}}
"""
  cost = program(
    "%i = s32[] parameter(2)",
    f"ROOT %y = {ARRAY} conditional(%i, %x, %x), branch_computations={{%cheap, %dear}}",
    before=before,
  )
  assert cost.seconds == pytest.approx(8 * MIB / BANDWIDTH + 0.3e-6)
  assert math.isclose(sum(cost.by_kind.values()), cost.seconds)
  assert cost.top_ops == [("n f32[1024,1024]", "elementwise", cost.seconds, 1)]


def test_links_and_lanes_are_those_of_the_chip():
  assert chips.TPUS["v6e"].mxu_lanes == 256
  permute = collectives.Collective("collective-permute", 90 * 10**6, collectives.Group(2))
  assert collectives.seconds(permute, topology.parse("v6e:4x4")) == pytest.approx(5e-4 + 2e-6)
