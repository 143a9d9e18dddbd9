"""`vidjax sample` with a model of interpolation against PyTorch, from pictures to frames.

diffusers has no pipeline for it. The reference is composed of its parts as the paper says (SVD,
2311.15127, App. D.5), with the stand-in for frames that are not given as a torch tensor.
"""

import diffusers
from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as svd
import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from tests.parity import compare
from tests.parity.compare import draw
from tests.parity.test_sample_verb import (
  BUCKET,
  FPS,
  GUIDANCE,
  LATENT,
  STEPS,
  STRENGTH,
  VAE,
  all_counts,
  decoded,
  export_model,
  sampled,
  unet_config,
)
from vidjax.encoders import clip
from vidjax.interop import safetensors

# diffusers' schedulers give torch tensors to numpy in a way that numpy 2 finds old.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FRAMES = 5
BOUND = 1e-3  # largest |ours - theirs| of a pixel in [0, 1], as a share of the brightest


def given_frame(folder, picture) -> tuple[torch.Tensor, torch.Tensor]:
  """CLIP embedding (1, X) and unscaled latents (1, C, h, w) of a picture (H, W, 3) in [0, 1]."""
  x = torch.tensor(picture * 2 - 1).permute(2, 0, 1)[None]
  # The way to the encoder's size is that of its pipeline for image-to-video.
  small = svd._resize_with_antialiasing(x, (224, 224))
  small = (small + 1) / 2 - torch.tensor(clip.PIXEL_MEAN)[None, :, None, None]
  small = small / torch.tensor(clip.PIXEL_STD)[None, :, None, None]
  tower = transformers.CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder")
  autoencoder = diffusers.AutoencoderKL.from_pretrained(folder / "vae").eval()
  return tower.eval()(small).image_embeds, autoencoder.encode(x).latent_dist.mode()


@pytest.mark.slow
@torch.no_grad()
def test_interpolation(record, tmp_path):
  latent_hw = LATENT[:2]
  config = unet_config(in_channels=2 * VAE.latent_channels + 1, mask_embedding=latent_hw)
  assert export_model(tmp_path, record.seed, config, image=True) is None
  rng = np.random.default_rng([record.seed, 3])
  pictures = []
  for name in ("first", "last"):
    pixels = np.kron(rng.integers(0, 256, (4, 6, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    PIL.Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    pictures.append(pixels.astype(np.float32) / 255)
  start = draw([record.seed, 4], 1, FRAMES, *LATENT)
  np.save(tmp_path / "noise.npy", start)
  frame_noise = draw([record.seed, 5], 2, *LATENT)
  np.save(tmp_path / "frame_noise.npy", frame_noise)

  unet = diffusers.UNetSpatioTemporalConditionModel.from_pretrained(tmp_path / "unet").eval()
  assert unet.config.in_channels == 9
  stand_in = safetensors.tensors(tmp_path / "unet", "mask_embedding")
  z_m = torch.tensor(stand_in["mask_embedding.weight"].read()).permute(2, 0, 1)
  embeddings, latents = zip(*(given_frame(tmp_path, p) for p in pictures), strict=True)
  context = torch.stack(embeddings, dim=1)
  noised = torch.cat(latents) + STRENGTH * compare.clip(frame_noise[None])[0]
  scheduler = diffusers.EulerDiscreteScheduler.from_pretrained(tmp_path / "scheduler")
  scheduler.set_timesteps(STEPS)

  def condition(*, given: bool) -> torch.Tensor:
    """Latents and mask of all frames, channels first; the stand-in where a frame is not given."""
    frames = [torch.cat([z_m, torch.zeros(1, *latent_hw)]) for _ in range(FRAMES)]
    if given:
      for place, latent in ((0, noised[0]), (FRAMES - 1, noised[1])):
        frames[place] = torch.cat([latent, torch.ones(1, *latent_hw)])
    return torch.stack(frames)[None]

  vector = torch.tensor([[FPS - 1.0, BUCKET, STRENGTH]])
  scales = torch.linspace(*GUIDANCE, FRAMES)[None, :, None, None, None]
  x = compare.clip(start) * scheduler.init_noise_sigma
  for t in scheduler.timesteps:
    scaled = scheduler.scale_model_input(x, t)
    with_frames, without = (
      unet(
        torch.cat([scaled, condition(given=given)], dim=2),
        t,
        encoder_hidden_states=context * given,
        added_time_ids=vector,
      ).sample
      for given in (True, False)
    )
    x = scheduler.step(without + scales * (with_frames - without), t, x).prev_sample
  theirs = decoded(tmp_path, x[0])
  assert theirs.std() > 0.05
  assert np.abs(theirs[1:] - theirs[:-1]).max() > 5 * BOUND, "all frames are equal"

  ours = sampled(
    tmp_path,
    image=tmp_path / "first.png",
    last_image=tmp_path / "last.png",
    image_noise=tmp_path / "frame_noise.npy",
    noise_aug_strength=STRENGTH,
    num_frames=FRAMES,
  )
  record.check("vidjax sample: interpolation", ours, theirs, BOUND)

  all_counts(
    tmp_path,
    {
      "fps": 2,
      "motion_bucket_id": 200,
      "noise_aug_strength": 0.3,
      "min_guidance": 3.0,
      "max_guidance": 2.0,
      "image": 1 - pictures[0],
      "last_image": 1 - pictures[1],
      "image_noise_N2hwZ": -frame_noise[None],
      "noise_NThwC": -start,
    },
    image=pictures[0],
    last_image=pictures[1],
    num_frames=FRAMES,
    fps=FPS,
    motion_bucket_id=BUCKET,
    noise_aug_strength=STRENGTH,
    min_guidance=GUIDANCE[0],
    max_guidance=GUIDANCE[1],
    noise_NThwC=start,
    image_noise_N2hwZ=frame_noise[None],
  )
