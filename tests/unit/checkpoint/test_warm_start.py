"""Warm starts: what is copied, widened, kept and refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax.checkpoint import warm_start
from vidjax.checkpoint.warm_start import COLUMNS
from vidjax.errors import CheckpointError


def _params(**shapes) -> dict[str, jax.Array]:
  keys = jax.random.split(jax.random.key(len(shapes)), len(shapes))
  names = (name.replace("__", ".") for name in shapes)
  return {
    name: jax.random.normal(key, shape)
    for name, key, shape in zip(names, keys, shapes.values(), strict=True)
  }


def _wanted(params) -> dict[str, jax.ShapeDtypeStruct]:
  return {n: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=p.sharding) for n, p in params.items()}


def _start(init, source, **kwargs):
  """Starts the model whose fresh values are `init`."""
  return warm_start(_wanted(init), source, lambda names: {n: init[n] for n in names}, **kwargs)


def test_copies_equal_names_and_draws_the_rest_only():
  init = _params(mid__kernel=(3, 4), temporal__kernel=(2, 2))
  source = {"mid.kernel": np.ones((3, 4), np.float32)}
  drawn = []

  def draw(names):
    drawn.append(names)
    return {name: init[name] for name in names}

  params, report = warm_start(_wanted(init), source, draw)
  assert drawn == [{"temporal.kernel"}]
  assert list(params) == list(init)
  np.testing.assert_array_equal(params["mid.kernel"], 1)
  assert params["temporal.kernel"] is init["temporal.kernel"]
  assert report.copied == ("mid.kernel",)
  assert report.fresh == ("temporal.kernel",)
  assert "1 fresh (temporal.kernel)" in str(report)


def test_what_became_of_each_block_is_counted():
  init = _params(conv_in__kernel=(3, 3, 8, 16), mid__a__kernel=(3, 4), mid__b__kernel=(5,))
  source = _params(conv_in__kernel=(3, 3, 4, 16), mid__a__kernel=(3, 4), text__kernel=(7,))
  _, report = _start(init, source, allow_dropped=True)
  assert report.to_json() == {
    "conv_in.kernel": "widened",
    "mid.a.kernel": "copied",
    "mid.b.kernel": "fresh",
    "text.kernel": "dropped",
  }
  sizes = {name: value.size for name, value in {**source, **init}.items()}
  assert dict(zip(COLUMNS, report.table(sizes)[0], strict=True)) == {
    "block": "conv_in",
    "copied": "-",
    "fresh": "-",
    "widened": "1,152",
    "dropped": "-",
  }
  assert report.table(sizes)[1:] == [
    ("mid.a", "12", "-", "-", "-"),
    ("mid.b", "-", "5", "-", "-"),
    ("text", "-", "-", "-", "7"),
  ]


def test_nothing_is_drawn_where_all_is_there():
  source = _params(a=(2, 2))
  params, _ = warm_start(_wanted(source), source, lambda names: pytest.fail(f"drew {names}"))
  np.testing.assert_array_equal(params["a"], source["a"])


def test_new_input_channels_change_nothing():
  init = _params(conv_in__kernel=(3, 3, 8, 16))
  source = _params(conv_in__kernel=(3, 3, 4, 16))
  params, report = _start(init, source)
  x = jax.random.normal(jax.random.key(1), (1, 5, 5, 8))

  def conv(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  before = conv(x[..., :4], source["conv_in.kernel"])
  np.testing.assert_allclose(conv(x, params["conv_in.kernel"]), before, rtol=1e-5, atol=1e-5)
  assert report.widened == ("conv_in.kernel",)


def test_result_has_dtype_and_sharding_of_the_model():
  mesh = jax.make_mesh((8,), ("fsdp",))
  sharding = jax.sharding.NamedSharding(mesh, jax.P("fsdp"))
  init = {"a": jax.device_put(jnp.zeros((8, 2)), sharding)}
  params, _ = _start(init, {"a": np.ones((8, 2), jnp.bfloat16)})
  assert params["a"].dtype == jnp.float32
  assert params["a"].sharding == sharding
  np.testing.assert_array_equal(np.asarray(params["a"]), 1)


@pytest.mark.parametrize(
  ("name", "here", "there"),
  [
    ("mid__kernel", (3, 4), (3, 5)),
    ("mid__kernel", (3, 3, 8, 4), (3, 3, 4, 4)),  # only conv_in may grow
    ("conv_in__kernel", (3, 3, 4, 4), (3, 3, 8, 4)),  # and never shrink
    ("conv_in__kernel", (3, 3, 8, 4), (3, 3, 4, 5)),
  ],
)
def test_other_shapes_are_refused_by_name(name, here, there):
  with pytest.raises(CheckpointError) as error:
    _start(_params(**{name: here}), _params(**{name: there}))
  for part in (name.replace("__", "."), str(here), str(there)):
    assert part in str(error.value)


def test_unknown_source_parameters():
  init, source = _params(a=(2,)), _params(a=(2,), extra=(3,))
  with pytest.raises(CheckpointError, match="lacks: extra"):
    _start(init, source)
  assert _start(init, source, allow_dropped=True)[1].dropped == ("extra",)


def test_nothing_in_common():
  with pytest.raises(CheckpointError, match="no name in common"):
    _start(_params(a=(2,)), _params(b=(2,)), allow_dropped=True)
