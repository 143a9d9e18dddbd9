"""What a text encoder makes of the texts of clips, for `vidjax cache_latents`.

Legend: K texts, L tokens, X channels.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vidjax import lazy
from vidjax.encoders import frozen, tokenizers

_TEXTS_AT_ONCE = 4  # a clip has about as many


class TextEmbedder:
  """A text encoder on the device.

  Args:
    spec: as `encoders.text` of a config.

  Raises:
    ValueError: there is no text encoder, or no tokenizer.
  """

  def __init__(self, spec: str):
    encoder = frozen.load_text(spec)
    self._tokenizer = tokenizers.load(spec)
    self._params = jax.device_put(lazy.read_all(encoder.params, "reading text encoder"))

    def embed(params: Any, tokens_KL: jax.Array) -> jax.Array:
      return encoder.network.bind(params)(tokens_KL)

    self._embed = jax.jit(embed)
    tokens_1L = jax.ShapeDtypeStruct((1, self._tokenizer.length), np.int32)
    self._shape = jax.eval_shape(embed, encoder.network.abstract, tokens_1L).shape[1:]

  def embed(self, texts: Sequence[str]) -> np.ndarray:
    """Hidden states (K, L, X) float16, little-endian."""
    parts = [np.zeros((0, *self._shape), "<f2")]
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
      # Always as many: one program, and results that do not depend on how many a clip has.
      part = texts[start : start + _TEXTS_AT_ONCE]
      filled = [*part, *[""] * (_TEXTS_AT_ONCE - len(part))]
      tokens_KL = np.stack([np.asarray(self._tokenizer(text), np.int32) for text in filled])
      parts.append(np.asarray(self._embed(self._params, tokens_KL))[: len(part)].astype("<f2"))
    return np.concatenate(parts)
