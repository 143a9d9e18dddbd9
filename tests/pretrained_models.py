"""Small models as files hold them: what tests of `vidjax.pretrained` read and write."""

import numpy as np

from vidjax import config as configs
from vidjax import lazy
from vidjax.encoders import vae
from vidjax.models.unet import PRESETS, UNet, UNetConfig
from vidjax.nn.params import network

TINY = configs.from_dict(
  configs.TrainConfig,
  {
    "total_samples": 8,
    "data": {"path": "SHARDS", "num_frames": 4, "height": 16, "width": 24},
    "model": {"preset": "tiny", "dtype": "float32"},
    "encoders": {"vae": "random:tiny", "image": "random:tiny"},
    "conditioning": {"mode": "image_to_video"},
    "optimizer": {"train_only": ("*",)},
  },
)
DATA = {"clips": 3, "content": "0123456789abcdef"}
LARGE = "up_blocks.0.resnets.0.spatial.conv1.kernel"  # large enough to be sharded


def draw(abstract, seed=0):
  rng = np.random.default_rng(seed)
  return {name: rng.standard_normal(leaf.shape, np.float32) for name, leaf in abstract.items()}


def same(left, right):
  assert left.keys() == right.keys()
  for name, value in left.items():
    assert lazy.same_bits(np.asarray(value), np.asarray(right[name])), name


def tiny_unet():
  return network(lambda rngs: UNet(PRESETS["tiny"], rngs))


SD_UNET = UNetConfig(
  in_channels=4,
  block_out_channels=(64, 64),
  num_attention_heads=(1, 1),
  attention=(True, False),
  layers_per_block=(1, 1),
  transformer_layers_per_block=(1, 1),
  cross_attention_dims=(64,),
  temporal="none",
  vector_size=0,
)
SD_VAE = vae.VAEConfig(block_out_channels=(32, 32))
