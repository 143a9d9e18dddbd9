"""Evaluation protocols: everything that a number depends on, under one name and one hash.

Two results may stand in one column only if their hashes are equal.
"""

import dataclasses
import hashlib
import json
from typing import Any, ClassVar, Protocol

from vidjax.metrics import random_features


class Described(Protocol):
  """A frozen dataclass with a name: a protocol of any kind."""

  __dataclass_fields__: ClassVar[dict[str, Any]]

  @property
  def name(self) -> str:
    """Under which results go."""
    ...


@dataclasses.dataclass(frozen=True)
class Features:
  """Two given sets of features: Fréchet distance and KID, nothing is known about their origin."""

  name: str = "features"
  ddof: int = 0


@dataclasses.dataclass(frozen=True)
class Demo:
  """Held-out windows against samples and simple baselines, by random features.

  For a first run on a small machine. Needs no pretrained network, so its numbers compare runs of
  one set-up and nothing else (see `vidjax.metrics.random_features`).

  Attributes:
    num_frames: frames of a window.
    fps: its frame rate.
    height: pixels.
    width: pixels.
    windows: number of real windows, and of generated clips.
    split: where the real windows are from; the mean frame is that of the split "train".
    seed: of windows and samples.
    steps: sampler steps; None where the clips are given.
    guidance: guidance scale of all frames; 1 is none. None where the clips are given.
    noise_aug_strength: of the first frame, for image-to-video. None where the clips are given.
    backbone: network that the features are from.
  """

  num_frames: int
  fps: float
  height: int
  width: int
  name: str = "demo"
  windows: int = 12
  split: str = "holdout"
  seed: int = 0
  steps: int | None = 10
  guidance: float | None = 1.0
  noise_aug_strength: float | None = 0.02
  backbone: str = random_features.NAME


def protocol_hash(protocol: Described) -> str:
  """16 hex digits that differ wherever any field differs."""
  text = json.dumps(dataclasses.asdict(protocol), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
