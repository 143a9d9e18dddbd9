"""Texts for clips: of the middle frame, of the whole clip, and a summary of both.

Stable Video Diffusion, appendix C: an image captioner on the middle frame, a video captioner, and a
language model that combines their texts; training draws them 0.5, 0.25, 0.25
(`vidjax.data.captions`). Texts that a clip brings along under these names are not written again.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import re
from typing import Any

import av.error
import cv2
import numpy as np

from data_pipelines import captioners, tables
from data_pipelines import config as config_lib
from vidjax.data import video

PROMPTS = {
  "image": "Describe this picture in one sentence.",
  "video": "These pictures are frames of one video, in order. Describe in one or two sentences what"
  " is seen and what happens. Do not mention frames or pictures.",
  "llm": "One model described the middle frame of a video: {image}\nAnother one described the whole"
  " video: {video}\nWrite one description of the video that combines them, in one or two sentences,"
  " and nothing else.",
}
_JPEG_QUALITY = 92


@dataclasses.dataclass(frozen=True)
class Shown:
  """What captioners see of a clip, as JPEGs: its middle frame, and frames evenly spread."""

  clip_id: str
  middle: bytes
  frames: tuple[bytes, ...]


@dataclasses.dataclass(frozen=True)
class Told:
  """What captioners said of a clip.

  Attributes:
    texts: By name, without those that the clip brought along; "" is an answer, too.
    refused: By name, what the server of a model answered that does not take the clip.
  """

  texts: Mapping[str, str] = dataclasses.field(default_factory=dict)
  refused: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def to_json(self) -> dict[str, Any]:
    """As plain JSON."""
    return {"texts": dict(self.texts), "refused": dict(self.refused)}


def weights(config: config_lib.CaptionConfig) -> dict[str, str]:
  """Short hashes of the models in folders, by the name of their texts."""
  return {
    name: captioners.weights(captioner.model)
    for name, captioner in config.captioners.items()
    if not captioner.endpoint
  }


def key(
  config: config_lib.CaptionConfig, weights: Mapping[str, str], known: Mapping[str, str]
) -> str:
  """What the texts of a clip depend on, besides the clip.

  Args:
    config: The captioners.
    weights: See there; they take the place of paths.
    known: Texts that the clip brought along.
  """
  what = dataclasses.replace(config, concurrency=1, retries=0, timeout_s=1.0, api_key_env="")
  for name, hashed in weights.items():
    what = dataclasses.replace(
      what, **{name: dataclasses.replace(config.captioners[name], model=hashed)}
    )
  return config_lib.fingerprint(what, PROMPTS, dict(known))


def ordered(captions: Mapping[str, str]) -> list[str]:
  """Names of texts, those of the captioners first, then by name; the first one is scored."""
  ours = [name for name in PROMPTS if name in captions]
  return ours + sorted(captions.keys() - set(ours))


def read(
  path: str,
  rows: Sequence[tables.Clip],
  config: config_lib.CaptionConfig,
  alive: Callable[[], None] = lambda: None,
) -> list[Shown]:
  """Reads the frames of clips of one local source; runs in a process of its own (`isolation`).

  Clips of which a frame cannot be read are left out.
  """
  shown = []
  for row in rows:
    count = config.num_frames if "video" in config.captioners else 0
    shares = (np.arange(count) + 0.5) / max(count, 1)
    moments_s = row.start_time_s + (row.end_time_s - row.start_time_s) * np.r_[shares, 0.5]
    order = np.argsort(moments_s, kind="stable")
    size = (config.short_side, config.short_side)
    try:
      frames = video.read_frames_at(path, moments_s[order], size)
    except (ValueError, av.error.FFmpegError):
      continue
    jpegs = [_jpeg(frames[place]) for place in np.argsort(order, kind="stable")]
    shown.append(Shown(row.clip_id, jpegs[-1], tuple(jpegs[:-1])))
    alive()
  return shown


def missing(known: Mapping[str, str], told: Told, config: config_lib.CaptionConfig) -> list[str]:
  """Names of the captioners that have not answered yet, in the order in which they are asked."""
  done = known.keys() | told.texts.keys() | told.refused.keys()
  left = [name for name in config.captioners if name not in done]
  # The summary goes last, as it is made of the others, and not at all where there are none.
  if left == ["llm"] and _input("llm", None, {**known, **told.texts}, config) is None:
    return []
  return left


def lasting(told: Told, config: config_lib.CaptionConfig) -> Told:
  """What of it is worth remembering.

  As long as a model has taken nothing, its refusals say more about it than about clips. They are
  asked for again then, and so is the summary, which was made without.
  """
  refused = {
    name: answer
    for name, answer in told.refused.items()
    if captioners.tally(config.captioners[name]).taken
  }
  if refused == told.refused:
    return told
  return Told({name: text for name, text in told.texts.items() if name != "llm"}, refused)


def write(
  one: Shown,
  known: Mapping[str, str],
  told: Told,
  config: config_lib.CaptionConfig,
  save: Callable[[Told], None] = lambda told: None,
) -> Told:
  """Writes the texts that a clip does not have yet.

  Args:
    one: What there is to see.
    known: Texts that the clip brought along, by name.
    told: What was said before.
    config: The captioners.
    save: Called with all there is after each answer.

  Raises:
    captioners.EndpointError: a server does not answer.
    ValueError: a model cannot be opened.
  """
  for name in missing(known, told, config):
    asked = _input(name, one, {**known, **told.texts}, config)
    if asked is None:
      continue
    try:
      text = " ".join(captioners.load(config, name)(*asked).split())
    except captioners.RefusedError as error:
      told = dataclasses.replace(told, refused={**told.refused, name: str(error)})
    else:
      told = dataclasses.replace(told, texts={**told.texts, name: text})
    save(told)
  return told


def _input(
  name: str, one: Shown | None, texts: Mapping[str, str], config: config_lib.CaptionConfig
) -> tuple[Sequence[bytes], str] | None:
  """Pictures and prompt for one captioner; None where it has nothing to go by."""
  prompt = config.captioners[name].prompt or PROMPTS[name]
  if name in ("image", "video"):
    assert one, "models of pictures are shown some"
    return ((one.middle,) if name == "image" else one.frames), prompt
  others = {other: texts.get(other, "") for other in ("image", "video")}
  if not any(others.values()):
    return None
  return (), re.sub(r"\{(image|video)\}", lambda found: others[found[1]], prompt)


def _jpeg(frame_HWC: np.ndarray) -> bytes:
  bgr_HWC = np.ascontiguousarray(frame_HWC[..., ::-1])
  _, jpeg = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
  return jpeg.tobytes()
