"""A trained workdir, its export, and a model as others publish it: made once."""

import dataclasses
import json

import jax
from pretrained_models import DATA, SD_UNET, SD_VAE, TINY, draw, tiny_unet
import pytest

from vidjax import config as configs
from vidjax import export, state
from vidjax.checkpoint import Checkpointer
from vidjax.encoders import clip, frozen, tokenizers, vae
from vidjax.interop import export as files
from vidjax.models.unet import UNet
from vidjax.nn.params import network
from vidjax.optim import optimizer as optimizers
from vidjax.optim import packing


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
  """A workdir with one checkpoint, and the weights in it: averaged and as trained."""
  root = tmp_path_factory.mktemp("workdir")
  raw, ema = draw(tiny_unet().abstract, 0), draw(tiny_unet().abstract, 1)
  names = frozenset(raw)
  optimizer = optimizers.make_optimizer(TINY.optimizer)
  made = state.create(jax.device_put(raw), optimizer, names, TINY.optimizer.ema_decays)
  made = dataclasses.replace(made, ema={"0.9999": packing.pack(jax.device_put(ema))})
  with Checkpointer(root / "checkpoints", keep=1) as writer:
    writer.save(2, state.as_dict(made), {"samples": 8, "data": DATA, "config": {}})
  (root / "config.json").write_text(json.dumps(configs.to_dict(TINY)))
  return root, raw, ema


@pytest.fixture(scope="session")
def as_file(trained, tmp_path_factory):
  """The workdir's export in Stability's layout."""
  out = tmp_path_factory.mktemp("stability")
  export.export(str(trained[0]), "ema", str(out), format="stability", license="apache-2.0")
  export.verify(str(trained[0]), "ema", str(out), format="stability")
  return out


@pytest.fixture(scope="session")
def stable_diffusion(tmp_path_factory):
  """A reduced Stable Diffusion 2.1, as others publish it."""
  root = tmp_path_factory.mktemp("sd")
  encoders = {
    "vae": frozen.Encoder(SD_VAE, None, draw(vae.describe(SD_VAE).abstract, 1)),
    "text": frozen.Encoder(
      clip.TINY_TEXT, None, draw(clip.describe_text(clip.TINY_TEXT).abstract, 2)
    ),
  }
  params = draw(network(lambda rngs: UNet(SD_UNET, rngs)).abstract)
  generation = files.Generation(num_frames=1, height=16, width=16, fps=1.0)
  tokenizer = tokenizers.load("random:tiny")
  files.export_pipeline(
    root, SD_UNET, params, encoders, generation, tokenizer=tokenizer, max_shard_bytes=1_000_000
  )
  scheduler = {"_class_name": "DDIMScheduler", "prediction_type": "epsilon"}
  (root / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
  return root, params
