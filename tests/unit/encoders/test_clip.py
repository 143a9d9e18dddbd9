"""CLIP's towers: sizes of what is published, and where a text's embedding is taken."""

import dataclasses

import jax
import numpy as np
import pytest

from vidjax.encoders import clip, frozen

WORD, PAD, END = 7, 0, 9


@pytest.mark.parametrize(
  ("network", "count"),
  [
    (clip.describe_vision(clip.VISION_PRESETS["vit_h_14"]), 632_076_800),
    (clip.describe_vision(clip.VISION_PRESETS["vit_l_14"]), 303_966_208),
    (clip.describe_vision(clip.VISION_PRESETS["vit_b_32"]), 87_849_216),
    (clip.describe_text(clip.TEXT_PRESETS["sd21"]), 340_387_840),
    (clip.describe_text(clip.TEXT_PRESETS["vit_l_14"]), 123_650_304),
    (clip.describe_text(clip.TEXT_PRESETS["vit_b_32"]), 63_428_096),
  ],
  ids=["vision H", "vision L", "vision B", "text of SD 2.1", "text L", "text B"],
)
def test_sizes_of_what_is_published(network, count):
  assert sum(leaf.size for leaf in network.abstract.values()) == count


@pytest.mark.parametrize("projection", [0, 24])
@pytest.mark.parametrize(
  ("eos", "tokens", "place"),
  [
    (END, [WORD, END, WORD, END, PAD], 1),  # the first one
    (END, [WORD, END, END, END, END], 1),  # as in CLIP, which pads with it
    (2, [WORD, 2, WORD, END, PAD], 3),  # what old configs say: the largest
  ],
)
def test_a_text_is_embedded_at_its_end(projection, eos, tokens, place):
  config = dataclasses.replace(clip.TINY_TEXT, projection_dim=projection, eos_token_id=eos)
  net = clip.describe_text(config)

  @jax.jit
  def run(params, tokens):
    model = net.bind(params)
    states = model(tokens)
    return model.embed(tokens), states if model.projection is None else model.projection(states)

  params = jax.jit(net.init)(jax.random.key(0))
  other = [END, *[WORD] * 4] if eos != 2 else [END, *[PAD] * 4]
  embedded, states = run(params, np.array([tokens, other], np.int32))
  assert embedded.shape == (2, projection or config.hidden_size)
  np.testing.assert_allclose(embedded[0], states[0, place], atol=1e-6)
  np.testing.assert_allclose(embedded[1], states[1, 0], atol=1e-6)


def test_texts_and_images_share_an_embedding():
  text, image = frozen.load_clip_text("random:tiny"), frozen.load_image("random:tiny")
  assert text.config.projection_dim == image.config.projection_dim
  with pytest.raises(ValueError, match=r"config.json does not exist"):
    frozen.load_clip_text("nowhere")
