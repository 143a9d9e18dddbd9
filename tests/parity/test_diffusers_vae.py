"""The autoencoders against diffusers' AutoencoderKL and AutoencoderKLTemporalDecoder."""

import functools

import diffusers
import jax
import numpy as np
import pytest
import torch

from tests.parity.compare import FAINT, MODEL, close, draw, frames
from vidjax.encoders import vae
from vidjax.interop import diffusers as layout
from vidjax.interop import export, temporal_vae

SHAPE = (2, 3, 8, 12, 3)
REGIMES = pytest.mark.parametrize("faint", [False, True], ids=["", "faint"])


@functools.cache
def program(config):
  """(params, x, z) -> moments of x, and decoded z."""
  net = vae.describe(config)

  def run(params, x, z):
    bound = net.bind(params)
    return *bound.encode_moments(x), bound.decode(z)

  return jax.jit(run)


def inputs(record, faint):
  scale = np.float32(FAINT if faint else 1)
  return np.tanh(draw([record.seed, 1], *SHAPE)) * scale, draw(
    [record.seed, 2], 2, 3, 4, 6, 4
  ) * scale


@REGIMES
def test_image_autoencoder(record, save, faint):
  model = diffusers.AutoencoderKL(
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    block_out_channels=(16, 32),
    norm_num_groups=8,
    layers_per_block=1,
  )
  config, params = layout.load_vae(save(model, [record.seed, 0], faint))
  x, z = inputs(record, faint)
  mean, log_var, decoded = program(config)(params, x, z)
  with torch.no_grad():
    posterior = model.encode(frames(x)).latent_dist
    theirs = model.decode(frames(z)).sample
  suffix = " (faint)" if faint else ""
  record.check(f"model: AutoencoderKL, mean{suffix}", mean, posterior.mean, MODEL)
  record.check(f"model: AutoencoderKL, log variance{suffix}", log_var, posterior.logvar, MODEL)
  record.check(f"model: AutoencoderKL, decoded{suffix}", decoded, theirs, MODEL)


@REGIMES
def test_temporal_decoder(record, save, faint):
  model = diffusers.AutoencoderKLTemporalDecoder(
    down_block_types=("DownEncoderBlock2D",) * 2, block_out_channels=(32, 32), layers_per_block=2
  )
  config, params = layout.load_vae(save(model, [record.seed, 0], faint))
  x, z = inputs(record, faint)
  mean, _, decoded = program(config)(params, x, z)
  with torch.no_grad():
    expected = model.encode(frames(x)).latent_dist.mean
    theirs = model.decode(frames(z), num_frames=SHAPE[1]).sample
  suffix = " (faint)" if faint else ""
  record.check(f"model: AutoencoderKLTemporalDecoder, mean{suffix}", mean, expected, MODEL)
  record.check(f"model: AutoencoderKLTemporalDecoder, decoded{suffix}", decoded, theirs, MODEL)


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
