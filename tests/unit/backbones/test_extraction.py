"""Features of many clips: order, batches that are not full, devices, and a network of one's own."""

import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax.backbones import extraction, registry
from vidjax.nn import params


class Means(nnx.Module):
  """As a network that somebody adds: the weighted mean of each colour, and its square."""

  def __init__(self, rngs):
    self.scale = nnx.Param(jnp.ones(3), role="vector")

  def __call__(self, x_BTHWC):
    mean_BC = jnp.mean(x_BTHWC, (1, 2, 3)) * self.scale[...][None]
    return {"mean": mean_BC, "square": mean_BC**2}


@functools.cache
def describe():
  return params.network(Means)


ROW = registry.Backbone(
  name="means/ours",
  weights="means/ours",
  frames=(2, None),
  taps={"mean": 3, "square": 3},
  describe=describe,
  features=lambda p, video: describe().bind(p)(video / 255),
  files=("means.pt",),
  origin="this test",
  url="",
  converter=None,
)
PARAMS = {"scale": np.array([1.0, 2.0, 3.0], np.float32)}


def clips(count, frames=2, dtype=np.uint8):
  video = np.random.default_rng(0).integers(0, 256, (count, frames, 5, 4, 3))
  return video.astype(dtype)


def expected(video):
  return video.astype(np.float64).mean((1, 2, 3)) / 255 * PARAMS["scale"]


@pytest.mark.parametrize("count", [1, 8, 11, 24])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_every_clip_has_its_features_in_order(count, dtype):
  video = clips(count, dtype=dtype)
  found = extraction.extract_features(
    ROW, PARAMS, iter(video), taps=("square", "mean"), batch_size=8
  )
  assert list(found) == ["square", "mean"]
  np.testing.assert_allclose(found["mean"], expected(video), rtol=1e-5)
  np.testing.assert_allclose(found["square"], expected(video) ** 2, rtol=1e-5)
  assert found["mean"].dtype == np.float32


def test_batches_are_shared_by_all_devices_and_compiled_once():
  row = registry.Backbone(**{**vars(ROW), "name": "means/counted"})
  extractor = extraction.Extractor(row, PARAMS, batch_size=9)
  assert extractor.batch_size == 16, "a multiple of the eight devices"
  for count in (16, 3, 16):
    found = extractor(clips(count))
    np.testing.assert_allclose(found["mean"], expected(clips(count)), rtol=1e-5)
  assert extraction._program(row, ("mean",), extractor._mesh)._cache_size() == 1


@pytest.mark.parametrize(
  ("name", "shape"),
  [
    ("i3d/tfhub", (9, 60, 80)),
    ("c3d/tgan2", (16, 60, 80)),
    ("inception/clean-fid", (1, 60, 80)),
    ("clip/vit-b-32", (1, 224, 224)),
  ],
)
def test_each_device_computes_its_own_rows_and_asks_no_other(name, shape):
  row = registry.get(name)
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ("clips",))
  program = extraction._program(row, tuple(row.taps), mesh)
  video = jax.ShapeDtypeStruct((16, *shape, 3), jnp.uint8)
  text = program.lower(row.describe().abstract, video).compile().as_text()
  for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
    assert collective not in text
  assert f"u8[2,{shape[0]}," in text


def test_one_device_gives_the_same():
  video = clips(5)
  one = extraction.Extractor(ROW, PARAMS, batch_size=5, devices=jax.devices()[:1])
  many = extraction.Extractor(ROW, PARAMS, batch_size=5)
  np.testing.assert_array_equal(one(video)["mean"], many(video)["mean"])


def test_the_host_prepares_first():
  row = registry.Backbone(
    **{**vars(ROW), "name": "means/host", "prepare": lambda v: 255 - v.astype(np.float32)}
  )
  video = clips(3)
  found = extraction.extract_features(row, PARAMS, video)
  np.testing.assert_allclose(found["mean"], expected(255 - video), rtol=1e-5)


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match="means/ours has no features 'fc9': it has mean, square"):
    extraction.extract_features(ROW, PARAMS, clips(1), taps=("fc9",))
  with pytest.raises(ValueError, match="clips of 1 frames: means/ours takes 2 or more"):
    extraction.extract_features(ROW, PARAMS, clips(1, frames=1))
  with pytest.raises(ValueError, match=r"video of shape \(1, 2, 5, 4\)"):
    extraction.extract_features(ROW, PARAMS, clips(1)[..., 0])
  with pytest.raises(ValueError, match="there are no clips"):
    extraction.extract_features(ROW, PARAMS, [])
