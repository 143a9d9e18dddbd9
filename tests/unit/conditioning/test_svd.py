"""Conditions of SVD's modes against arrays written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax.conditioning import condition as conditions
from vidjax.conditioning.modes import MODES

N, T, H, W = 2, 5, 4, 6  # latents have half the height and width, and three channels


class Encoders:
  """Encoders that can be followed by hand."""

  def embed_text(self, tokens_NL):
    return jnp.repeat(tokens_NL[..., None].astype(jnp.float32), 2, axis=-1)

  def embed_image(self, image_NHWC):
    return image_NHWC[:, 0, 0] * 10.0

  def encode_image(self, image_NHWC):
    return image_NHWC[:, ::2, ::2]


def draw(seed, *shape):
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def inputs():
  return {
    "tokens_NL": np.array([[1, 2, 3], [4, 5, 6]], np.int32),
    "fps_N": np.array([7.0, 16.0], np.float32),
    "motion_bucket_N": np.array([127.0, 30.0], np.float32),
    "noise_aug_N": np.array([0.5, 2.0], np.float32),
    "elevation_N": np.array([-5.0, 30.0], np.float32),
    "images_NHWC": draw(0, N, H, W, 3),
    "last_images_NHWC": draw(1, N, H, W, 3),
    "image_noise_NHWC": draw(2, N, H, W, 3),
    "image_noise_N2hwZ": draw(3, N, 2, H // 2, W // 2, 3),
  }


def made(mode, given=None, frames=T):
  return MODES[mode].condition(Encoders(), given or inputs(), frames)


def test_interpolation_puts_both_frames_in_place_and_says_so():
  given = inputs()
  condition = made("interpolation", given)
  expected = np.zeros((N, T, H // 2, W // 2, 4), np.float32)
  for n in range(N):
    for frame, name in ((0, "images_NHWC"), (T - 1, "last_images_NHWC")):
      noise = given["image_noise_N2hwZ"][n, min(frame, 1)]
      expected[n, frame, ..., :3] = given[name][n, ::2, ::2] + given["noise_aug_N"][n] * noise
      expected[n, frame, ..., 3] = 1.0
  np.testing.assert_allclose(condition.concat, expected, rtol=1e-6)
  both = [given[name][:, 0, 0] * 10 for name in ("images_NHWC", "last_images_NHWC")]
  (context,) = condition.contexts
  np.testing.assert_allclose(context, np.stack(both, axis=1), rtol=1e-6)
  np.testing.assert_array_equal(condition.vector, [[6.0, 127.0, 0.5], [15.0, 30.0, 2.0]])
  assert condition.image_only is False


def test_multi_view_is_image_to_video_and_the_elevation():
  given = inputs()
  plain, condition = made("image_to_video", given), made("multi_view", given)
  np.testing.assert_array_equal(condition.vector, [[6, 127, 0.5, -5], [15, 30, 2, 30]])
  np.testing.assert_array_equal(plain.vector, condition.vector[:, :3])
  noised = (
    given["images_NHWC"] + given["noise_aug_N"].reshape(N, 1, 1, 1) * given["image_noise_NHWC"]
  )
  for made_of in (plain, condition):
    assert made_of.concat.shape == (N, T, H // 2, W // 2, 3)
    for frame in range(T):
      np.testing.assert_allclose(made_of.concat[:, frame], noised[:, ::2, ::2], rtol=1e-6)
    np.testing.assert_allclose(made_of.contexts[0], given["images_NHWC"][:, :1, 0] * 10, rtol=1e-6)


def test_a_dropped_interpolation_says_that_no_frame_is_given():
  condition = made("interpolation")
  dropped = conditions.drop(condition, jnp.array([0.0, 1.0]))
  assert not np.array(dropped.concat[0]).any()
  assert not np.array(dropped.contexts[0][0]).any()
  np.testing.assert_array_equal(dropped.concat[1], condition.concat[1])
  np.testing.assert_array_equal(dropped.vector, condition.vector)


@pytest.mark.parametrize("mode", MODES)
def test_conditions_have_the_shape_that_the_table_says(mode):
  row = MODES[mode]
  condition = made(mode)
  concat = 0 if condition.concat is None else condition.concat.shape[-1]
  assert 3 + concat == row.in_channels(3)
  assert (0 if condition.vector is None else condition.vector.shape[-1]) == row.vector_size
  assert condition.image_only is row.stills
  assert len(condition.contexts) == 1
  assert condition.contexts[0].shape[:2] == (N, len(row.images) or 3)


@pytest.mark.parametrize("mode", MODES)
def test_conditions_read_what_the_table_says_and_nothing_else(mode):
  """The modes' frames, scores and noise all count; those of other modes need not be there."""
  row = MODES[mode]
  names = {"tokens_NL"} if row.encoder == "text" else {*row.images, row.noise, "noise_aug_N"}
  names |= {f"{score}_N" for score in row.scores}
  names |= set() if row.stills else {"fps_N", "motion_bucket_N"}
  given = {name: value for name, value in inputs().items() if name in names}
  plain = jax.tree.leaves(made(mode, given))
  for name in names:
    other = jax.tree.leaves(made(mode, {**given, name: given[name] + given[name].dtype.type(1)}))
    assert any((np.array(a) != np.array(b)).any() for a, b in zip(plain, other, strict=True)), name


def test_noise_has_the_shape_that_the_table_says():
  given = inputs()
  for row in MODES.values():
    if row.images:
      assert given[row.noise].shape[1:] == row.noise_shape((H, W, 3), (H // 2, W // 2, 3))
