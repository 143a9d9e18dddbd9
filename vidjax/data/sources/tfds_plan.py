"""Which features of a TFDS data set are shown, and which are captions."""

from collections.abc import Mapping
import dataclasses
import math
import re
from typing import Any

from absl import logging

from vidjax import errors
from vidjax.data.sources import media, sidecar, tfds_features
from vidjax.data.sources import options as data_options
from vidjax.data.sources.tfds_features import Feature

# Words in names of texts that are no captions.
_NO_CAPTION = frozenset(
  word
  for words in (
    "file filename format hash id ids key",
    "license md5 name path sha256 split uri url",
  )
  for word in words.split()
)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is read from each record.

  Attributes:
    shown: the feature with the video or picture.
    picture: which of the two.
    captions: name of the captioner -> feature.
    fps: frame rate of a video that is stored as frames, or the feature that says it.
  """

  shown: Feature
  picture: bool
  captions: Mapping[str, Feature]
  fps: float | str

  @property
  def shows(self) -> str:
    """How it is stored: "picture", "frames" or "file"."""
    return self.shown.shows

  def rate(self, example: Mapping[str, Any]) -> float:
    """Frame rate of a record.

    Raises:
      DataError: it has none, or none that is positive.
    """
    if not isinstance(self.fps, str):
      return self.fps
    fps = tfds_features.number(example, self.fps)
    if fps <= 0:
      raise errors.DataError(f"the record has {self.fps}={fps}, a frame rate is positive")
    return fps

  def texts(self, example: Mapping[str, Any]) -> dict[str, str]:
    """Captions of a record."""
    captions = {}
    for name, feature in self.captions.items():
      captions.update(sidecar.numbered(name, tfds_features.texts(example, feature)))
    return captions

  def constant_facts(self) -> media.Facts | None:
    """What the features say of all clips; None if that is not how long they are."""
    if self.picture:
      return media.Facts(math.inf, math.inf, *self.shown.size)
    count = self.shown.frame_count if self.shows == "frames" else -1
    if count <= 0 or isinstance(self.fps, str):
      return None
    return media.Facts(count / self.fps, self.fps, *self.shown.size)


def make(path: str, features: Mapping[str, Feature], options: Mapping[str, Any]) -> Plan:
  """Chooses features by the options, and by their types where those say nothing.

  Shown is the first video, else the first sequence of pictures, else the first picture. Captions
  are all texts whose names do not say that they are something else (`_NO_CAPTION`), and classes.

  Raises:
    ValueError: an option names no feature, or one that cannot be used so.
    DataError: nothing can be shown.
  """
  if options.get("video") and options.get("image"):
    raise ValueError("data kind 'tfds': set one of the options video and image")
  shown, picture = _shown(path, features, options)
  captions = _captions(features, options, shown)
  fps = options.get("fps")
  if shown.shows != "frames":
    if fps is not None:
      raise ValueError(
        f"data kind 'tfds': fps={fps!r} is for videos stored as frames, {shown.key!r} is none"
      )
    fps = 0.0
  elif isinstance(fps, str):
    rate = features.get(fps)
    if rate is None or rate.kind != "tensor" or rate.shape or rate.length is not None:
      raise ValueError(f"data kind 'tfds': fps={fps!r} is no number among {_names(features)}")
  elif not isinstance(fps, (int, float)) or not 0 < fps < math.inf:
    raise ValueError(
      f"data kind 'tfds': {shown.key!r} is stored as frames, which do not say how long they are"
      f" shown: set the option fps to a number, or to a feature, of {_names(features)};"
      f" it is {fps!r}"
    )
  logging.info("%s: shows %r, captions %s", path, shown.key, list(captions) or "none")
  return Plan(shown, picture, captions, fps if isinstance(fps, str) else float(fps))


def _shown(
  path: str, features: Mapping[str, Feature], options: Mapping[str, Any]
) -> tuple[Feature, bool]:
  for option, direct in (("video", "frames"), ("image", "picture")):
    name = options.get(option)
    if not name:
      continue
    if name not in features:
      raise ValueError(f"data kind 'tfds': {option}={name!r} is none of {_names(features)}")
    if features[name].shows not in (direct, "file"):
      raise ValueError(f"data kind 'tfds': {option}={name!r} cannot be shown as one")
    return features[name], option == "image"
  candidates = [
    *(feature for feature in features.values() if feature.video),
    *(f for f in features.values() if f.kind == "image" and f.shows == "frames"),
    *(f for f in features.values() if f.kind == "image" and f.shows == "picture"),
  ]
  for feature in candidates:
    if feature.shows:
      return feature, feature.shows == "picture"
  raise errors.DataError(
    f"{path} has no feature of videos or images: say with the option video or image which one of"
    f" {_names(features)} holds encoded files or pixels"
  )


def _captions(
  features: Mapping[str, Feature], options: Mapping[str, Any], shown: Feature
) -> dict[str, Feature]:
  if options.get("caption") is None:
    return {
      feature.key: feature
      for feature in features.values()
      if feature.key != shown.key and not feature.nested and _is_caption(feature)
    }
  captions = {}
  for name, key in data_options.columns("caption", options["caption"]).items():
    if key not in features:
      raise ValueError(f"data kind 'tfds': caption={key!r} is none of {_names(features)}")
    if features[key].nested or features[key].kind == "image":
      raise ValueError(f"data kind 'tfds': caption={key!r} is no text, class or number")
    captions[name] = features[key]
  return captions


def _is_caption(feature: Feature) -> bool:
  if feature.kind == "label":
    return feature.length is None
  words = set(re.split(r"[/_.\- ]", feature.key.lower()))
  return feature.kind == "text" and not words & _NO_CAPTION


def _names(features: Mapping[str, Feature]) -> str:
  return ", ".join(features)
