"""The HLO text: types and their bytes, instructions, loops and the groups of collectives."""

import pytest

from vidjax.planning import collectives, hlo, loops, matrices, shapes

LOOP = """HloModule loop, is_scheduled=true

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %two = s32[] constant(2)
  %i.copy = s32[]{:T(128)S(6)} copy(%i)
  %next = s32[] add(%i.copy, %two)
  %x = f32[8] get-tuple-element(%p), index=1
  ROOT %t = (s32[], f32[8]) tuple(%next, %x)
}

%condition (p.1: (s32[], f32[8])) -> pred[] {
  %p.1 = (s32[], f32[8]) parameter(0)
  %limit = s32[] constant(11)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  ROOT %less = pred[] compare(%i.1, %limit), direction=LT
}

ENTRY %main (x.1: f32[8]) -> (s32[], f32[8]) {
  %x.1 = f32[8]{0:T(128)} parameter(0)
  %one = s32[] constant(1)
  %start = (s32[], f32[8]) tuple(%one, %x.1)
  ROOT %while.1 = (s32[], f32[8]) while(%start), condition=%condition, body=%body
}
"""


@pytest.mark.parametrize(
  ("text", "physical", "hbm"),
  [
    ("f32[10,100]{1,0:T(8,128)}", 16 * 128 * 4, 16 * 128 * 4),
    ("f32[10,100]{0,1:T(8,128)}", 128 * 104 * 4, 128 * 104 * 4),  # the first dim is the minor one
    ("bf16[2,3,320]{2,1,0:T(8,128)(2,1)}", 2 * 8 * 384 * 2, 2 * 8 * 384 * 2),
    ("bf16[2,3,320]{2,1,0:T(8,128)(2,1)S(1)}", 2 * 8 * 384 * 2, 0),  # on the chip
    ("f32[640]{0:T(1024)}", 1024 * 4, 1024 * 4),
    ("f32[3,5]", 60, 60),
    ("pred[]{:T(512)}", 1, 1),
    ("f8e4m3fn[16,128]{1,0:T(8,128)}", 16 * 128, 16 * 128),
    ("(f32[8]{0}, /*index=1*/(bf16[4]{0:S(1)}), token[])", 40, 32),
  ],
)
def test_bytes_of_a_type(text, physical, hbm):
  arrays = shapes.parse(text)
  assert sum(array.physical_bytes for array in arrays) == physical
  assert sum(array.hbm_bytes for array in arrays) == hbm


def test_instructions():
  """Tuples, comments, strings with brackets, and attributes over several lines."""
  text = """HloModule m, is_scheduled=true

%fused (a.1: f32[4]) -> f32[4] {
  %a.1 = f32[4]{0} parameter(0)
  ROOT %n = f32[4]{0} negate(%a.1)
}

ENTRY %main (a: f32[4], b: f32[4]) -> (f32[4], f32[4]) {
  %a = f32[4]{0} parameter(0), metadata={op_name="state['x'] ) {,"}
  %b = f32[4]{0} parameter(1)
  %f = f32[4]{0} fusion(f32[4]{0} %a), kind=kLoop, calls=%fused, backend_config={"window_config":{"estimated_cycles":"123"}}
  %k = (f32[4]{0}, f32[4]{0}) custom-call(%f, /*index=1*/%b), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"blocks": "{128}"
}}, metadata={op_name="jit(f)/kernel"}
  ROOT %t = (f32[4]{0}, f32[4]{0}) tuple(%f, %b)
}
"""  # noqa: E501
  module = hlo.parse(text)
  main = module.entry
  assert [each.name for each in main.instructions] == ["a", "b", "f", "k", "t"]
  a, _, f, k, t = main.instructions
  assert a.op_name == "state['x'] ) {,"
  assert (f.called, f.operands, f.estimated_cycles) == ("fused", ("a",), 123)
  assert (k.custom_call_target, k.operands, len(k.arrays)) == ("tpu_custom_call", ("f", "b"), 2)
  assert k.op_name == "jit(f)/kernel"
  assert main.root is t
  assert main.parameters[1].name == "b"
  assert [(user.name, at) for user, at in main.users["b"]] == [("k", 1), ("t", 1)]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("module @jit_f attributes {}", "starts with HloModule"),
    ("HloModule m\n", "not scheduled"),
    ("HloModule m, is_scheduled=true\n", "cut off"),
    (LOOP[: LOOP.index("ENTRY")], "no entry computation"),
    (LOOP[: LOOP.index("%one, %x.1")] + "\n}\n", "cut off or damaged"),
  ],
)
def test_what_is_no_compiled_program(text, message):
  with pytest.raises(ValueError, match=message):
    hlo.parse(text)


