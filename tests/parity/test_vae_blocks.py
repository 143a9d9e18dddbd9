"""Blocks of the autoencoders against diffusers'."""

from diffusers.models.autoencoders import autoencoder_kl_temporal_decoder
from diffusers.models.autoencoders import vae as their_vae
from diffusers.models.unets import unet_2d_blocks, unet_3d_blocks
import torch

from tests.parity.blocks import Blocks
from tests.parity.compare import MODEL, draw, frames
from vidjax.encoders import vae
from vidjax.interop import names

B, T, H, W = 2, 3, 4, 6
FINE, COARSE = 32, 64
IMAGE = vae.VAEConfig(block_out_channels=(FINE, COARSE), layers_per_block=1)
VIDEO = vae.VAEConfig(
  block_out_channels=(FINE, COARSE), use_post_quant_conv=False, temporal_decoder=True
)


def x(record, channels):
  """Frames of which every one has its own mean in every channel."""
  x = draw([record.seed, 0], B, T, H, W, channels)
  return x + draw([record.seed, 1], 1, T, 1, 1, channels)


def test_image_blocks(record):
  result = Blocks(record, names.IMAGE_VAE)
  image = lambda m, x: m(frames(x))  # noqa: E731
  result.add(
    "autoencoder level down, padding bottom and right",
    unet_2d_blocks.DownEncoderBlock2D(FINE, COARSE, num_layers=2, downsample_padding=0),
    lambda rngs: vae.DownLevel(IMAGE, [FINE, COARSE], COARSE, last=False, rngs=rngs),
    (x(record, FINE),),
    image,
  )
  result.add(
    "autoencoder middle",
    unet_2d_blocks.UNetMidBlock2D(COARSE, temb_channels=None, attention_head_dim=COARSE),
    lambda rngs: vae.Mid(IMAGE, COARSE, temporal=False, rngs=rngs),
    (x(record, COARSE),),
    image,
  )
  result.add(
    "autoencoder level up",
    unet_2d_blocks.UpDecoderBlock2D(COARSE, FINE, num_layers=2),
    lambda rngs: vae.UpLevel(IMAGE, [COARSE, FINE], FINE, last=False, rngs=rngs),
    (x(record, COARSE),),
    image,
  )
  shape = {"block_out_channels": (FINE, COARSE), "layers_per_block": 1}
  result.add(
    "encoder",
    their_vae.Encoder(
      out_channels=4, down_block_types=("DownEncoderBlock2D",) * 2, double_z=True, **shape
    ),
    lambda rngs: vae.Encoder(IMAGE, rngs),
    (x(record, 3),),
    image,
    bound=MODEL,
  )
  result.add(
    "decoder",
    their_vae.Decoder(4, 3, up_block_types=("UpDecoderBlock2D",) * 2, **shape),
    lambda rngs: vae.Decoder(IMAGE, rngs),
    (x(record, 4),),
    image,
    bound=MODEL,
  )
  result.check()


def test_temporal_decoder_blocks(record):
  result = Blocks(record, names.TEMPORAL_VAE, prefix="decoder.")
  video = lambda m, x: m(frames(x), image_only_indicator=torch.zeros(B, T))  # noqa: E731
  result.add(
    "temporal decoder middle",
    unet_3d_blocks.MidBlockTemporalDecoder(COARSE, COARSE, attention_head_dim=COARSE, num_layers=2),
    lambda rngs: vae.Mid(VIDEO, COARSE, temporal=True, rngs=rngs),
    (x(record, COARSE),),
    video,
  )
  result.add(
    "temporal decoder level up",
    unet_3d_blocks.UpBlockTemporalDecoder(COARSE, FINE, num_layers=2),
    lambda rngs: vae.UpLevel(VIDEO, [COARSE, FINE], FINE, last=False, rngs=rngs),
    (x(record, COARSE),),
    video,
  )
  result.add(
    "temporal decoder",
    autoencoder_kl_temporal_decoder.TemporalDecoder(4, 3, (FINE, COARSE), layers_per_block=2),
    lambda rngs: vae.Decoder(VIDEO, rngs),
    (x(record, 4),),
    lambda m, x: m(frames(x), torch.zeros(B, T), num_frames=T),
    bound=MODEL,
  )
  result.check()
