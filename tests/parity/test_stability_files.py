"""Our files in Stability's layout, as diffusers' own converters of such files understand them.

They know image models; the video half has no counterpart in diffusers, and is compared by names
that were written down by hand (tests/unit/interop/test_stability.py).
"""

import dataclasses

from diffusers.loaders import single_file_utils as theirs
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

from vidjax.encoders import clip, frozen, vae
from vidjax.interop import configs, export, stability
from vidjax.models.unet import PRESETS, UNet
from vidjax.nn.params import network

UNET = dataclasses.replace(
  PRESETS["sd21"],
  block_out_channels=(64, 64, 128, 128),
  num_attention_heads=(1, 1, 2, 2),
  cross_attention_dims=(64,),
)
VAE = vae.VAEConfig(block_out_channels=(32, 32, 64, 64))
# Their converter takes 23 layers whatever the config says, and the width from a config of 2.1.
TEXT = clip.TextConfig(70, 64, 96, 23, 1, 8, "gelu")


def drawn(net, seed):
  rng = np.random.default_rng(seed)
  return {name: rng.standard_normal(leaf.shape, np.float32) for name, leaf in net.abstract.items()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  """One model in both layouts: the folder of diffusers, the tensors of the file."""
  root = tmp_path_factory.mktemp("model")
  encoders = {
    "vae": frozen.Encoder(VAE, None, drawn(vae.describe(VAE), 1)),
    "text": frozen.Encoder(TEXT, None, drawn(clip.describe_text(TEXT), 2)),
  }
  params = drawn(network(lambda rngs: UNet(UNET, rngs)), 0)
  generation = export.Generation(num_frames=1, height=64, width=64, fps=1.0)
  export.export_pipeline(root, UNET, params, encoders, generation)
  path = stability.write(
    root / "file",
    {"unet": (UNET, params), **{k: (e.config, e.params) for k, e in encoders.items()}},
    {},
  )
  return root, safetensors.torch.load_file(path)


def folder(root, name, stem):
  return safetensors.torch.load_file(root / name / f"{stem}.safetensors")


def same(left, right):
  assert left.keys() == right.keys()
  for name, tensor in left.items():
    assert torch.equal(tensor, right[name]), name


def test_unet(exported):
  root, file = exported
  config = configs.unet_to_json(UNET, num_frames=1, sample_size=8)
  converted = theirs.convert_ldm_unet_checkpoint(
    dict(file), {**config, "class_embed_type": None, "addition_embed_type": None}
  )
  same(converted, folder(root, "unet", "diffusion_pytorch_model"))


def test_autoencoder(exported):
  root, file = exported
  config = configs.vae_to_json(VAE, sample_size=64)
  same(
    theirs.convert_ldm_vae_checkpoint(dict(file), config),
    folder(root, "vae", "diffusion_pytorch_model"),
  )


def test_text_tower(exported):
  root, file = exported
  model = transformers.CLIPTextModel(transformers.CLIPTextConfig(**dataclasses.asdict(TEXT)))
  prefix = "cond_stage_model.model."
  converted = theirs.convert_open_clip_checkpoint(model, dict(file), prefix)
  converted = {n: t for n, t in converted.items() if "position_ids" not in n}
  same(converted, folder(root, "text_encoder", "model"))
