"""The ways to generate, one row each: what data, encoders, UNet and requests must agree on.

Shapes: H W pixels, h w latent pixels, Z latent channels.
"""

from collections.abc import Callable
import dataclasses

from vidjax.conditioning import svd
from vidjax.conditioning.condition import Condition


@dataclasses.dataclass(frozen=True)
class Mode:
  """One way to generate.

  Attributes:
    condition: makes the `Condition` of (encoders, inputs, number of frames), see `svd`.
    encoder: what cross-attention reads: "text" or "image".
    images: which frames are given; the names of inputs (`svd`), and of a request's fields.
    noise_on_latents: the noise on given frames is added to their latents, not to their pixels.
    scores: numbers that are known of a clip, besides motion; the loader's names for them.
    min_frames: fewer make no sense.
    stills: makes single images only.
    latents: how many times the autoencoder's channels the UNet takes: noisy, and of the condition.
    mask: whether the UNet's input ends in a channel that says which frames are given.
    vector_size: numbers in the vector.
  """

  condition: Callable[[svd.Encoders, svd.Inputs, int], Condition]
  encoder: str
  images: tuple[str, ...] = ()
  noise_on_latents: bool = False
  scores: tuple[str, ...] = ()
  min_frames: int = 1
  stills: bool = False
  latents: int = 1
  mask: bool = False
  vector_size: int = 3

  def in_channels(self, latent_channels: int) -> int:
    """Channels of the UNet's input, for an autoencoder of `latent_channels`."""
    return self.latents * latent_channels + self.mask

  @property
  def noise(self) -> str:
    """The input with the noise on given frames."""
    return "image_noise_N2hwZ" if self.noise_on_latents else "image_noise_NHWC"

  def noise_shape(self, image_HWC: tuple[int, ...], latent_hwZ: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of that noise for one clip."""
    return (len(self.images), *latent_hwZ) if self.noise_on_latents else image_HWC


_FIRST, _LAST = "images_NHWC", "last_images_NHWC"

MODES = {
  "text_to_image": Mode(svd.text_to_image, "text", stills=True, vector_size=0),
  "text_to_video": Mode(svd.text_to_video, "text"),
  "image_to_video": Mode(svd.image_to_video, "image", (_FIRST,), latents=2),
  "multi_view": Mode(
    svd.multi_view, "image", (_FIRST,), scores=("elevation",), latents=2, vector_size=4
  ),
  "interpolation": Mode(
    svd.interpolation,
    "image",
    (_FIRST, _LAST),
    noise_on_latents=True,
    min_frames=3,
    latents=2,
    mask=True,
  ),
}