def trips(text):
  module = hlo.parse(text)
  return loops.trip_count(module, module.entry, module.entry.by_name["while.1"])


def test_trips_of_a_loop():
  assert trips(LOOP) == 5  # 1, 3, 5, 7, 9
  assert trips(LOOP.replace("direction=LT", "direction=LE")) == 6
  assert trips(LOOP.replace("constant(1)", "constant(11)")) == 0
  told = 'body=%body, backend_config={"known_trip_count":{"n":"7"}}'
  assert trips(LOOP.replace("body=%body", told)) == 7


def test_loop_of_unknown_length():
  assert trips(LOOP.replace("constant(11)", "convert(%i.1x)").replace("%i.1x", "%p.1")) is None


@pytest.mark.parametrize(
  ("groups", "members"),
  [
    ("{{0,4,8},{1,5,9}}", [0, 4, 8]),
    ("[2,8]<=[16]", list(range(8))),
    ("[4,4]<=[4,4]T(1,0)", [0, 4, 8, 12]),
    ("mesh['a'=4,'b'=4] {'b'}", [0, 1, 2, 3]),
    ("mesh['a'=4,'b'=4] {'a'}", [0, 4, 8, 12]),
    ("mesh['a'=2,'b'=8] {'a','b':(2)2}", [0, 2, 8, 10]),
    ("{}", list(range(16))),
  ],
)
def test_replica_groups(groups, members):
  text = f"""HloModule m, is_scheduled=true

ENTRY %main (a: f32[4]) -> f32[4] {{
  %a = f32[4] parameter(0)
  ROOT %r = f32[4] all-reduce(%a), channel_id=1, replica_groups={groups}, to_apply=%add
}}
"""
  assert collectives.replica_group(hlo.parse(text).entry.root, 16) == members


@pytest.mark.parametrize(
  ("left", "right", "out", "attributes", "flops", "slides"),
  [
    # 3x3 over a picture with borders: all nine taps count.
    ("4,20,36,64", "3,3,64,32", "4,20,36,32",
     "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f",
     2 * 4 * 20 * 36 * 32 * 64 * 9, True),
    # Its gradient with respect to the kernel: a window as large as the picture.
    ("4,20,36,64", "4,20,36,32", "3,3,64,32",
     "window={size=20x36 pad=1_1x1_1}, dim_labels=f01b_i01o->01bf",
     2 * 3 * 3 * 64 * 32 * 4 * 20 * 36, True),
    # The gradient of a convolution of stride 2: every other tap meets a hole.
    ("1,8,64", "4,64,32", "1,16,32",
     "window={size=4 pad=2_2 lhs_dilate=2}, dim_labels=b0f_0io->b0f", 2 * 16 * 32 * 64 * 2, True),
    # A batch of matrix products, written with windows that touch one element.
    ("180,20,64,128", "180,20,32,64", "180,20,128,32",
     "window={size=180x20 stride=179x19 lhs_dilate=180x20}, dim_labels=01fb_01oi->01bf",
     2 * 180 * 20 * 128 * 32 * 64, False),
    ("14,64,128", "14,64,32", "128,32,1",
     "window={size=14}, dim_labels=0fb_0io->bf0", 2 * 128 * 32 * 64 * 14, False),
    # Each channel by itself.
    ("1,16,64", "3,1,64", "1,16,64",
     "window={size=3 pad=1_1}, dim_labels=b0f_0io->b0f, feature_group_count=64",
     2 * 16 * 64 * 3, True),
  ],
)  # fmt: skip
def test_flops_of_convolutions(left, right, out, attributes, flops, slides):
  work = of(f"bf16[{out}] convolution(%a, %b), {attributes}", left, right)
  assert work.flops == flops
  assert work.is_convolution == slides


def test_flops_of_dots_and_padding():
  attributes = "lhs_batch_dims={0}, lhs_contracting_dims={2}, rhs_batch_dims={0}"
  work = of(f"bf16[3,100,256] dot(%a, %b), {attributes}", "3,100,64", "3,64,256")
  assert work.flops == 2 * 3 * 100 * 256 * 64
  assert not work.is_convolution
  assert work.padded_flops == 2 * work.flops  # 64 channels take 128 lanes; 256 fit


def of(definition, left, right):
  text = f"""HloModule m, is_scheduled=true

ENTRY %main (a: bf16[{left}], b: bf16[{right}]) -> bf16[] {{
  %a = bf16[{left}] parameter(0)
  %b = bf16[{right}] parameter(1)
  ROOT %r = {definition}
}}
"""
  main = hlo.parse(text).entry
  return matrices.of_instruction(main, main.root, lanes=128)
