"""What `--model` and `init_from` take, and what `vidjax export` makes of it and reads back."""

import dataclasses
import json
import pickle

import jax
from miniature_job import run_vidjax
import numpy as np
import pytest

from vidjax import checkpoint, export, lazy, pipeline, pretrained, state
from vidjax import config as configs
from vidjax.checkpoint import Checkpointer, checkpointer, warm_start
from vidjax.encoders import clip, frozen, tokenizers, vae
from vidjax.errors import CheckpointError
from vidjax.interop import diffusers, layouts, parts, pickles, safetensors, stability
from vidjax.interop import export as files
from vidjax.models.unet import PRESETS, UNet, UNetConfig
from vidjax.nn.params import network
from vidjax.optim import optimizer as optimizers
from vidjax.optim import packing
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan

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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A workdir with one checkpoint, and the weights in it: averaged and as trained."""
  root = tmp_path_factory.mktemp("workdir")
  raw, ema = draw(tiny_unet().abstract, 0), draw(tiny_unet().abstract, 1)
  names = frozenset(raw)
  optimizer = optimizers.make_optimizer(TINY.optimizer)
  made = state.create(jax.device_put(raw), optimizer, names)
  made = dataclasses.replace(made, ema=packing.pack(jax.device_put(ema)))
  with Checkpointer(root / "checkpoints", keep=1) as writer:
    writer.save(2, state.as_dict(made), {"samples": 8, "data": DATA, "config": {}})
  (root / "config.json").write_text(json.dumps(configs.to_dict(TINY)))
  return root, raw, ema


@pytest.fixture(scope="module")
def as_file(trained, tmp_path_factory):
  """The workdir's export in Stability's layout."""
  out = tmp_path_factory.mktemp("stability")
  export.export(str(trained[0]), "ema", str(out), format="stability", license="apache-2.0")
  export.verify(str(trained[0]), "ema", str(out), format="stability")
  return out


# --- Checkpoints ---------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch):
  """Names and shardings of the leaves that Orbax was asked for, call by call."""
  calls = []
  read = checkpointer.orbax_io.read

  def spy(step, wanted):
    calls.append({name: leaf.sharding for name, leaf in wanted.items()})
    return read(step, wanted)

  monkeypatch.setattr(checkpointer.orbax_io, "read", spy)
  return calls


def test_a_checkpoint_is_read_leaf_by_leaf(trained, reads):
  root, raw, ema = trained
  loaded = pretrained.load(str(root))
  assert {name for call in reads for name in call} == {"ema/packed.matrices", "ema/packed.vectors"}
  assert isinstance(loaded.params[LARGE], lazy.LazyArray)
  assert loaded.data == DATA
  reads.clear()
  np.testing.assert_array_equal(loaded.params[LARGE][:, :, 3:5, 8:16], ema[LARGE][:, :, 3:5, 8:16])
  assert [list(call) for call in reads] == [[f"ema/{LARGE}"]]
  same(ema, loaded.params)
  same(raw, pretrained.load(str(root / "checkpoints" / "2"), "raw").params)


def test_a_checkpoint_goes_straight_into_the_shardings_of_the_next_stage(trained, reads):
  root, _, ema = trained
  net, mesh = tiny_unet(), meshes.make_mesh(meshes.MeshConfig(fsdp=8))
  shardings = plan.param_shardings(net.roles, net.abstract, mesh)
  wanted = {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=shardings[name])
    for name, leaf in net.abstract.items()
  }
  loaded = pretrained.load(str(root), wanted=wanted)
  assert len(reads) == 1
  for name in packing.pack({n: np.zeros(a.shape) for n, a in net.abstract.items()}):
    assert (reads[0][f"ema/{name}"] is None) == name.startswith("packed."), name
  value = loaded.params[LARGE]
  assert value.sharding == shardings[LARGE]
  assert {shard.data.size for shard in value.addressable_shards} == {value.size // 8}
  params, report = warm_start(wanted, loaded.params, lambda names: pytest.fail(f"drew {names}"))
  assert params[LARGE] is value or params[LARGE].sharding == value.sharding
  assert len(report.copied) == len(ema)
  same(ema, jax.device_get(params))


def test_widened_weights_of_a_checkpoint_stay_on_the_host(trained):
  """Their shape differs, so the sharding of the next stage is not theirs."""
  root, _, ema = trained
  wider = dataclasses.replace(PRESETS["tiny"], in_channels=256)
  net, mesh = network(lambda rngs: UNet(wider, rngs)), meshes.make_mesh(meshes.MeshConfig())
  shardings = plan.param_shardings(net.roles, net.abstract, mesh)
  wanted = {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=shardings[name])
    for name, leaf in net.abstract.items()
  }
  params, report = warm_start(wanted, pretrained.load(str(root), wanted=wanted).params, dict)
  assert report.widened == ("conv_in.kernel",)
  kernel = np.asarray(params["conv_in.kernel"])
  np.testing.assert_array_equal(kernel[:, :, :16], ema["conv_in.kernel"])
  assert not kernel[:, :, 16:].any()


def test_damage_is_found_when_it_is_read(trained, monkeypatch):
  root, _, _ = trained
  loaded = pretrained.load(str(root))
  read = checkpointer.orbax_io.read
  monkeypatch.setattr(
    checkpointer.orbax_io,
    "read",
    lambda step, wanted: {name: value + 1 for name, value in read(step, wanted).items()},
  )
  with pytest.raises(CheckpointError, match="checksum differs"):
    loaded.params[LARGE][()]
  with pytest.raises(ValueError, match="choose 'ema' or 'raw'"):
    checkpoint.open_params(root, "both")


# --- Exports -------------------------------------------------------------------------------------


def test_an_exported_file_holds_the_whole_model(trained, as_file):
  _, _, ema = trained
  for model in (as_file, as_file / "model.safetensors"):
    loaded = pretrained.load(str(model))
    same(ema, loaded.params)
    assert loaded.data == DATA
    assert loaded.config.data == TINY.data
    assert loaded.config.conditioning == TINY.conditioning
  opened = frozen.load(loaded.config.encoders, "image_to_video").encoders
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


# --- Files of others -----------------------------------------------------------------------------

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


@pytest.fixture(scope="module")
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


def test_stable_diffusion_starts_a_stage_and_does_not_sample(stable_diffusion):
  root, params = stable_diffusion
  assert len(list((root / "unet").glob("*.safetensors"))) > 3
  loaded = pretrained.load(str(root))
  same(params, loaded.params)
  assert loaded.config.conditioning.mode == "text_to_image"
  assert (loaded.config.data.num_frames, loaded.config.data.height) == (1, 64)
  assert loaded.config.encoders.text == str(root / "text_encoder")
  assert loaded.config.encoders.image == ""
  with pytest.raises(ValueError, match=r"discrete noise levels.*init_from"):
    pipeline.Pipeline.from_pretrained(str(root))


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


# --- Pickles -------------------------------------------------------------------------------------


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
  done = run_vidjax("export", f"--model={ckpt}", f"--out={tmp_path}/out", *flags)
  assert "bit by bit" in done.stdout
  assert "no tokenizer/ beside" in done.stdout
  loaded = pretrained.load(str(tmp_path / "out"))
  same(params, loaded.params)
  assert json.loads((tmp_path / "out" / "vidjax.json").read_text())["origin"] == str(ckpt)
  assert not loaded.samples_here  # what it came from decides, not that it was converted here


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
