"""Any text encoder: which network a config means, and what it gives."""

from typing import Any, TypeAlias

from vidjax.encoders import clip, t5
from vidjax.nn.params import Network

TextConfig: TypeAlias = clip.TextConfig | t5.T5Config


def describe(config: TextConfig) -> Network[Any]:
  """The encoder of `config` without values: token ids (B, L) -> hidden states (B, L, C)."""
  return t5.describe(config) if isinstance(config, t5.T5Config) else clip.describe_text(config)
