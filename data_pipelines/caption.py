"""Texts for clips: of the middle frame, of the whole clip, and a summary of both.

Stable Video Diffusion, appendix C: an image captioner on the middle frame, a video captioner, and a
language model that combines their texts; training draws them 0.5, 0.25, 0.25
(`vidjax.data.captions`). Texts that a clip brings along under these names are not written again.
"""

from collections.abc import Callable, Mapping, Sequence
import concurrent.futures
import dataclasses
import re

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


def key(config: config_lib.CaptionConfig, known: Mapping[str, str]) -> str:
  """What the texts of a clip depend on, besides the clip."""
  what = dataclasses.replace(config, concurrency=1, retries=0, timeout_s=1.0, api_key_env="")
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


def write(
  shown: Sequence[Shown],
  known: Mapping[str, Mapping[str, str]],
  config: config_lib.CaptionConfig,
) -> dict[str, dict[str, str]]:
  """Writes the texts that clips do not have yet.

  Args:
    shown: What there is to see.
    known: Clip id -> texts that it has, by name.
    config: The captioners.

  Returns:
    Clip id -> new texts by name; a captioner that does not take a clip leaves its text out.

  Raises:
    captioners.EndpointError: a server does not answer.
    ValueError: a model cannot be opened.
  """
  texts: dict[str, dict[str, str]] = {one.clip_id: {} for one in shown}
  # The summary goes last, as it is made of the others.
  for name in config.captioners:
    captioner = captioners.load(config, name)
    todo = [one for one in shown if name not in known.get(one.clip_id, {})]
    inputs = [
      _input(name, one, {**known.get(one.clip_id, {}), **texts[one.clip_id]}, config)
      for one in todo
    ]
    with concurrent.futures.ThreadPoolExecutor(config.concurrency) as pool:
      asked = [pool.submit(captioner, *one) if one else None for one in inputs]
      try:
        for one, answer in zip(todo, asked, strict=True):
          if answer and (text := answer.result()):
            texts[one.clip_id][name] = " ".join(text.split())
      except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
  return texts


def _input(
  name: str, one: Shown, texts: Mapping[str, str], config: config_lib.CaptionConfig
) -> tuple[Sequence[bytes], str] | None:
  """Pictures and prompt for one captioner; None where it has nothing to go by."""
  prompt = config.captioners[name].prompt or PROMPTS[name]
  if name == "image":
    return (one.middle,), prompt
  if name == "video":
    return one.frames, prompt
  others = {other: texts.get(other, "") for other in ("image", "video")}
  if not any(others.values()):
    return None
  return (), re.sub(r"\{(image|video)\}", lambda found: others[found[1]], prompt)


def _jpeg(frame_HWC: np.ndarray) -> bytes:
  bgr_HWC = np.ascontiguousarray(frame_HWC[..., ::-1])
  _, jpeg = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
  return jpeg.tobytes()
