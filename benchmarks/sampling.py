"""Sampling beside diffusers: the same model, noise, image and settings on the same devices.

  JAX_PLATFORMS=cpu python -m benchmarks.sampling

A random image-to-video model, written as diffusers, is run by `StableVideoDiffusionPipeline` and by
`vidjax.Pipeline`, in one process, in turns. Prints a table: the first call (with compilation, which
PyTorch has none of) apart, the median of the later ones and the ratio of both medians; for the
whole pipeline from image to frames, for its parts, and for one evaluation of the UNet by itself.
Then how many programs are compiled for several seeds, images, prompts and settings of one shape.
"""

from collections.abc import Callable
import dataclasses
import statistics
import tempfile
import time
from typing import Any
import warnings

from absl import app, flags
import jax
import numpy as np
import PIL.Image
import torch

from vidjax import denoising, requests
from vidjax.diffusion import levels
from vidjax.encoders import clip, frozen, text, tokenizers, vae
from vidjax.interop import export
from vidjax.models.unet import UNet, UNetConfig
from vidjax.nn.params import Network, Params, network
from vidjax.pipeline import Pipeline

_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed calls of each, after the first.")
_STEPS = flags.DEFINE_integer("steps", 5, "Sampler steps.")
_FRAMES = flags.DEFINE_integer("frames", 14, "Frames.")
_HEIGHT = flags.DEFINE_integer("height", 128, "Pixels; latents have an eighth.")
_WIDTH = flags.DEFINE_integer("width", 192, "Pixels.")
_CHANNELS = flags.DEFINE_list("channels", ["64", "128"], "Channels of the UNet's levels.")

_FPS, _BUCKET, _STRENGTH, _GUIDANCE = 7, 127, 0.02, (1.0, 3.0)
_VAE = vae.VAEConfig(block_out_channels=(32, 32, 64, 64), use_post_quant_conv=False)


@dataclasses.dataclass
class Pair:
  """One line of the table: seconds of each call, the first one first."""

  what: str
  ours: list[float]
  theirs: list[float]


