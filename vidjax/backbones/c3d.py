"""C3D as fine-tuned on UCF-101, for the inception score of video.

Source: Tran et al. (arXiv 1412.0767) and TGAN2's `C3DVersion1UCF101` (arXiv 1811.09245).

B clips, T = 16 frames, H = W = 112 pixels, C channels.
"""

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.backbones.layers import Linear, Unit, max_pool
from vidjax.nn import params
from vidjax.nn.init import Keys

SIZE = 112
FRAMES = 16
CLASSES = 101
# Layers and their outputs; a pool of 2 x 2 x 2 (the first 1 x 2 x 2) follows each group.
CONVOLUTIONS = (
  (("conv1a", 64),),
  (("conv2a", 128),),
  (("conv3a", 256), ("conv3b", 256)),
  (("conv4a", 512), ("conv4b", 512)),
  (("conv5a", 512), ("conv5b", 512)),
)


class C3D(nnx.Module):
  """Clips (B, 16, 112, 112, 3), BGR in [-128, 128] -> features by name of tap."""

  def __init__(self, rngs: Keys):
    channels = 3
    for group in CONVOLUTIONS:
      for name, width in group:
        setattr(self, name, Unit(channels, width, (3, 3, 3), scaled=False, rngs=rngs))
        channels = width
    self.fc6 = Linear(channels * 4 * 4, 4096, rngs=rngs)
    self.fc7 = Linear(4096, 4096, rngs=rngs)
    self.fc8 = Linear(4096, CLASSES, rngs=rngs)
    # The mean clip of the training set, BGR in [0, 255], cut to the frames' size.
    self.mean = nnx.Param(jnp.full((FRAMES, SIZE, SIZE, 3), 128.0), role="vector")

  def __call__(self, x_BTHWC: jax.Array) -> dict[str, jax.Array]:
    """`fc6` and `fc7` (B, 4096) after their ReLU, `logits` and `probabilities` (B, 101).

    Raises:
      ValueError: clips of another length or size.
    """
    if x_BTHWC.shape[1:4] != (FRAMES, SIZE, SIZE):
      raise ValueError(
        f"clips of (frames, height, width) = {x_BTHWC.shape[1:4]}: C3D takes {(FRAMES, SIZE, SIZE)}"
      )
    x_BTHWC += 128 - self.mean[...][None]
    for number, group in enumerate(CONVOLUTIONS):
      for name, _ in group:
        x_BTHWC = getattr(self, name)(x_BTHWC)
      # "SAME" is what Chainer calls `cover_all`: 7 x 7 becomes 4 x 4.
      size = (2 if number else 1, 2, 2)
      x_BTHWC = max_pool(x_BTHWC, size, size)
    # The weights of fc6 are in the order C, T, H, W.
    h = jnp.moveaxis(x_BTHWC, -1, 1).reshape(x_BTHWC.shape[0], -1)
    found = {"fc6": jax.nn.relu(self.fc6(h))}
    found["fc7"] = jax.nn.relu(self.fc7(found["fc6"]))
    found["logits"] = self.fc8(found["fc7"])
    found["probabilities"] = jax.nn.softmax(found["logits"], -1)
    return found


def describe() -> params.Network[C3D]:
  """The network without values."""
  return params.network(C3D)
