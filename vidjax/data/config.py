"""What is read, and how it is shown: the `data` part of a training config.

Kept apart from `vidjax.config`, so that decoding processes can import it without JAX.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

KINDS = ("shards", "tfds", "videos", "images", "image_text", "latents", "procedural")


@dataclasses.dataclass(frozen=True)
class SetConfig:
  """One data set.

  Attributes:
    path: its folder.
    kind: what is in there, a module of `vidjax.data.sources`.
    split: of a data set that has splits.
    weight: share of the samples that it gives, relative to the weights of the other sets.
    captions: name of a captioner -> how often its text is drawn, relative to the others; names that
      are not listed are not used. Empty: all that a clip has, each as often as the others.
    template: what becomes of a caption; "{caption}" stands for it.
    flip: mirror half of the samples; off because captions can name left and right.
    options: what else the kind of data set wants to know.
  """

  path: str = ""
  kind: str = "shards"
  split: str = "train"
  weight: float = 1.0
  captions: Mapping[str, float] = dataclasses.field(default_factory=dict)
  template: str = "{caption}"
  flip: bool = False
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
