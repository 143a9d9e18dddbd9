"""Published files of feature networks, written here with random weights: what converters make."""

import contextlib
import functools

import jax
import numpy as np
import pytest
import torch

from tests.parity import feature_files, feature_inception, feature_networks
from tests.parity.compare import MODEL
from vidjax import convert_weights
from vidjax.backbones import convert, proof, registry, savedmodel, torchscript

SEED = 7
# PyTorch finds TorchScript old; StyleGAN-V's files are in it.
script_is_old = pytest.mark.filterwarnings(
  "ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)


@functools.cache
def i3d_model(eps=1e-3):
  return feature_networks.randomize(feature_networks.I3D(eps), SEED)


@functools.cache
def c3d_model():
  return feature_networks.randomize(feature_networks.C3D(), SEED)


def ours(name, params, video, tap):
  row = registry.get(name)
  return np.asarray(jax.jit(lambda p, v: row.features(p, v)[tap])(params, video))


def i3d_there(model, video):
  """Squashed as cd-fvd does."""
  x = feature_networks.frames(video).transpose(1, 2).flatten(0, 1)
  x = torch.nn.functional.interpolate(x, (224, 224), mode="bilinear")
  x = x.unflatten(0, video.shape[:2]).transpose(1, 2)
  with torch.no_grad():
    return model(2 * x / 255 - 1)["logits"]


@pytest.mark.parametrize(
  ("name", "eps"), [("i3d/tats", 1e-5), pytest.param("i3d/piergiaj", 1e-3, marks=pytest.mark.slow)]
)
def test_i3d_by_names(record, tmp_path, name, eps):
  model, file = i3d_model(eps), tmp_path / "i3d.pt"
  torch.save(feature_files.torch_names(model), file)
  written = convert_weights.convert(name, str(file), str(tmp_path / "out"))
  loaded = registry.load(name, tmp_path / "out")
  assert loaded.facts["eps"] == repr(eps)
  assert (loaded.facts["layers"], loaded.facts["source"]) == ("58", "i3d.pt")
  assert written.name == registry.get(name).weights.replace("/", "-") + ".safetensors"
  video = proof.clips(9)
  record.check(
    f"file: {name}", ours(name, loaded.params, video, "logits"), i3d_there(model, video), MODEL
  )


@pytest.mark.slow
@script_is_old
def test_i3d_script(record, tmp_path):
  name, file = "i3d/torchscript", tmp_path / "i3d_torchscript.pt"
  feature_files.script(file, feature_files.I3DFile(i3d_model()))
  with pytest.raises(ValueError, match=r"is a program \(TorchScript\).*pass --trust"):
    convert_weights.convert(name, str(file), str(tmp_path))
  convert_weights.convert(name, str(file), str(tmp_path), trust=True)
  params = registry.load(name, tmp_path).params
  video = proof.clips(17)[:1]
  theirs = i3d_there(i3d_model(), video)
  record.check("file: I3D's TorchScript", ours(name, params, video, "logits"), theirs, MODEL)

  # The same tensors, but a program that computes something else by one per cent.
  feature_files.script(file, feature_files.I3DFile(i3d_model(), gain=1.01))
  with pytest.raises(ValueError, match=r"differs from what .* by 9\.9e-03 of the largest number, "):
    convert_weights.convert(name, str(file), str(tmp_path), trust=True)


@pytest.mark.slow
@script_is_old
def test_c3d_script(record, tmp_path):
  name, file = "c3d/torchscript", tmp_path / "c3d_ucf101.pt"
  feature_files.script(file, feature_files.C3DFile(c3d_model()))
  convert_weights.convert(name, str(file), str(tmp_path), trust=True)
  params = registry.load(name, tmp_path).params
  video = proof.clips(16, (130, 90))
  theirs = torchscript.c3d_probabilities(
    torchscript.Script("", torch.jit.load(str(file)), [], []), video
  )
  record.check("file: C3D's TorchScript", ours(name, params, video, "probabilities"), theirs, MODEL)
  with pytest.raises(ValueError, match=r"is not I3D: of its 23 tensors, .* no single tensor of"):
    convert_weights.convert("i3d/torchscript", str(file), str(tmp_path), trust=True)


@pytest.mark.slow
def test_c3d_arrays(record, tmp_path):
  model, name = c3d_model(), "c3d/tgan2"
  file = tmp_path / "conv3d_deepnetA_ucf.npz"
  np.savez(file, **feature_files.chainer_arrays(model))
  with pytest.raises(ValueError, match=r"mean2.npz does not exist: the mean clip that C3D takes"):
    convert_weights.convert(name, str(file), str(tmp_path))
  feature_files.mean_file(tmp_path, model.mean.numpy())
  convert_weights.convert(name, str(file), str(tmp_path))
  params = registry.load(name, tmp_path).params
  video = proof.clips(16, (112, 112))
  with torch.no_grad():
    theirs = model(128 * (feature_networks.frames(video[..., ::-1]) / 127.5 - 1))
  for tap in registry.get(name).taps:
    record.check(f"file: C3D's arrays, {tap}", ours(name, params, video, tap), theirs[tap], MODEL)


@pytest.mark.slow
def test_i3d_graph(record, tmp_path, monkeypatch):
  """Names, layout and missing gamma of TF-Hub's graph; TensorFlow itself is stood in for."""
  model = feature_networks.I3D()
  feature_networks.randomize(model, SEED)
  with torch.no_grad():
    for name, tensor in model.named_parameters():
      if name.endswith("bn.weight"):
        tensor.fill_(1)
  tensors = feature_files.graph_tensors(model)

  def features(video):
    with torch.no_grad():
      return model(feature_networks.frames(2 * video / 255 - 1))["logits"].numpy()

  @contextlib.contextmanager
  def opened(path, trust):
    assert trust
    shapes = {name: value.shape for name, value in tensors.items()} | {"global_step": ()}
    yield savedmodel.Model(shapes, tensors.__getitem__, features)

  monkeypatch.setattr(savedmodel, "opened", opened)
  (tmp_path / "saved_model.pb").write_bytes(b"")
  params = convert.i3d_graph(tmp_path, True).params
  assert len(tensors) == 57 * 4 + 2 == 230
  video = proof.clips(9, (224, 224))
  found = ours("i3d/tfhub", params, video, "logits")
  record.check("file: I3D's graph", found, features(video), MODEL)

  quirk = "RGB/inception_i3d/Mixed_5b/Branch_2/Conv3d_0a_3x3/conv_3d/w"
  assert tensors[quirk].shape == (3, 3, 3, 32, 128)
  tensors[quirk.replace("0a", "0b")] = tensors.pop(quirk)
  with pytest.raises(ValueError, match=rf"is not TF-Hub's i3d-.* it has no {quirk}"):
    convert.i3d_graph(tmp_path, True)


def test_graphs_need_trust_and_tensorflow(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match=r"is a program .* pass --trust"):
    convert.i3d_graph(tmp_path, False)
  with pytest.raises(ValueError, match=r"has no saved_model.pb"):
    convert.i3d_graph(tmp_path, True)
  (tmp_path / "saved_model.pb").write_bytes(b"")
  monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
  with pytest.raises(ValueError, match="is read by TensorFlow, which is not installed"):
    convert.i3d_graph(tmp_path, True)


def test_inception(record, tmp_path, capsys):
  model = feature_networks.randomize(feature_inception.InceptionV3(), SEED)
  file = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
  torch.save(feature_files.torch_names(model), file)
  convert_weights.convert("inception/pytorch-fid", str(file), str(tmp_path))
  assert "is not the published file, whose SHA-256 begins with 6726825d" in capsys.readouterr().out
  loaded = registry.load("inception/torch-fidelity", tmp_path)
  assert loaded.facts["as_published"] == "no"
  video = proof.clips(1, (299, 299))
  with torch.no_grad():
    theirs = model(feature_networks.frames(video)[:, :, 0] / 127.5 - 1)["2048"]
  found = ours("inception/pytorch-fid", loaded.params, video, "2048")
  record.check("file: Inception-v3", found, theirs, MODEL)

  with pytest.raises(ValueError, match=r"not I3D in PyTorch's layout: of its 472 tensors, 287 exp"):
    convert_weights.convert("i3d/tats", str(file), str(tmp_path))


def test_files_of_other_networks_are_told(tmp_path):
  state = feature_files.torch_names(i3d_model())
  file = tmp_path / "a.pt"
  name = "Mixed_3b.b1a.conv3d.weight"
  torch.save({**state, name: torch.zeros(96, 192, 1, 1, 2)}, file)
  with pytest.raises(ValueError, match=rf"it has {name} of shape \(96, 192, 1, 1, 2\) and not"):
    convert_weights.convert("i3d/tats", str(file), str(tmp_path))
  torch.save({**state, "head.weight": torch.zeros(3)}, file)
  with pytest.raises(ValueError, match=r"has head.weight of shape \(3,\), which is not expected"):
    convert_weights.convert("i3d/tats", str(file), str(tmp_path))
  torch.save({**state, "Mixed_3b.b0.bn.running_var": -torch.ones(64)}, file)
  with pytest.raises(ValueError, match="running_var has negative variances: the file is damaged"):
    convert_weights.convert("i3d/tats", str(file), str(tmp_path))
  torch.save({**state, "logits.conv3d.bias": torch.full((400,), torch.nan)}, file)
  with pytest.raises(ValueError, match=r"logits.bias has numbers that are not finite"):
    convert_weights.convert("i3d/tats", str(file), str(tmp_path))
  with pytest.raises(ValueError, match=r"i3d_torchscript.pt, linked in StyleGAN-V's"):
    convert_weights.convert("i3d/torchscript", "nowhere.pt", str(tmp_path))
  with pytest.raises(ValueError, match=r"a.pt is not a TorchScript file: "):
    convert_weights.convert("i3d/torchscript", str(file), str(tmp_path), trust=True)
  with pytest.raises(ValueError, match="clip/vit-b-32 is not converted: it is OpenAI's"):
    convert_weights.convert("clip/vit-b-32", str(file), str(tmp_path))


@pytest.mark.parametrize("last", ["last", "first"])
@pytest.mark.parametrize("gamma", [True, False])
def test_tensors_are_matched_by_order_and_shape(last, gamma):
  """Wherever the last layer is, and whether there is a gamma; names are not looked at."""
  wanted = registry.convert.layouts.wanted(
    registry.convert.layouts.I3D_TORCH, registry.get("i3d/torchscript").describe()
  )
  rng = np.random.default_rng(0)
  values = {name: rng.random(shape, np.float32) for name, shape in wanted.items()}
  if not gamma:
    values |= {n: np.ones_like(v) for n, v in values.items() if n.endswith("bn.weight")}
  parameters = [
    (name, value)
    for name, value in values.items()
    if "running" not in name and (gamma or not name.endswith("bn.weight"))
  ]
  of_last = [pair for pair in parameters if pair[0].startswith("logits")]
  others = [pair for pair in parameters if not pair[0].startswith("logits")]
  parameters = of_last + others if last == "first" else others + of_last
  buffers = [(name, value) for name, value in values.items() if "running" in name]
  made = [
    [(f"p{i}", value) for i, (_, value) in enumerate(pairs)] for pairs in (parameters, buffers)
  ]
  found = torchscript.match_i3d(torchscript.Script("a.pt", None, *made), wanted)
  assert found.keys() == wanted.keys()
  assert all((found[name] == values[name]).all() for name in wanted)

  made[0].insert(5 if last == "last" else 7, ("odd", np.zeros((5, 5, 1, 1, 1), np.float32)))
  with pytest.raises(ValueError, match=r"a.pt is not I3D: .* odd is of shape .* is expected"):
    torchscript.match_i3d(torchscript.Script("a.pt", None, *made), wanted)
