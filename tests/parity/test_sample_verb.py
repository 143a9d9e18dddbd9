"""`vidjax sample` against PyTorch, from prompt or picture to frames, from the same noise.

diffusers has no pipeline for SVD's text-to-video: that reference is composed of parts, as is that
of an image model of discrete time steps, which is run through `Pipeline`.
"""

import dataclasses

import diffusers
from miniature_job import run_vidjax
import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from tests.parity import compare
from tests.parity.compare import draw
from vidjax import config as configs
from vidjax.encoders import clip, frozen, text, tokenizers, vae
from vidjax.interop import export
from vidjax.models.unet import PRESETS, UNet, UNetConfig
from vidjax.nn.params import network
from vidjax.pipeline import Pipeline

# diffusers' schedulers give torch tensors to numpy in a way that numpy 2 finds old.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FRAMES, HEIGHT, WIDTH, STEPS = 4, 32, 48, 25
FPS, BUCKET, STRENGTH, GUIDANCE = 9, 60, 0.1, (1.5, 4.0)
FRAME = 1e-4  # largest |ours - theirs| of a pixel in [0, 1], as a share of the brightest
EFFECT = 1e-2  # by how much a pixel moves at least with whatever a clip is asked for with
PROMPT, NEGATIVE = "a red car crosses the bridge", "blurred, dark"
VAE = vae.VAEConfig(block_out_channels=(32, 32), use_post_quant_conv=False, scaling_factor=0.7)
LATENT = (HEIGHT // VAE.downsampling, WIDTH // VAE.downsampling, VAE.latent_channels)


def weights(net, *seed):
  """Drawn, of a variance that lasts, zero layers included."""
  params = {}
  for i, (name, leaf) in enumerate(sorted(net.abstract.items())):
    vector = len(leaf.shape) < 2
    std = 0.2 if vector else np.prod(leaf.shape[:-1]) ** -0.5
    params[name] = np.float32(draw([*seed, i], *leaf.shape) * std + 0.5 * vector)
  return params


def unet_config(**fields) -> UNetConfig:
  return dataclasses.replace(PRESETS["tiny"], out_channels=VAE.latent_channels, **fields)


def export_model(folder, seed, config, *, image=False):
  """A random model of `config` as files: autoencoder, encoder of the condition, UNet."""
  net = vae.describe(VAE)
  encoders = {"vae": frozen.Encoder(VAE, net, weights(net, seed, 0))}
  if image:
    net = clip.describe_vision(clip.TINY_VISION)
    encoders["image"] = frozen.Encoder(clip.TINY_VISION, net, weights(net, seed, 1))
  else:
    net = text.describe(clip.TINY_TEXT)
    encoders["text"] = frozen.Encoder(clip.TINY_TEXT, net, weights(net, seed, 1))
  return export.export_pipeline(
    folder,
    config,
    weights(network(lambda rngs: UNet(config, rngs)), seed, 2),
    encoders,
    export.Generation(FRAMES, HEIGHT, WIDTH, 4.0),
    tokenizer=None if image else tokenizers.ByteTokenizer(),
  )


def sampled(folder, **flags) -> np.ndarray:
  """The clip that `vidjax sample` makes of the model in `folder`: (T, H, W, 3)."""
  flags = {
    "model": folder,
    "out": folder / "clip.gif",
    "save_array": folder / "clip.npy",
    "noise": folder / "noise.npy",
    "num_frames": FRAMES,
    "height": HEIGHT,
    "width": WIDTH,
    "fps": FPS,
    "motion_bucket_id": BUCKET,
    "steps": STEPS,
    "min_guidance": GUIDANCE[0],
    "max_guidance": GUIDANCE[1],
    **flags,
  }
  run_vidjax("sample", *(f"--{name}={value}" for name, value in flags.items()))
  return np.load(folder / "clip.npy")[0]


def all_counts(folder, changes, **common):
  """Asserts that each change of a request alone moves the frames by far more than the bound."""
  pipe = Pipeline.from_pretrained(str(folder))
  common = {"steps": 3, "num_frames": FRAMES, "height": HEIGHT, "width": WIDTH, **common}
  plain = pipe(**common)
  for name, value in changes.items():
    moved = np.abs(pipe(**{**common, name: value}) - plain).max()
    assert moved > EFFECT, f"{name} has no effect: {moved:.1e}"


@pytest.mark.slow
def test_image_to_video(record, tmp_path):
  config = unet_config(in_channels=2 * VAE.latent_channels)
  name = export_model(tmp_path, record.seed, config, image=True)
  assert name == "StableVideoDiffusionPipeline"
  rng = np.random.default_rng([record.seed, 3])
  pixels = np.kron(rng.integers(0, 256, (4, 6, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
  PIL.Image.fromarray(pixels).save(tmp_path / "first.png")
  start = draw([record.seed, 4], 1, FRAMES, *LATENT)
  np.save(tmp_path / "noise.npy", start)
  # The reference draws the noise on the image itself: the first that its generator gives.
  image_noise = torch.randn(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(5))
  image_noise = image_noise[0].permute(1, 2, 0).numpy()
  np.save(tmp_path / "image_noise.npy", image_noise)

  pipe = diffusers.StableVideoDiffusionPipeline.from_pretrained(tmp_path)
  assert type(pipe.vae).__name__ == "AutoencoderKLTemporalDecoder"
  pipe.set_progress_bar_config(disable=True)
  theirs = pipe(
    PIL.Image.open(tmp_path / "first.png"),
    height=HEIGHT,
    width=WIDTH,
    num_frames=FRAMES,
    num_inference_steps=STEPS,
    min_guidance_scale=GUIDANCE[0],
    max_guidance_scale=GUIDANCE[1],
    fps=FPS,
    motion_bucket_id=BUCKET,
    noise_aug_strength=STRENGTH,
    latents=compare.clip(start),
    generator=torch.Generator().manual_seed(5),
    output_type="np",
  ).frames[0]
  assert theirs.std() > 0.05
  assert np.abs(theirs[1:] - theirs[:-1]).max() > EFFECT, "all frames are equal"
  ours = sampled(
    tmp_path,
    image=tmp_path / "first.png",
    image_noise=tmp_path / "image_noise.npy",
    noise_aug_strength=STRENGTH,
  )
  record.check("vidjax sample: image to video", ours, theirs, FRAME)

  all_counts(
    tmp_path,
    {
      "fps": 2,
      "motion_bucket_id": 200,
      "noise_aug_strength": 0.3,
      "min_guidance": 3.0,
      "max_guidance": 2.0,
      "image": np.float32(1.0) - pixels.astype(np.float32) / 255,
      "image_noise_NHWC": -image_noise[None],
      "noise_NThwC": -start,
    },
    image=pixels.astype(np.float32) / 255,
    fps=FPS,
    motion_bucket_id=BUCKET,
    noise_aug_strength=STRENGTH,
    min_guidance=GUIDANCE[0],
    max_guidance=GUIDANCE[1],
    noise_NThwC=start,
    image_noise_NHWC=image_noise[None],
  )


def embed(folder, prompt) -> torch.Tensor:
  """Hidden states of transformers' text tower, of the bytes of `prompt` as token ids."""
  model = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
  ids = [1, *(3 + byte for byte in prompt.encode()), 2]
  ids += [0] * (clip.TINY_TEXT.max_position_embeddings - len(ids))
  return model(torch.tensor([ids])).last_hidden_state


def decoded(folder, latents) -> np.ndarray:
  """Frames (N, H, W, 3) in [0, 1] of scaled latents (N, C, h, w)."""
  model = diffusers.AutoencoderKL.from_pretrained(folder / "vae").eval()
  frames = model.decode(latents / model.config.scaling_factor).sample
  return (frames / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("negative", [None, NEGATIVE], ids=["", "negative prompt"])
@torch.no_grad()
def test_text_to_video(record, tmp_path, negative):
  config = unet_config(in_channels=VAE.latent_channels)
  assert export_model(tmp_path, record.seed, config) is None
  start = draw([record.seed, 3], 1, FRAMES, *LATENT)
  np.save(tmp_path / "noise.npy", start)

  unet = diffusers.UNetSpatioTemporalConditionModel.from_pretrained(tmp_path / "unet").eval()
  scheduler = diffusers.EulerDiscreteScheduler.from_pretrained(tmp_path / "scheduler")
  scheduler.set_timesteps(STEPS)
  prompt = embed(tmp_path, PROMPT)
  other = torch.zeros_like(prompt) if negative is None else embed(tmp_path, negative)
  vector = torch.tensor([[FPS - 1.0, BUCKET, 0.0]])
  scales = torch.linspace(*GUIDANCE, FRAMES)[None, :, None, None, None]
  x = compare.clip(start) * scheduler.init_noise_sigma
  for t in scheduler.timesteps:
    scaled = scheduler.scale_model_input(x, t)
    with_text, without = (
      unet(scaled, t, encoder_hidden_states=context, added_time_ids=vector).sample
      for context in (prompt, other)
    )
    x = scheduler.step(without + scales * (with_text - without), t, x).prev_sample
  theirs = decoded(tmp_path, x[0])
  assert theirs.std() > 0.05
  assert np.abs(theirs[1:] - theirs[:-1]).max() > EFFECT, "all frames are equal"

  flags = {} if negative is None else {"negative_prompt": negative}
  ours = sampled(tmp_path, prompt=PROMPT, **flags)
  case = "text to video" + (", negative prompt" if negative else "")
  record.check(f"vidjax sample: {case}", ours, theirs, FRAME)

  if negative is not None:
    request = {"prompt": PROMPT, "noise_NThwC": start, "fps": FPS, "motion_bucket_id": BUCKET}
    request |= {"min_guidance": GUIDANCE[0], "max_guidance": GUIDANCE[1]}
    changes = {"fps": 2, "motion_bucket_id": 200, "min_guidance": 3.0, "max_guidance": 2.0}
    changes |= {"prompt": "a lake", "negative_prompts": [NEGATIVE]}
    all_counts(tmp_path, changes, **request)


@pytest.mark.slow
@pytest.mark.parametrize("prediction", ["eps", "v"])
@torch.no_grad()
def test_text_to_image_of_time_steps(record, tmp_path, prediction):
  scale = 5.0
  shape = unet_config(in_channels=VAE.latent_channels, temporal="none", vector_size=0)
  export_model(tmp_path, record.seed, shape)
  start = draw([record.seed, 3], 1, 1, *LATENT)

  unet = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "unet").eval()
  scheduler = diffusers.DDIMScheduler(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type={"eps": "epsilon", "v": "v_prediction"}[prediction],
    timestep_spacing="trailing",
    clip_sample=False,
  )
  scheduler.set_timesteps(STEPS)
  prompt = embed(tmp_path, PROMPT)
  x = compare.frames(start)
  for t in scheduler.timesteps:
    with_text, without = (
      unet(x, t, encoder_hidden_states=context).sample
      for context in (prompt, torch.zeros_like(prompt))
    )
    x = scheduler.step(without + scale * (with_text - without), t, x).prev_sample
  theirs = decoded(tmp_path, x)
  assert theirs.std() > 0.05

  config = configs.from_dict(
    configs.TrainConfig,
    {
      "total_samples": 1,
      "data": {"path": "none", "num_frames": 1, "height": HEIGHT, "width": WIDTH},
      "encoders": {"vae": str(tmp_path / "vae"), "text": str(tmp_path / "text_encoder")},
      "model": {"dtype": "float32", "overrides": dataclasses.asdict(shape)},
      "diffusion": {"levels": "discrete", "prediction": prediction},
      "conditioning": {"mode": "text_to_image"},
    },
  )
  params = weights(network(lambda rngs: UNet(shape, rngs)), record.seed, 2)
  ours = Pipeline(config, params, "drawn")(
    prompt=PROMPT,
    sampler="ddim",
    steps=STEPS,
    min_guidance=scale,
    max_guidance=scale,
    noise_NThwC=start,
  )
  record.check(f"text to image of time steps: {prediction}", ours, theirs, FRAME)
