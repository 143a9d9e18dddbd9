"""What a `Pipeline` promises of every mode: guidance, batches, devices, compiled programs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax import config as configs
from vidjax import denoising, requests
from vidjax import pipeline as pipelines
from vidjax.conditioning import condition as conditions
from vidjax.pipeline import Pipeline, Request

T, HEIGHT, WIDTH = 3, 16, 24
MODES = ("text_to_image", "text_to_video", "image_to_video")
VIDEO_MODES = [pytest.param(mode, marks=pytest.mark.slow) for mode in MODES[1:]]
ALL_MODES = (MODES[0], *VIDEO_MODES)
STOCHASTIC = ("euler_ancestral", "dpmpp_2m_sde")
CLIPS = 4
PROMPTS = ("a red car", "a lake at night", "snow", "two dogs run")
NEAR, FAR = 2e-5, 2e-3  # pixels in [0, 1] that are equal, and those that are not
ONE_LEVEL = {
  "block_out_channels": [64],
  "num_attention_heads": [4],
  "attention": [True],
  "layers_per_block": [1],
  "transformer_layers_per_block": [1],
}


@functools.cache
def pipeline(mode: str, kind: type[Pipeline] = Pipeline) -> Pipeline:
  """A model of drawn weights, zero layers included: every input and every layer counts."""
  images = mode == "text_to_image"
  shape = {"temporal": "none", "vector_size": 0} if images else {}
  values = {
    "total_samples": 1,
    "data": {"path": "SHARDS", "num_frames": 1 if images else T, "height": HEIGHT, "width": WIDTH},
    "model": {
      "preset": "tiny",
      "dtype": "float32",
      "overrides": {"in_channels": 16 if mode == "image_to_video" else 8, **ONE_LEVEL, **shape},
    },
    "encoders": {
      "vae": "random:tiny",
      "image" if mode == "image_to_video" else "text": "random:tiny",
    },
    "conditioning": {"mode": mode},
  }
  config = configs.from_dict(configs.TrainConfig, values)
  rng, params = np.random.default_rng(0), {}
  for name, leaf in denoising.make_unet(config).abstract.items():
    vector = len(leaf.shape) < 2
    std = 0.2 if vector else float(np.prod(leaf.shape[:-1])) ** -0.5
    drawn = rng.standard_normal(leaf.shape, np.float32)
    params[name] = np.float32(std) * drawn + np.float32(0.5 * vector)
  return kind(config, params, "drawn")


def request(mode: str, clips=range(CLIPS), **changes) -> Request:
  """Clips that differ in their seed and in what they are asked for with."""
  images = np.random.default_rng(1).uniform(0, 1, (CLIPS, HEIGHT, WIDTH, 3)).astype(np.float32)
  given = (
    {"images_NHWC": images[list(clips)]}
    if mode == "image_to_video"
    else {"prompts": [PROMPTS[clip] for clip in clips]}
  )
  return Request(**{"seeds": [10 + clip for clip in clips], "steps": 3, **given, **changes})


def made(mode: str, clips=range(CLIPS), **changes) -> np.ndarray:
  return pipeline(mode).generate(request(mode, clips, **changes))


def distance(a: np.ndarray, b: np.ndarray) -> float:
  """Of the two clips that are nearest to each other."""
  return float(np.abs(a - b).max((1, 2, 3, 4)).min())


def near(a: np.ndarray, b: np.ndarray) -> None:
  np.testing.assert_allclose(a, b, rtol=0, atol=NEAR)


def scale(value: float) -> dict[str, float]:
  return {"min_guidance": value, "max_guidance": value}


class Unconditional(Pipeline):
  """One that is told nothing."""

  def _branches(self, *args):
    return [
      conditions.drop(branch, jnp.zeros_like(branch.contexts[0][:, 0, 0]))
      for branch in super()._branches(*args)
    ]


@pytest.mark.parametrize("mode", ALL_MODES)
def test_scales_of_one_and_zero_are_one_branch_alone(mode, monkeypatch):
  clips = range(2)
  asked = request(mode, clips, **scale(1.0))
  conditional = pipeline(mode).generate(asked)
  unconditional = pipeline(mode, Unconditional).generate(asked)
  assert distance(conditional, unconditional) > FAR, "the condition has no effect"
  assert distance(made(mode, clips, **scale(3.0)), conditional) > FAR
  near(made(mode, clips, **scale(0.0)), unconditional)

  plain = requests.program
  monkeypatch.setattr(
    requests, "program", lambda *args: dataclasses.replace(plain(*args), branches=2)
  )
  near(made(mode, clips, **scale(1.0)), conditional)


@pytest.mark.parametrize(
  ("mode", "sampler"),
  [
    *(("text_to_image", sampler) for sampler in ("euler", *STOCHASTIC)),
    *(
      pytest.param(mode, sampler, marks=pytest.mark.slow)
      for mode in MODES[1:]
      for sampler in ("euler", *STOCHASTIC)
    ),
  ],
)
def test_a_clip_does_not_depend_on_what_it_is_made_beside(mode, sampler):
  batch = made(mode, range(3), sampler=sampler)
  for clip in range(3):
    near(batch[clip], made(mode, [clip], sampler=sampler)[0])
  assert distance(batch[:2], batch[1:]) > FAR, "clips do not differ"
  if sampler != "euler":
    assert distance(batch, made(mode, range(3))) > FAR, "no noise is put back"


@pytest.mark.parametrize(
  ("mode", "changes"),
  [
    ("text_to_image", {}),
    pytest.param("text_to_video", {}, marks=pytest.mark.slow),
    pytest.param("image_to_video", {}, marks=pytest.mark.slow),
    pytest.param("text_to_video", {"temporal_guidance": 1.5}, marks=pytest.mark.slow),
  ],
  ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_clip_does_not_depend_on_the_devices(mode, changes, monkeypatch):
  def on(count):
    monkeypatch.setattr(pipelines, "_devices_for", lambda n: jax.local_devices()[:count])
    return made(mode, sampler="euler_ancestral", **changes)

  one = on(1)
  near(on(2), one)
  near(on(4), one)
  assert distance(one[:3], one[1:]) > FAR


@pytest.mark.parametrize("mode", ALL_MODES)
def test_other_prompts_seeds_and_scales_need_no_other_program(mode):
  compiled = []

  def listen(event: str, duration: float, **kwargs) -> None:
    compiled.extend([event] if event == "/jax/core/compile/backend_compile_duration" else [])

  made(mode, [0, 1], **scale(2.0))
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    changes = {} if mode == "text_to_image" else {"fps": 3, "motion_bucket_id": 9.0}
    made(mode, [2, 3], **scale(4.0), **changes)
    assert not compiled
    made(mode, [2, 3], **scale(4.0), steps=4)
    assert compiled.count(compiled[0]) == 1
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("mode", VIDEO_MODES)
def test_temporal_guidance(mode):
  clips = range(2)
  plain = made(mode, clips)
  near(made(mode, clips, temporal_guidance=1.0), plain)
  assert distance(made(mode, clips, temporal_guidance=1.5), plain) > FAR

  # Of both scales 0, what is left is each frame by itself.
  start = np.random.default_rng(2).standard_normal((2, T, 2, 3, 8), np.float32)
  other = start.copy()
  other[:, 0] *= -1
  alone, as_video = (
    [
      made(mode, clips, noise_NThwC=noise, temporal_guidance=weight, **scale(0.0))
      for noise in (start, other)
    ]
    for weight in (0.0, 1.0)
  )
  assert distance(alone[0][:, :1], alone[1][:, :1]) > FAR
  np.testing.assert_array_equal(alone[0][:, 1:], alone[1][:, 1:])
  assert distance(as_video[0][:, 1:], as_video[1][:, 1:]) > FAR


@pytest.mark.slow
def test_temporal_guidance_leads_away_from_frames_of_the_negative_prompt():
  negative = [{"negative_prompts": [text] * 2} for text in ("dark", "blurred")]
  clips = [
    made("text_to_video", range(2), temporal_guidance=0.0, **scale(0.0), **changes)
    for changes in ({}, *negative)
  ]
  assert distance(clips[0], clips[1]) > FAR
  assert distance(clips[1], clips[2]) > FAR


def test_images_have_no_temporal_guidance():
  with pytest.raises(ValueError, match="temporal_guidance: this model makes images"):
    made("text_to_image", temporal_guidance=1.5)
