"""VideoMAE against transformers with the same random weights, through the names of its own file."""

import jax
import numpy as np
import pytest
import torch
import transformers

from tests.parity.compare import MODEL
from vidjax.backbones import convert, preprocess, registry, videomae

TINY = videomae.Config(
  width=32, layers=2, heads=4, hidden=80, patch=14, tubelet=2, frames=4, size=28, classes=3
)
# Names of the published file -> those of transformers.
_LAYER = {
  "norm1": "layernorm_before",
  "norm2": "layernorm_after",
  "attn.proj": "attention.output.dense",
  "mlp.fc1": "intermediate.dense",
  "mlp.fc2": "output.dense",
}


def reference(seed):
  torch.manual_seed(seed % 2**31)
  config = transformers.VideoMAEConfig(
    image_size=TINY.size,
    patch_size=TINY.patch,
    num_frames=TINY.frames,
    tubelet_size=TINY.tubelet,
    hidden_size=TINY.width,
    num_hidden_layers=TINY.layers,
    num_attention_heads=TINY.heads,
    intermediate_size=TINY.hidden,
    layer_norm_eps=1e-6,
    num_labels=TINY.classes,
    use_mean_pooling=True,
    attn_implementation="eager",
  )
  model = transformers.VideoMAEForVideoClassification(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(0.1 * torch.randn_like(parameter))
  return model


def as_published(model):
  """The weights under the names of VideoMAE V2's file."""
  theirs = model.state_dict()
  found = {}
  for kind in ("weight", "bias"):
    projection = "videomae.embeddings.patch_embeddings.projection"
    found[f"patch_embed.proj.{kind}"] = theirs[f"{projection}.{kind}"]
    found[f"fc_norm.{kind}"] = theirs[f"fc_norm.{kind}"]
    found[f"head.{kind}"] = theirs[f"classifier.{kind}"]
  for i in range(TINY.layers):
    ours, place = f"blocks.{i}", f"videomae.encoder.layer.{i}"
    for name, other in _LAYER.items():
      for kind in ("weight", "bias"):
        found[f"{ours}.{name}.{kind}"] = theirs[f"{place}.{other}.{kind}"]
    attention = f"{place}.attention.attention"
    found[f"{ours}.attn.qkv.weight"] = torch.cat(
      [theirs[f"{attention}.{name}.weight"] for name in ("query", "key", "value")]
    )
    for letter, name in (("q", "query"), ("v", "value")):
      found[f"{ours}.attn.{letter}_bias"] = theirs[f"{attention}.{name}.bias"]
  return {name: value.clone() for name, value in found.items()}


@pytest.mark.parametrize("nested", ["model", "module", None])
def test_features(record, tmp_path, nested):
  model = reference(record.seed)
  tensors = as_published(model)
  torch.save({nested: tensors} if nested else tensors, tmp_path / "vit_g.pth")
  made = convert.videomae_pickle(TINY)(tmp_path / "vit_g.pth", False)
  rng = np.random.default_rng(record.seed)
  video = rng.uniform(0, 1, (2, TINY.frames, TINY.size, TINY.size, 3)).astype(np.float32)
  with torch.no_grad():
    pixels = torch.from_numpy(video).permute(0, 1, 4, 2, 3)
    hidden = model.videomae(pixels).last_hidden_state
    theirs = model.fc_norm(hidden.mean(1)).numpy()
  network = videomae.describe(TINY)
  ours = jax.jit(lambda p, x: network.bind(p)(x))(made.params, video)
  record.check("VideoMAE", np.asarray(ours), theirs, MODEL)


def test_the_giant_has_the_size_of_the_published_one():
  """1,011 million parameters without the head (2303.16727, table 1, has 1,011 M for ViT-g)."""
  network = videomae.describe()
  count = sum(int(np.prod(leaf.shape)) for leaf in network.abstract.values())
  assert round(count / 1e6) in (1011, 1012)
  row = registry.get("videomae/v2-giant-ssv2")
  assert row.frames == (16, 16)
  assert row.taps == {"pooled": 1408}


def test_input_chain(record):
  rng = np.random.default_rng(record.seed)
  video = rng.uniform(0, 255, (1, 2, 61, 48, 3)).astype(np.float32)
  frames = torch.from_numpy(video[0]).permute(0, 3, 1, 2) / 255
  expected = torch.nn.functional.interpolate(frames, (224, 224), mode="bilinear")
  ours = np.asarray(jax.jit(preprocess.videomae_frames)(video))
  np.testing.assert_allclose(ours[0], expected.permute(0, 2, 3, 1).numpy(), atol=1e-5)


def test_what_it_cannot_take(tmp_path):
  network = videomae.describe(TINY)
  with pytest.raises(ValueError, match=r"= \(5, 28, 28\): VideoMAE takes \(4, 28, 28\)"):
    jax.eval_shape(lambda p, x: network.bind(p)(x), network.abstract, np.zeros((1, 5, 28, 28, 3)))
  tensors = as_published(reference(0))
  tensors["blocks.1.attn.q_bias"] = torch.zeros(7)
  torch.save(tensors, tmp_path / "other.pth")
  with pytest.raises(ValueError, match=r"blocks\.1\.attn\.q_bias of shape \(7,\) and not \(32,\)"):
    convert.videomae_pickle(TINY)(tmp_path / "other.pth", False)
