"""The residual block of UNet and autoencoder, over space or over time.

B batch, T frames, H W height and width, C D channels, E channels of the time embedding.
"""

from collections.abc import Callable

from flax import nnx
import jax

from vidjax.nn.conv import Conv, TemporalConv
from vidjax.nn.dense import Dense
from vidjax.nn.init import Keys
from vidjax.nn.norm import GROUPS, GroupNorm

Then = tuple[Callable[[jax.Array], jax.Array], Callable[[jax.Array], jax.Array]]


def _nothing(x: jax.Array) -> jax.Array:
  return x


class ResBlock(nnx.Module):
  """Norm, SiLU, convolution, twice, around a residual: `x_BTHWC -> y_BTHWD`.

  Args:
    in_channels: C.
    out_channels: D.
    embed_channels: E, or None for a block without time embedding (autoencoder).
    eps: of the group norms.
    temporal: convolve over time instead of space, with norms over (T, H, W), as the identity at
      first.
    groups: of the group norms.
    split: the channels in between may be divided among devices, in whole groups.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    embed_channels: int | None,
    *,
    eps: float,
    temporal: bool = False,
    groups: int = GROUPS,
    split: bool = False,
    rngs: Keys,
  ):
    column, row = ("column", "row") if split else ("", "")
    conv = TemporalConv if temporal else Conv
    self.norm1 = GroupNorm(in_channels, eps=eps, over_time=temporal, groups=groups)
    self.conv1 = conv(in_channels, out_channels, split=column, rngs=rngs)
    self.time_emb_proj = (
      Dense(embed_channels, out_channels, split=column, rngs=rngs) if embed_channels else None
    )
    self.norm2 = GroupNorm(out_channels, eps=eps, over_time=temporal, groups=groups)
    self.conv2 = conv(out_channels, out_channels, zero_init=temporal, split=row, rngs=rngs)
    resize = in_channels != out_channels
    self.conv_shortcut = Conv(in_channels, out_channels, 1, rngs=rngs) if resize else None

  def __call__(
    self,
    x_BTHWC: jax.Array,
    emb_BE: jax.Array | None = None,
    *,
    then: Then = (_nothing, _nothing),
  ) -> jax.Array:
    """Runs the block.

    Args:
      x_BTHWC: the input.
      emb_BE: embeds the noise level; needed if the block was made with `embed_channels`.
      then: what follows each of the two convolutions, e.g. one along time.
    """
    h = then[0](self.conv1(jax.nn.silu(self.norm1(x_BTHWC))))
    if self.time_emb_proj is not None:
      assert emb_BE is not None, "this block takes a time embedding"
      h += self.time_emb_proj(jax.nn.silu(emb_BE))[:, None, None, None]
    h = then[1](self.conv2(jax.nn.silu(self.norm2(h))))
    return h + (x_BTHWC if self.conv_shortcut is None else self.conv_shortcut(x_BTHWC))
