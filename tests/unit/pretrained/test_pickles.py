"""Pickles: refused, or converted where the user asks for it."""

import json
import pickle

from miniature_job import run_vidjax
from pretrained_models import SD_UNET, same
import pytest

from vidjax import pretrained
from vidjax.encoders import frozen
from vidjax.interop import diffusers, layouts, pickles, safetensors, stability


@pytest.mark.parametrize("suffix", layouts.PICKLES)
def test_pickles_are_not_read(tmp_path, suffix):
  path = tmp_path / f"model{suffix}"
  path.write_bytes(b"")
  with pytest.raises(ValueError, match=r"is a pickle, which may run.*--allow_pickle"):
    pretrained.load(str(path))
  with pytest.raises(ValueError, match="is a pickle"):
    frozen.load_vae(str(path))


def test_the_verb_converts_a_pickle_and_verifies(tmp_path, stable_diffusion):
  torch = pytest.importorskip("torch", reason="needs the extra `torch`")
  root, params = stable_diffusion
  networks = {**diffusers.open_pipeline(root), "unet": (SD_UNET, params)}
  found, _ = safetensors.read_file(stability.write(tmp_path, networks, {}))
  ckpt = tmp_path / "model.ckpt"
  torch.save({name: torch.tensor(tensor.read()) for name, tensor in found.items()}, ckpt)
  flags = ("--allow_pickle", "--format=stability", "--verify")
  with_torch = {"PYTHONPATH": ""}
  done = run_vidjax("export", f"--model={ckpt}", f"--out={tmp_path}/out", *flags, env=with_torch)
  assert "bit by bit" in done.stdout
  assert "no tokenizer/ beside" in done.stdout
  loaded = pretrained.load(str(tmp_path / "out"))
  same(params, loaded.params)
  assert json.loads((tmp_path / "out" / "vidjax.json").read_text())["origin"] == str(ckpt)
  assert not loaded.knows_noise  # what it came from decides, not that it was converted here


class Malicious:
  def __reduce__(self):
    return print, ("this ran",)


def test_pickles_of_tensors_are_converted_if_asked(tmp_path, stable_diffusion, capsys):
  torch = pytest.importorskip("torch", reason="needs the extra `torch`")
  _, params = stable_diffusion
  path = stability.write(tmp_path, {"unet": (SD_UNET, params)}, {})
  found, _ = safetensors.read_file(path)
  ckpt = tmp_path / "model.ckpt"
  content = {name: torch.tensor(tensor.read()) for name, tensor in found.items()}
  torch.save({"state_dict": {**content, "steps": 3, "ids": torch.arange(3)}}, ckpt)
  with pickles.as_safetensors(ckpt) as converted:
    same(params, pretrained.load(converted).params)
  ckpt.write_bytes(pickle.dumps({"state_dict": Malicious()}))
  with pytest.raises(ValueError, match="is not a file of plain tensors"):
    with pickles.as_safetensors(ckpt):
      pass
  assert "this ran" not in capsys.readouterr().out
