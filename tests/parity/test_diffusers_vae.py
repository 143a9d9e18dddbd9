"""The autoencoders against diffusers' AutoencoderKL and AutoencoderKLTemporalDecoder."""

import diffusers
import jax
import numpy as np
import torch

from tests.parity.compare import close, draw, frames
from vidjax.encoders import vae
from vidjax.interop import diffusers as layout
from vidjax.interop import export, temporal_vae

SHAPE = (2, 3, 8, 12, 3)


def bound(folder):
  config, params = layout.load_vae(folder)
  return vae.describe(config), params


def test_image_autoencoder(save):
  model = diffusers.AutoencoderKL(
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    block_out_channels=(16, 32),
    norm_num_groups=8,
    layers_per_block=1,
  )
  net, params = bound(save(model))
  x = np.tanh(draw(0, *SHAPE))
  with torch.no_grad():
    posterior = model.encode(frames(x)).latent_dist
    decoded = model.decode(posterior.mean).sample
  mean, log_var = jax.jit(lambda p, x: net.bind(p).encode_moments(x))(params, x)
  close(mean, posterior.mean)
  close(log_var, posterior.logvar)
  close(jax.jit(lambda p, z: net.bind(p).decode(z))(params, mean), decoded, atol=5e-5)


def test_temporal_decoder(save):
  model = diffusers.AutoencoderKLTemporalDecoder(
    down_block_types=("DownEncoderBlock2D",) * 2, block_out_channels=(32, 32), layers_per_block=2
  )
  net, params = bound(save(model))
  x = np.tanh(draw(0, *SHAPE))
  with torch.no_grad():
    mean = model.encode(frames(x)).latent_dist.mean
    decoded = model.decode(mean, num_frames=SHAPE[1]).sample
  ours = jax.jit(lambda p, x: net.bind(p).encode_mode(x))(params, x)
  close(ours, mean)
  close(jax.jit(lambda p, z: net.bind(p).decode(z))(params, ours), decoded, atol=5e-5)


def test_an_image_autoencoder_with_temporal_decoder_computes_the_same(tmp_path):
  """Ours is exported with identity layers; PyTorch decodes with them what we decode without."""
  config = vae.VAEConfig(block_out_channels=(32, 32), use_post_quant_conv=False)
  net = vae.describe(config)
  params = {k: v + 0.1 * draw(len(k), *v.shape) for k, v in _init(net).items()}
  export.write_vae(tmp_path, *temporal_vae.from_image_vae(config, params), sample_size=16)
  model = diffusers.AutoencoderKLTemporalDecoder.from_pretrained(tmp_path)
  z = draw(0, 2, 3, 4, 6, 4)
  with torch.no_grad():
    decoded = model.decode(frames(z), num_frames=3).sample
  close(jax.jit(lambda p, z: net.bind(p).decode(z))(params, z), decoded, atol=5e-5)


def _init(net):
  return jax.device_get(jax.jit(net.init)(jax.random.key(0)))
