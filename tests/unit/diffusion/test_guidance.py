"""Guidance: what the weights mean, and that branches of a clip are evaluated together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax.conditioning import condition as conditions
from vidjax.conditioning.condition import Condition
from vidjax.diffusion import guidance
from vidjax.diffusion.levels import added

B, T, H, W, C = 2, 3, 4, 4, 5


def normal(seed: int, *shape: int) -> jax.Array:
  return jax.random.normal(jax.random.key(seed), shape, jnp.float32)


X = normal(0, B, T, H, W, C)
LEVEL = added(jnp.float32(2.0))


def branches(count: int) -> jax.Array:
  """What each branch of each clip says: (B, count, T, H, W, C)."""
  return normal(1, B, count, T, H, W, C)


def denoiser(of_branch: jax.Array):
  """Checks that branches come in turn and with their clip's x, and answers for all at once."""
  count = of_branch.shape[1]

  def denoise(x, level):
    np.testing.assert_array_equal(x, np.repeat(np.asarray(X), count, axis=0))
    return of_branch.reshape(B * count, T, H, W, C)

  return denoise


def test_scales_rise_over_the_frames():
  np.testing.assert_allclose(guidance.frame_scales(5, 1.0, 3.0), [1.0, 1.5, 2.0, 2.5, 3.0])
  np.testing.assert_array_equal(guidance.frame_scales(1, 1.0, 3.0), [3.0])  # an image


def test_classifier_free():
  of = branches(2)
  scale_T = jnp.asarray(guidance.frame_scales(T, 1.0, 3.0))
  d = guidance.guided(denoiser(of), guidance.classifier_free(scale_T))(X, LEVEL)
  cond, uncond = of[:, 0], of[:, 1]
  expected = uncond + scale_T.reshape(1, T, 1, 1, 1) * (cond - uncond)
  np.testing.assert_allclose(d, expected, atol=1e-5)
  np.testing.assert_array_equal(d[:, 0], cond[:, 0])  # a scale of 1 is no guidance


def test_image_and_text():
  of = branches(3)
  both, image, none = of[:, 0], of[:, 1], of[:, 2]
  weights = guidance.image_and_text(jnp.float32(2.0), jnp.float32(7.5))
  d = guidance.guided(denoiser(of), weights)(X, LEVEL)
  np.testing.assert_allclose(d, none + 2.0 * (image - none) + 7.5 * (both - image), atol=1e-4)


def test_temporal_consistency():
  of = branches(3)
  conditioned, video, frames = of[:, 0], of[:, 1], of[:, 2]
  weights = guidance.temporal_consistency(jnp.float32(1.2), jnp.float32(6.0))
  d = guidance.guided(denoiser(of), weights)(X, LEVEL)
  np.testing.assert_allclose(
    d, frames + 1.2 * (video - frames) + 6.0 * (conditioned - video), atol=1e-4
  )


@pytest.mark.parametrize("interval", [(0.1, 1.9), (2.1, 10.0), (1.0, 3.0)])
def test_outside_its_interval_guidance_is_off(interval):
  of = branches(2)
  weights = guidance.classifier_free(jnp.float32(4.0))
  inside = interval[0] <= 2.0 <= interval[1]
  d = guidance.guided(denoiser(of), weights, interval=interval)(X, LEVEL)
  plain = guidance.guided(denoiser(of), weights)(X, LEVEL)
  np.testing.assert_array_equal(d, plain if inside else of[:, 0])


def test_rescaling_keeps_the_deviation_of_v():
  of = branches(2)
  weights = guidance.classifier_free(jnp.float32(9.0))

  def deviation_of_v(d):
    return np.std(np.asarray((X / 5 - d) * 5**0.5 / 2), axis=(1, 2, 3, 4))  # sigma = 2

  plain = guidance.guided(denoiser(of), weights)(X, LEVEL)
  full = guidance.guided(denoiser(of), weights, rescale=1.0)(X, LEVEL)
  part = guidance.guided(denoiser(of), weights, rescale=0.7)(X, LEVEL)
  assert (deviation_of_v(plain) > 3 * deviation_of_v(of[:, 0])).all()
  np.testing.assert_allclose(deviation_of_v(full), deviation_of_v(of[:, 0]), rtol=1e-4)
  mix = 0.7 * deviation_of_v(full) + 0.3 * deviation_of_v(plain)
  np.testing.assert_allclose(deviation_of_v(part), mix, rtol=1e-4)


def condition(image_only: bool | jax.Array = False) -> Condition:
  return Condition((normal(2, B, 4, 6),), normal(3, B, 3), normal(4, B, T, H, W, C), image_only)


def test_conditions_are_interleaved_as_the_branches_are():
  some = condition()
  none = conditions.drop(some, jnp.zeros(B))
  assert not none.contexts[0].any()
  assert not none.concat.any()
  np.testing.assert_array_equal(none.vector, some.vector)
  both = conditions.interleave([some, none])
  np.testing.assert_array_equal(both.contexts[0][0::2], some.contexts[0])
  np.testing.assert_array_equal(both.concat[1::2], none.concat)
  assert both.image_only is False
  assert conditions.interleave([some]) is some


def test_branches_that_differ_in_temporal_layers_say_so_by_row():
  clips, images = condition(image_only=False), condition(image_only=True)
  mixed = condition(image_only=jnp.array([True, False]))
  assert conditions.interleave([images, images]).image_only is True
  both = conditions.interleave([clips, images, mixed])
  np.testing.assert_array_equal(both.image_only, [False, True, True, False, True, False])
  assert both.contexts[0].shape == (3 * B, 4, 6)


@pytest.mark.parametrize("image_only", [True, False, np.array([True, False])])
def test_programs_are_compiled_for_one_answer_and_read_answers_by_row(image_only):
  compiled = []

  @jax.jit
  def run(condition):
    compiled.append(isinstance(condition.image_only, bool))
    return jax.tree.map(jnp.asarray, condition)

  for answer in (image_only, image_only ^ True):
    np.testing.assert_array_equal(run(condition(answer)).image_only, answer)
  assert compiled == ([True, True] if isinstance(image_only, bool) else [False])


def test_parts_of_a_condition_are_dropped_apart():
  some, keep = condition(), jnp.array([0.0, 1.0])
  image = conditions.drop(some, keep, ["contexts"])
  assert not image.contexts[0][0].any()
  np.testing.assert_array_equal(image.contexts[0][1], some.contexts[0][1])
  np.testing.assert_array_equal(image.concat, some.concat)
  text = conditions.drop(some, keep, ["concat"])
  assert not text.concat[0].any()
  np.testing.assert_array_equal(text.contexts[0], some.contexts[0])
