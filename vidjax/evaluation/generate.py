"""The generated side: clips of a model for a list of prompts, or those of a folder.

A clip is a function of its prompt and seed. It is asked for in batches that always have the same
size and start at the same samples, so that a run that was killed makes the same clips again.

Legend: N clips, T frames, H W pixels.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import numpy as np

from vidjax import pipeline as pipelines
from vidjax import render
from vidjax.conditioning.modes import MODES
from vidjax.data import transforms
from vidjax.errors import NonFiniteError
from vidjax.evaluation.protocol import Protocol
from vidjax.evaluation.sample_plan import Prompt

FirstFrame = Callable[[str], np.ndarray]  # id of a real video -> (H, W, 3) uint8


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How a model is sampled: the method that is measured, and so no part of the protocol.

  Attributes:
    steps: of the sampler.
    sampler: a name in `vidjax.diffusion.samplers.SAMPLERS`.
    guidance: scale; None is the protocol's, and 1 where it has none.
    batch_size: clips at once.

  Raises:
    ValueError: `batch_size` is below 1.
  """

  steps: int = 25
  sampler: str = "euler"
  guidance: float | None = None
  batch_size: int = 8

  def __post_init__(self) -> None:
    if self.batch_size < 1:
      raise ValueError(f"batch_size={self.batch_size}: at least 1 clip is made at once")


class Generator:
  """Clips of a model.

  Args:
    pipe: the model.
    protocol: what it is asked for.
    sampling: how.
    first_frame: gives the first frame of a real video, for the models that read one.

  Attributes:
    size: height and width of clips.
    fps: of clips.
    scale: of guidance.

  Raises:
    ValueError: the model does not make what the protocol compares.
  """

  def __init__(
    self,
    pipe: pipelines.Pipeline,
    protocol: Protocol,
    sampling: Sampling,
    first_frame: FirstFrame,
  ):
    check_mode(pipe.config.conditioning.mode, protocol, pipe.origin)
    self._pipe, self._fake, self._sampling = pipe, protocol.fake, sampling
    self._first_frame = first_frame
    data = pipe.config.data
    self.size = (data.height, data.width)
    self.fps = protocol.fake.fps or data.fps
    scales = (sampling.guidance, protocol.fake.guidance, 1.0)
    self.scale = next(scale for scale in scales if scale is not None)

  def clips(self, prompts: Sequence[Prompt]) -> np.ndarray:
    """(N, T, H, W, 3) uint8, one for each prompt.

    Raises:
      NonFiniteError: a clip holds NaN; names its sample.
    """
    made = []
    for start in range(0, len(prompts), self._sampling.batch_size):
      part = prompts[start : start + self._sampling.batch_size]
      video_NTHWC = self._pipe.generate(self._request(part))[: len(part)]
      for prompt, video_THWC in zip(part, video_NTHWC, strict=True):
        if not np.isfinite(video_THWC).all():
          raise NonFiniteError(f"the clip of sample {prompt.sample_id!r} holds NaN or infinity")
        made.append(render.to_uint8(video_THWC))
    return np.stack(made)

  def given(self, prompt: Prompt) -> np.ndarray | None:
    """The frame that a clip begins with, uint8 (H, W, 3) at the model's size; None if by text."""
    if not MODES[self._pipe.config.conditioning.mode].images:
      return None
    return self._shown(prompt)

  def _shown(self, prompt: Prompt) -> np.ndarray:
    assert prompt.video_id is not None
    frame_HWC = self._first_frame(prompt.video_id)
    return transforms.cover_crop(frame_HWC[None], *self.size)[0]

  def _request(self, prompts: Sequence[Prompt]) -> pipelines.Request:
    mode = MODES[self._pipe.config.conditioning.mode]
    # The last batch is filled up: one compiled program, and clips that do not depend on the rest.
    padded = [*prompts, *[prompts[-1]] * (self._sampling.batch_size - len(prompts))]
    given: dict[str, Any] = {}
    if "images_NHWC" in mode.images:
      frames_NHWC = np.stack([self._shown(prompt) for prompt in padded])
      given["images_NHWC"] = frames_NHWC.astype(np.float32) / 255
    if mode.encoder == "text":
      given["prompts"] = [prompt.prompt for prompt in padded]
    return pipelines.Request(
      **given,
      seeds=[prompt.seed for prompt in padded],
      num_frames=self._fake.num_frames,
      fps=self.fps,
      sampler=self._sampling.sampler,
      steps=self._sampling.steps,
      min_guidance=self.scale,
      max_guidance=self.scale,
    )


def check_mode(mode: str, protocol: Protocol, origin: str) -> None:
  """Refuses a model that the protocol has nothing to say about.

  Raises:
    ValueError: says what the model reads, and what the protocol shows it.
  """
  row, shown = MODES[mode], protocol.fake.condition
  who = f"protocol {protocol.name!r}"
  if shown == "given":
    raise ValueError(f"{who} scores clips that are there already: give --fake=DIR, not --model")
  if row.stills:
    raise ValueError(f"{origin} is a {mode} model, which makes pictures; {who} compares video")
  images = set(row.images)
  if shown == "text" and row.encoder != "text":
    raise ValueError(
      f"{origin} is a {mode} model, which reads no text, and {who} asks by text: take one that"
      " shows a first frame, or score a folder of clips (--fake=DIR)"
    )
  if shown == "first_frame" and images != {"images_NHWC"}:
    raise ValueError(f"{origin} is a {mode} model; {who} shows a first frame and nothing else")
