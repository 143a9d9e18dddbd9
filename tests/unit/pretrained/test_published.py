"""Models that others publish, as `--model` and `init_from` take them."""

import shutil

import jax
import numpy as np
from pretrained_models import SD_UNET, same
import pytest

from vidjax import pipeline, pretrained
from vidjax.checkpoint import warm_start
from vidjax.interop import diffusers, safetensors
from vidjax.models.unet import UNet
from vidjax.nn.params import network
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan


def test_stable_diffusion_starts_a_stage_and_samples(stable_diffusion, tmp_path):
  root, params = stable_diffusion
  assert len(list((root / "unet").glob("*.safetensors"))) > 3
  loaded = pretrained.load(str(root))
  same(params, loaded.params)
  assert loaded.config.conditioning.mode == "text_to_image"
  assert (loaded.config.data.num_frames, loaded.config.data.height) == (1, 64)
  assert loaded.config.encoders.text == str(root / "text_encoder")
  assert loaded.config.encoders.image == ""
  assert loaded.config.diffusion.prediction == "eps"
  assert loaded.config.diffusion.betas.kind == "linear"  # as diffusers' class has it by default
  image = pipeline.Pipeline.from_pretrained(str(root))(
    prompt="a red car", height=16, width=16, steps=2, sampler="ddim", max_guidance=5.0
  )
  assert image.shape == (1, 16, 16, 3)
  assert np.isfinite(image).all()
  silent = tmp_path / "silent"
  shutil.copytree(root, silent, ignore=shutil.ignore_patterns("scheduler"))
  with pytest.raises(ValueError, match=r"without a word about its noise levels.*init_from"):
    pipeline.Pipeline.from_pretrained(str(silent))


def test_a_single_unet_folder_starts_a_stage(stable_diffusion):
  root, params = stable_diffusion
  loaded = pretrained.load(str(root / "unet"))
  same(params, loaded.params)
  assert loaded.config.encoders.vae == ""


def test_a_start_from_files_reads_each_devices_rows(stable_diffusion, monkeypatch):
  root, params = stable_diffusion
  net, mesh = network(lambda rngs: UNet(SD_UNET, rngs)), meshes.make_mesh(meshes.MeshConfig(fsdp=8))
  shardings = plan.param_shardings(net.roles, net.abstract, mesh)
  wanted = {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=shardings[name])
    for name, leaf in net.abstract.items()
  }
  read = []
  rows = safetensors.Tensor.rows
  monkeypatch.setattr(
    safetensors.Tensor,
    "rows",
    lambda self, start, stop: read.append((self, stop - start)) or rows(self, start, stop),
  )
  source = pretrained.load(str(root / "unet"))
  assert read == []
  started, _ = warm_start(wanted, source.params, dict)
  for tensor, count in read:
    large = tensor.nbytes >= 4 * plan.SMALL
    assert count == (tensor.shape[0] // 8 if large else tensor.shape[0])
  assert sum(tensor.nbytes * count // tensor.shape[0] for tensor, count in read) == sum(
    value.nbytes for value in params.values()
  )
  same(params, jax.device_get(started))


def test_half_precision_is_said_in_the_origin(stable_diffusion, tmp_path):
  root, params = stable_diffusion
  tensors = safetensors.tensors(root / "unet", diffusers.DIFFUSERS_STEM)
  specs = {name: (np.dtype(np.float16), tensor.shape) for name, tensor in tensors.items()}
  safetensors.write(
    tmp_path, diffusers.DIFFUSERS_STEM, specs, lambda name: tensors[name].read().astype(np.float16)
  )
  (tmp_path / "config.json").write_bytes((root / "unet" / "config.json").read_bytes())
  loaded = pretrained.load(str(tmp_path))
  assert loaded.origin == f"{tmp_path}, float16 as float32"
  same({n: v.astype(np.float16).astype(np.float32) for n, v in params.items()}, loaded.params)


def test_what_is_no_model_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"is not a model: expected a training workdir.*safetensors"):
    pretrained.load(str(tmp_path))
  with pytest.raises(ValueError, match=r"gone.safetensors does not exist"):
    pretrained.load(str(tmp_path / "gone.safetensors"))
