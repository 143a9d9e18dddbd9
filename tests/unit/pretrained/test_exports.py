"""What `vidjax export` makes of a model, and reads back."""

import json

import numpy as np
from pretrained_models import DATA, TINY, same
import pytest

from vidjax import export, pipeline, pretrained
from vidjax.diffusion.process import DiffusionConfig
from vidjax.encoders import frozen
from vidjax.errors import CheckpointError
from vidjax.interop import export as files
from vidjax.interop import parts, safetensors, stability
from vidjax.models.unet import PRESETS


def test_an_exported_file_holds_the_whole_model(trained, as_file):
  _, _, ema = trained
  for model in (as_file, as_file / "model.safetensors"):
    loaded = pretrained.load(str(model))
    same(ema, loaded.params)
    assert loaded.data == DATA
    assert loaded.config.data == TINY.data
    assert loaded.config.conditioning == TINY.conditioning
  opened = frozen.load(loaded.config.encoders, "image").encoders
  for kind, load in (("vae", frozen.load_vae), ("image", frozen.load_image)):
    assert opened[kind].config == load("random:tiny").config
    same(load("random:tiny").params, opened[kind].params)


def test_an_exported_file_samples_as_the_workdir_does(trained, as_file):
  image = np.random.default_rng(0).uniform(0, 1, (16, 24, 3)).astype(np.float32)
  clips = [
    pipeline.Pipeline.from_pretrained(str(model))(image=image, seed=3, steps=1, max_guidance=1.0)
    for model in (trained[0], as_file)
  ]
  assert clips[0].std() > 0
  np.testing.assert_array_equal(*clips)


def test_one_layout_becomes_the_other(trained, as_file, tmp_path):
  """workdir -> Stability -> diffusers is workdir -> diffusers, file by file."""
  export.export(str(trained[0]), "ema", str(tmp_path / "a"))
  export.export(str(as_file), "ema", str(tmp_path / "b"))
  export.verify(str(as_file), "ema", str(tmp_path / "b"))
  left, right = (sorted((tmp_path / x).rglob("*.safetensors")) for x in "ab")
  assert [f.relative_to(tmp_path / "a") for f in left] == [
    f.relative_to(tmp_path / "b") for f in right
  ]
  for one, other in zip(left, right, strict=True):
    assert one.read_bytes() == other.read_bytes()


def test_the_card_says_what_the_weights_are(trained, as_file, tmp_path):
  text = (as_file / "README.md").read_text()
  for part in (
    "license: apache-2.0",
    "| content | 0123456789abcdef |",
    '"preset": "tiny"',
    "ckpt_",
  ):
    assert part in text
  export.export(str(trained[0]), "ema", str(tmp_path))
  text = (tmp_path / "README.md").read_text()
  assert "license: other" in text
  assert "No licence was stated" in text
  assert "StableVideoDiffusionPipeline.from_pretrained" in text
  found = json.loads((tmp_path / "model_index.json").read_text())
  assert set(found) == {
    "_class_name",
    "unet",
    "vae",
    "scheduler",
    "image_encoder",
    "feature_extractor",
  }
  for folder in set(found) - {"_class_name"}:
    assert any((tmp_path / folder).glob("*.json")), folder


def test_verification_finds_a_single_bit(trained, as_file, tmp_path):
  for name in ("model.safetensors", "vidjax.json"):
    (tmp_path / name).write_bytes((as_file / name).read_bytes())
  path = tmp_path / "model.safetensors"
  before = stability.open_file(as_file / "model.safetensors")
  written = {kind: before.open(kind) for kind in before.kinds}
  whole = path.read_bytes()
  tensors, _ = safetensors.read_file(path)
  for prefix in (
    "model.diffusion_model.",
    "conditioner.embedders.0.",
    "first_stage_model.decoder.",
  ):
    tensor = next(t for name, t in tensors.items() if name.startswith(prefix))
    content = bytearray(whole)
    content[tensor.start] ^= 1
    path.write_bytes(content)
    back = {kind: stability.open_file(path).open(kind) for kind in before.kinds}
    with pytest.raises(CheckpointError, match="is not what was exported: export again"):
      parts.check_equal(written, back, "here")
  with pytest.raises(CheckpointError, match="is not what was exported: export again"):
    export.verify(str(trained[0]), "ema", str(tmp_path), format="stability")
  with pytest.raises(CheckpointError, match=r"holds \['image', 'unet'\], not"):
    parts.check_equal(written, {k: v for k, v in written.items() if k != "vae"}, "here")


def test_a_finished_export_is_left_and_never_mixed(trained, as_file, capsys):
  export.export(str(trained[0]), "ema", str(as_file), format="stability", license="apache-2.0")
  assert "nothing to do" in capsys.readouterr().out
  with pytest.raises(ValueError, match="holds an export in the layout of stability"):
    export.export(str(trained[0]), "ema", str(as_file))


def test_no_pipeline_is_named_that_cannot_sample_the_model(trained, tmp_path):
  """diffusers' video pipeline knows SVD's noise only."""
  encoders = {"vae": frozen.load_vae("random:tiny"), "image": frozen.load_image("random:tiny")}
  generation = files.Generation(num_frames=4, height=16, width=24, fps=4.0)
  for name, diffusion in {
    "edm": DiffusionConfig(prediction="edm"),
    "discrete": DiffusionConfig(levels="discrete"),
    "unknown": None,
    "svd": DiffusionConfig(),
  }.items():
    pipeline = files.export_pipeline(
      tmp_path / name, PRESETS["tiny"], trained[2], encoders, generation, diffusion=diffusion
    )
    assert pipeline == ("StableVideoDiffusionPipeline" if name == "svd" else None)
    index = json.loads((tmp_path / name / "model_index.json").read_text())
    assert ("scheduler" in index) == (name in ("svd", "discrete"))
