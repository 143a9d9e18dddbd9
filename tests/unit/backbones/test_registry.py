"""The table of feature networks: taps and widths as it says, weights on disk, errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax.backbones import extraction, i3d, registry, weights
from vidjax.encoders import clip
from vidjax.interop import export, safetensors


@pytest.mark.parametrize("name", registry.BACKBONES)
def test_rows_give_the_taps_that_they_say(name):
  """Traced only: full-size networks, nothing is computed."""
  row = registry.get(name)
  assert row.name == name
  fewest, most = row.frames
  size = (224, 224) if row.prepare else (90, 120)
  for frames in {fewest, most or fewest + 9}:
    video = jax.ShapeDtypeStruct((2, frames, *size, 3), jnp.float32)
    found = jax.eval_shape(row.features, row.describe().abstract, video)
    shapes = {tap: leaf.shape for tap, leaf in found.items()}
    assert shapes == {tap: (2, width) for tap, width in row.taps.items()}
    assert {leaf.dtype for leaf in found.values()} == {jnp.dtype(jnp.float32)}
    row.check(video.shape)
  with pytest.raises(ValueError, match=f"clips of {fewest - 1} frames: {name} takes"):
    row.check((2, fewest - 1, *size, 3))


def test_rows_with_the_same_weights_have_one_file():
  shared: dict[str, set[str]] = {}
  for row in registry.BACKBONES.values():
    shared.setdefault(row.weights, set()).add(row.name.split("/")[0])
  assert all(len(families) == 1 for families in shared.values()), shared
  assert len({row.weights for row in registry.BACKBONES.values()}) == 11


def test_unknown_name():
  with pytest.raises(ValueError, match="no feature network 'i3d': known are i3d/torchscript, "):
    registry.get("i3d")


def test_random_weights_repeat_and_carry_signals_through():
  loaded = registry.random("i3d/torchscript", 3)
  again, other = registry.random("i3d/torchscript", 3), registry.random("i3d/torchscript", 4)
  assert loaded.sha256 == again.sha256 != other.sha256
  assert loaded.params.keys() == i3d.describe().abstract.keys()
  video = np.random.default_rng(0).integers(0, 256, (2, 9, 48, 64, 3), np.uint8)
  found = extraction.extract_features(
    registry.get("i3d/torchscript"), loaded.params, video, taps=("logits", "pool"), batch_size=2
  )
  assert 0.1 < found["logits"].std() < 100
  assert np.abs(found["pool"][0] - found["pool"][1]).max() > 1e-3, "clips differ"


def test_weights_come_back_from_disk(tmp_path):
  row = registry.get("inception/clean-fid")
  loaded = registry.random(row.name, 0)
  facts = {"source": "a.pth", "source_sha256": "0" * 64, "eps": "0.001"}
  file = weights.write(tmp_path, row.weights, loaded.params, facts)
  assert file.name == "inception-2015-12-05.safetensors"
  for name in ("inception/clean-fid", "inception/pytorch-fid"):
    found = registry.load(name, tmp_path)
    assert found.sha256 == loaded.sha256
    assert facts.items() <= found.facts.items()
  with pytest.raises(ValueError, match=r"i3d-tfhub.safetensors does not exist: `vidjax convert_"):
    registry.load("i3d/tfhub", tmp_path)


def test_damaged_and_exchanged_files_are_told(tmp_path):
  row = registry.get("i3d/piergiaj")
  params = dict(registry.random(row.name, 0).params)
  weights.write(tmp_path, "i3d/tfhub", params, {})
  (tmp_path / "i3d-tfhub.safetensors").rename(tmp_path / "i3d-piergiaj.safetensors")
  with pytest.raises(
    ValueError, match="holds the weights of 'i3d/tfhub' and not of 'i3d/piergiaj'"
  ):
    registry.load(row.name, tmp_path)
  del params["logits.bias"]
  weights.write(tmp_path, row.weights, params, {})
  with pytest.raises(ValueError, match=r"logits.bias is of shape None, expected \(400,\)"):
    registry.load(row.name, tmp_path)


def write_clip(folder, config):
  network = clip.describe_vision(config)
  values = {name: np.full(leaf.shape, 0.01, np.float32) for name, leaf in network.abstract.items()}
  export.write_image(folder, config, values)


def test_clip_is_a_folder_of_transformers(tmp_path, monkeypatch):
  name = "clip/vit-b-32"
  tiny = dataclasses.replace(clip.TINY_VISION, image_size=224, patch_size=112)
  write_clip(tmp_path / "clip-vit-b-32", tiny)
  with pytest.raises(ValueError, match=r"is not clip/vit-b-32: it has hidden_size=64 and not 768"):
    registry.load(name, tmp_path)
  monkeypatch.setitem(registry._CLIP, name, tiny)
  for folder in (tmp_path, tmp_path / "clip-vit-b-32"):
    loaded = registry.load(name, folder)
    assert loaded.params.keys() == clip.describe_vision(tiny).abstract.keys()
  assert len(loaded.sha256) == 64


def test_the_header_says_where_weights_are_from(tmp_path):
  source = tmp_path / "folder"
  (source / "variables").mkdir(parents=True)
  (source / "saved_model.pb").write_bytes(b"graph")
  (source / "variables" / "variables.index").write_bytes(b"index")
  before = weights.source_facts(source, i3d.describe(), 1e-3)
  assert before["source"] == "folder"
  assert before["eps"] == "0.001"
  assert before["layers"] == "58"
  (source / "variables" / "variables.index").write_bytes(b"other")
  assert (
    weights.source_facts(source, i3d.describe(), None)["source_sha256"] != (before["source_sha256"])
  )
  written = weights.write(tmp_path, "i3d/tfhub", registry.random("i3d/tfhub", 0).params, before)
  assert safetensors.read_file(written)[1]["network"] == "i3d/tfhub"
