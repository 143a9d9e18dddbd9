"""T5's encoder against transformers, the original and version 1.1."""

import dataclasses

import jax
import numpy as np
import pytest
import torch
import transformers
from transformers.models.t5 import modeling_t5

from tests.parity.blocks import Blocks
from tests.parity.compare import BFLOAT16, MODEL, draw
from vidjax.encoders import frozen, t5
from vidjax.interop import configs, export, names
from vidjax.interop import diffusers as layout

B, L, C, HEADS = 2, 40, 32, 3
SHAPE = {
  "vocab_size": 99,
  "d_model": C,
  "d_kv": 8,  # three heads of 8 are fewer than 32 channels
  "d_ff": 48,
  "num_layers": 2,
  "num_heads": HEADS,
  "relative_attention_num_buckets": 16,
  "relative_attention_max_distance": 30,
}


def tokens(record):
  """Two texts: one padded behind, one in front."""
  ids = np.random.default_rng([record.seed, 1]).integers(1, 99, (B, L)).astype(np.int32)
  ids[0, 31:] = 0
  ids[1, :5] = 0
  return ids


def run_theirs(model, ids):
  mask = torch.tensor(ids != 0).long()
  with torch.no_grad():
    return model(torch.tensor(ids).long(), attention_mask=mask).last_hidden_state


def run_ours(config, params, ids):
  net = t5.describe(config)
  return jax.jit(lambda p, t: net.bind(p)(t))(params, ids)


def test_layers(record):
  """With the bias handed in, as to all layers but the first."""
  bias_NLM = draw([record.seed, 2], HEADS, L, L)
  mask_BM = tokens(record) != 0
  for kind in t5.FEED_FORWARDS:
    config = t5.T5Config(**SHAPE, feed_forward_proj=kind)
    table = layout.text_table(config)
    table = names.Table((*table.rules, (r"^encoder\.block\.0\.", "layers.0.")))
    result = Blocks(record, table, prefix="layers.0.")
    result.add(
      f"T5 layer, {kind}",
      modeling_t5.T5Block(transformers.T5Config(**SHAPE, feed_forward_proj=kind)),
      lambda rngs, config=config: t5.Layer(config, rngs),
      (draw([record.seed, 0], B, L, C), bias_NLM, mask_BM),
      run_their_layer,
    )
    result.check()


def run_their_layer(block, x_BLC, bias_NLM, mask_BM):
  mask = torch.tensor(np.where(mask_BM, 0, np.finfo(np.float32).min).astype(np.float32))
  bias = torch.tensor(bias_NLM)[None] + mask[:, None, None]  # they add the mask to the bias, too
  return block(torch.tensor(x_BLC), position_bias=bias)[0]


@pytest.mark.parametrize("suffix", ["", " (faint)"], ids=["", "faint"])
@pytest.mark.parametrize("kind", t5.FEED_FORWARDS)
def test_encoder(record, save, kind, suffix):
  model = transformers.T5EncoderModel(transformers.T5Config(**SHAPE, feed_forward_proj=kind))
  config, params = layout.load_text(save(model, [record.seed, 0], bool(suffix)))
  assert config == t5.T5Config(**SHAPE, feed_forward_proj=kind)
  ids = tokens(record)
  ours = run_ours(config, params, ids)
  record.check(f"model: T5, {kind}{suffix}", ours, run_theirs(model, ids), MODEL)


def test_encoder_of_a_whole_t5(record, save):
  shape = transformers.T5Config(**SHAPE, feed_forward_proj=t5.GATED, tie_word_embeddings=False)
  model = transformers.T5ForConditionalGeneration(shape)
  config, params = layout.load_text(save(model, [record.seed, 0]))
  ids = tokens(record)
  theirs = run_theirs(model.encoder, ids)
  record.check("model: T5, of a whole T5", run_ours(config, params, ids), theirs, MODEL)


@pytest.mark.parametrize("kind", t5.FEED_FORWARDS)
def test_what_is_written_is_read_by_transformers(save, tmp_path, record, kind):
  model = transformers.T5EncoderModel(transformers.T5Config(**SHAPE, feed_forward_proj=kind))
  loaded = frozen.load_text(str(save(model, [record.seed, 0])))
  export.write_text(tmp_path / "out", loaded.config, loaded.params)
  back, problems = transformers.T5EncoderModel.from_pretrained(
    tmp_path / "out", output_loading_info=True
  )
  assert not any(problems.values()), problems
  weights = back.state_dict()
  assert weights.keys() == model.state_dict().keys()
  for name, value in model.state_dict().items():
    assert torch.equal(value, weights[name]), name
  ids = tokens(record)
  torch.testing.assert_close(run_theirs(back, ids), run_theirs(model, ids), rtol=0, atol=0)


def test_bfloat16_deviates_by_a_bounded_share(record, save):
  model = transformers.T5EncoderModel(transformers.T5Config(**SHAPE, feed_forward_proj=t5.GATED))
  config, params = layout.load_text(save(model, [record.seed, 0]))
  ids = tokens(record)
  ours = run_ours(dataclasses.replace(config, dtype="bfloat16"), params, ids)
  assert ours.dtype == np.float32
  theirs = run_theirs(model, ids)
  record.check("model: T5, bfloat16 against float32", ours, theirs, BFLOAT16)


@pytest.mark.parametrize(
  ("buckets", "farthest"), [(32, 128), (32, 64), (16, 300), (8, 20), (64, 1000), (4, 2)]
)
def test_buckets_of_distances(buckets, farthest):
  length = 600
  distances = torch.arange(length)[None] - torch.arange(length)[:, None]
  theirs = modeling_t5.T5Attention._relative_position_bucket(distances, True, buckets, farthest)
  np.testing.assert_array_equal(t5.distance_buckets(length, buckets, farthest), theirs.numpy())


@pytest.mark.parametrize("preset", t5.PRESETS)
def test_presets_have_the_tensors_of_transformers(preset):
  config = t5.PRESETS[preset]
  with torch.device("meta"):
    model = transformers.T5EncoderModel(transformers.T5Config(**configs.text_to_json(config)))
  theirs = {name: tuple(p.shape) for name, p in model.named_parameters()}
  abstract = t5.describe(config).abstract
  pairs = layout.text_table(config).pairs(abstract)
  ours = {pairs[n]: names.torch_shape(n, leaf.shape) for n, leaf in abstract.items()}
  assert ours == theirs