def unet_config(mode: str) -> UNetConfig:
  image = mode == "image_to_video"
  context = clip.TINY_VISION.projection_dim if image else clip.TINY_TEXT.hidden_size
  widths = tuple(int(width) for width in _CHANNELS.value)
  return UNetConfig(
    in_channels=_VAE.latent_channels * (1 + image),
    block_out_channels=widths,
    num_attention_heads=tuple(width // 32 for width in widths),
    attention=(True,) * len(widths),
    layers_per_block=(2,) * len(widths),
    transformer_layers_per_block=(1,) * len(widths),
    cross_attention_dims=(context,),
  )


def drawn(net: Network, seed: int) -> Params:
  rng = np.random.default_rng(seed)
  return {
    name: rng.standard_normal(leaf.shape, np.float32)
    * np.float32(0.1 if len(leaf.shape) < 2 else np.prod(leaf.shape[:-1]) ** -0.5)
    for name, leaf in net.abstract.items()
  }


def write_model(folder: str, mode: str) -> None:
  config = unet_config(mode)
  autoencoder = vae.describe(_VAE)
  encoders: dict[str, frozen.Encoder] = {
    "vae": frozen.Encoder(_VAE, autoencoder, drawn(autoencoder, 0))
  }
  if mode == "image_to_video":
    tower = clip.describe_vision(clip.TINY_VISION)
    encoders["image"] = frozen.Encoder(clip.TINY_VISION, tower, drawn(tower, 1))
  else:
    tower = text.describe(clip.TINY_TEXT)
    encoders["text"] = frozen.Encoder(clip.TINY_TEXT, tower, drawn(tower, 1))
  params = drawn(network(lambda rngs: UNet(config, rngs)), 2)
  made = export.Generation(_FRAMES.value, _HEIGHT.value, _WIDTH.value, float(_FPS))
  tokenizer = tokenizers.ByteTokenizer() if "text" in encoders else None
  export.export_pipeline(folder, config, params, encoders, made, tokenizer=tokenizer)


def in_turns(what: str, ours: Callable[[], object], theirs: Callable[[], object]) -> Pair:
  """Calls both in turns, the first call of each included."""
  pair = Pair(what, [], [])
  for _ in range(_REPEATS.value + 1):
    for call, seconds in ((ours, pair.ours), (theirs, pair.theirs)):
      began = time.perf_counter()
      jax.block_until_ready(call())
      seconds.append(time.perf_counter() - began)
  print(f"{what}: ours {pair.ours}, theirs {pair.theirs}", flush=True)
  return pair


def whole_pipelines(pipe: Pipeline, reference) -> tuple[list[Pair], float]:
  """Image to frames and latents to frames; and the largest difference of a pixel in [0, 1]."""
  shape = (_FRAMES.value, _HEIGHT.value // 8, _WIDTH.value // 8, _VAE.latent_channels)
  start = np.random.default_rng(3).standard_normal((1, *shape), np.float32)
  size = (_HEIGHT.value, _WIDTH.value)
  pixels = np.random.default_rng(4).integers(0, 256, (*size, 3), np.uint8)
  noise = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
  request = requests.Request(
    images_NHWC=pixels[None].astype(np.float32) / 255,
    num_frames=_FRAMES.value,
    height=_HEIGHT.value,
    width=_WIDTH.value,
    fps=_FPS,
    motion_bucket_id=_BUCKET,
    noise_aug_strength=_STRENGTH,
    steps=_STEPS.value,
    min_guidance=_GUIDANCE[0],
    max_guidance=_GUIDANCE[1],
    decode_chunk=_FRAMES.value,
    noise_NThwC=start,
    image_noise_NHWC=noise.permute(0, 2, 3, 1).numpy(),
  )

  def theirs():
    return reference(
      PIL.Image.fromarray(pixels),
      height=_HEIGHT.value,
      width=_WIDTH.value,
      num_frames=_FRAMES.value,
      num_inference_steps=_STEPS.value,
      min_guidance_scale=_GUIDANCE[0],
      max_guidance_scale=_GUIDANCE[1],
      fps=_FPS,
      motion_bucket_id=_BUCKET,
      noise_aug_strength=_STRENGTH,
      latents=torch.tensor(start).permute(0, 1, 4, 2, 3),
      generator=torch.Generator().manual_seed(0),
      output_type="np",
    ).frames[0]

  pairs = [in_turns("image to frames", lambda: pipe.generate(request), theirs)]
  worst = float(np.abs(pipe.generate(request)[0] - theirs()).max())

  weights = jax.device_put(pipe._frozen.weights)
  bound_latents = jax.device_put(start)
  latents = torch.tensor(start).permute(0, 1, 4, 2, 3)
  with torch.no_grad():
    pairs.append(
      in_turns(
        "latents to frames",
        lambda: pipe._decode(weights, bound_latents),
        lambda: reference.decode_latents(latents, _FRAMES.value, _FRAMES.value).numpy(),
      )
    )
  return pairs, worst


def one_evaluation(pipe: Pipeline, reference) -> Pair:
  """The UNet by itself, on the two rows of guidance."""
  config = pipe.config
  net = denoising.make_unet(config)
  rng = np.random.default_rng(5)
  shape = (2, _FRAMES.value, _HEIGHT.value // 8, _WIDTH.value // 8, 2 * _VAE.latent_channels)
  x = rng.standard_normal(shape, np.float32)
  context = rng.standard_normal((2, 1, clip.TINY_VISION.projection_dim), np.float32)
  vector = np.array([[_FPS - 1, _BUCKET, _STRENGTH]] * 2, np.float32)
  c_noise = np.full(2, float(levels.added(np.ones(1)).c_noise[0]), np.float32)
  run = jax.jit(
    lambda params, *inputs: net.bind(params)(inputs[0], inputs[1], inputs[2], inputs[3])
  )
  params = jax.device_put(pipe._params)
  inputs = jax.device_put((x, c_noise, (context,), vector))
  there = [torch.tensor(v) for v in (np.moveaxis(x, -1, 2), c_noise, context, vector)]

  def theirs():
    with torch.no_grad():
      return reference.unet(
        there[0], there[1][0], encoder_hidden_states=there[2], added_time_ids=there[3]
      ).sample.numpy()

  pair = in_turns("one evaluation of the UNet, two clips", lambda: run(params, *inputs), theirs)
  found, expected = np.asarray(run(params, *inputs)), np.moveaxis(theirs(), 2, -1)
  assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
  return pair


def count_programs(folder: str, calls: list[dict[str, Any]]) -> str:
  """Programs that a fresh pipeline compiles in each of several calls of one shape."""
  names: list[str] = []

  def listen(event: str, _: float, **fields: Any) -> None:
    if event.endswith("backend_compile_duration"):
      names.append(fields["fun_name"])

  pipe = Pipeline.from_pretrained(folder)
  size = {"num_frames": _FRAMES.value, "height": _HEIGHT.value, "width": _WIDTH.value}
  found, clips = [], []
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    for call in calls:
      before = len(names)
      clips.append(pipe(**size, steps=2, **call))
      found.append(names[before:])
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert all((clip != clips[0]).any() for clip in clips[1:]), "the calls ask for the same"
  return (
    f"{', '.join(sorted(found[0]))} in the first call, {sum(map(len, found[1:]))} in the others"
  )


def calls_of_one_shape(mode: str) -> list[dict[str, Any]]:
  """Requests that differ in all that is no shape."""
  rng, calls = np.random.default_rng(6), []
  for i, prompt in enumerate(("a red car", "two dogs in the snow, at night", "a lake")):
    call = {"seed": 10 + i, "fps": 5.0 + i, "motion_bucket_id": 50.0 * i, "max_guidance": 2.0 + i}
    if mode == "image_to_video":
      call["image"] = rng.random((_HEIGHT.value, _WIDTH.value, 3), np.float32)
      call["noise_aug_strength"] = 0.02 * (i + 1)
    else:
      call["prompt"] = prompt
    calls.append(call)
  return calls


def table(pairs: list[Pair]) -> str:
  lines = [
    "| | ratio of medians | vidjax, s | diffusers, s | first call: vidjax, s | diffusers, s |",
    "|---|---|---|---|---|---|",
  ]
  for pair in pairs:
    ours, theirs = (statistics.median(seconds[1:]) for seconds in (pair.ours, pair.theirs))
    lines.append(
      f"| {pair.what} | {ours / theirs:.2f} | {ours:.3f} | {theirs:.3f} | {pair.ours[0]:.1f} |"
      f" {pair.theirs[0]:.1f} |"
    )
  return "\n".join(lines)


def main(_: list[str]) -> None:
  import diffusers

  # diffusers' schedulers give torch tensors to numpy in a way that numpy 2 finds old.
  warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
  modes = ("image_to_video", "text_to_video")
  with tempfile.TemporaryDirectory() as folder:
    for mode in modes:
      write_model(f"{folder}/{mode}", mode)
    pipe = Pipeline.from_pretrained(f"{folder}/{modes[0]}")
    reference = diffusers.StableVideoDiffusionPipeline.from_pretrained(f"{folder}/{modes[0]}")
    reference.set_progress_bar_config(disable=True)
    size = sum(value.size for value in pipe._params.values())
    print(f"{size / 1e6:.1f} million parameters, {torch.get_num_threads()} threads in PyTorch")
    pairs, worst = whole_pipelines(pipe, reference)
    pairs.append(one_evaluation(pipe, reference))
    programs = [count_programs(f"{folder}/{mode}", calls_of_one_shape(mode)) for mode in modes]
  print(f"\n{table(pairs)}\n\nlargest difference of a pixel: {worst:.1e}")
  for mode, found in zip(modes, programs, strict=True):
    print(f"compiled, {mode}: {found}")


if __name__ == "__main__":
  app.run(main)
