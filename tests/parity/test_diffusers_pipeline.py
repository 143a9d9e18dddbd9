"""An exported image-to-video model in PyTorch's pipeline, from the same noise as in ours."""

import dataclasses

import diffusers
import jax
import numpy as np
import pytest
import torch

from tests.parity.compare import draw
from vidjax.encoders import frozen, vae
from vidjax.interop import export
from vidjax.models.unet import PRESETS, UNet
from vidjax.nn.params import network
from vidjax.pipeline import Pipeline

# diffusers' scheduler gives torch tensors to numpy in a way that numpy 2 finds old.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FRAMES, HEIGHT, WIDTH, STEPS = 3, 32, 48, 3


def random_weights(net):
  """Drawn, with something added where layers start as zero."""
  params = jax.device_get(jax.jit(net.init)(jax.random.key(0)))
  return {name: value + 0.02 * draw(len(name), *value.shape) for name, value in params.items()}


@pytest.mark.parametrize(
  ("vae_config", "vae_class"),
  [
    (vae.PRESETS["tiny"], "AutoencoderKL"),
    pytest.param(
      vae.VAEConfig(block_out_channels=(32, 32), use_post_quant_conv=False),
      "AutoencoderKLTemporalDecoder",
      marks=pytest.mark.slow,
    ),
  ],
  ids=["image autoencoder", "temporal decoder"],
)
def test_exported_model_makes_the_same_video_in_pytorch(tmp_path, vae_config, vae_class):
  latents = vae_config.latent_channels
  unet_config = dataclasses.replace(
    PRESETS["tiny"],
    in_channels=2 * latents,
    out_channels=latents,
  )
  vae_config = dataclasses.replace(vae_config, scaling_factor=0.7)
  net = vae.describe(vae_config)
  encoders = {
    "vae": frozen.Encoder(vae_config, net, random_weights(net)),
    "image": frozen.load_image("random:tiny"),
  }
  unet = network(lambda rngs: UNet(unet_config, rngs))
  pipeline_class = export.export_pipeline(
    tmp_path,
    unet_config,
    random_weights(unet),
    encoders,
    export.Generation(FRAMES, HEIGHT, WIDTH, 4.0),
  )
  assert pipeline_class == "StableVideoDiffusionPipeline"

  image = np.random.default_rng(0).random((HEIGHT, WIDTH, 3), np.float32)
  factor = vae_config.downsampling
  start = draw(1, FRAMES, HEIGHT // factor, WIDTH // factor, latents)
  pipe = diffusers.StableVideoDiffusionPipeline.from_pretrained(tmp_path)
  assert type(pipe.vae).__name__ == vae_class
  pipe.set_progress_bar_config(disable=True)
  as_pil = pipe.video_processor.numpy_to_pil(image)[0]  # rounds to 8 bit, as every user's image is
  theirs = pipe(
    as_pil,
    height=HEIGHT,
    width=WIDTH,
    num_frames=FRAMES,
    fps=4,
    num_inference_steps=STEPS,
    latents=torch.tensor(start).permute(0, 3, 1, 2)[None],
    generator=torch.Generator().manual_seed(0),
    output_type="np",
  ).frames[0]

  noise = torch.randn(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
  ours = Pipeline.from_pretrained(str(tmp_path))(
    image=np.asarray(as_pil, np.float32) / 255,
    fps=4,
    steps=STEPS,
    num_frames=FRAMES,
    height=HEIGHT,
    width=WIDTH,
    noise_NThwC=start[None],
    image_noise_NHWC=noise.permute(0, 2, 3, 1).numpy(),
  )
  assert theirs.std() > 0.05
  assert np.abs(theirs[1:] - theirs[:-1]).max() > 1e-3, "frames are equal: time has no effect"
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)
