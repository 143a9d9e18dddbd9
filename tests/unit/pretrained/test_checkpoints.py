"""Training workdirs as `--model` and `init_from` take them."""

import dataclasses

import jax
import numpy as np
from pretrained_models import DATA, LARGE, same, tiny_unet
import pytest

from vidjax import checkpoint, lazy, pretrained
from vidjax.checkpoint import checkpointer, warm_start
from vidjax.errors import CheckpointError
from vidjax.models.unet import PRESETS, UNet
from vidjax.nn.params import network
from vidjax.optim import packing
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan


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
  joined = {"ema/0.9999/packed.matrices", "ema/0.9999/packed.vectors"}
  assert {name for call in reads for name in call} == joined
  assert isinstance(loaded.params[LARGE], lazy.LazyArray)
  assert loaded.data == DATA
  reads.clear()
  np.testing.assert_array_equal(loaded.params[LARGE][:, :, 3:5, 8:16], ema[LARGE][:, :, 3:5, 8:16])
  assert [list(call) for call in reads] == [[f"ema/0.9999/{LARGE}"]]
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
    assert (reads[0][f"ema/0.9999/{name}"] is None) == name.startswith("packed."), name
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
  with pytest.raises(ValueError, match="choose 'ema', 'ema:DECAY'"):
    checkpoint.open_params(root, "both")
