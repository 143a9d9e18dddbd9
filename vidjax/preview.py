"""Clips sampled while training goes on: `samples/STEP.mp4` and a contact sheet beside it.

Legend: N clips, T frames, H W pixels, C channels (RGB).
"""

import jax
import numpy as np

from vidjax import config as configs
from vidjax import latent_sets, render, requests, storage
from vidjax import pipeline as pipelines
from vidjax.data import loader
from vidjax.nn.params import Params

_CLIPS = 4
_STEPS = 10  # of the sampler: a look, not a measurement


class Preview:
  """Samples the same few windows each time, so that sheets of different steps compare.

  Args:
    config: of the run; `sample_every_steps` says when.
    root: workdir.

  Raises:
    ValueError: previews are asked for where they cannot be made.
  """

  def __init__(self, config: configs.TrainConfig, root: storage.Path):
    self._config, self._root = config, root
    self._pipe: pipelines.Pipeline | None = None
    if config.sample_every_steps and config.task != "diffusion":
      raise ValueError(f"sample_every_steps must be 0 for task {config.task!r}: it cannot sample")
    if config.sample_every_steps and jax.process_count() > 1:
      raise ValueError(
        "sample_every_steps must be 0 with several processes: run `vidjax sample` on checkpoints"
      )

  def due(self, step: int) -> bool:
    """Whether the run wants samples after `step` updates."""
    every = self._config.sample_every_steps
    return every > 0 and step % every == 0

  def write(self, step: int, params: Params) -> np.ndarray:
    """Samples with `params` (by name) and writes the files of `step`; returns the sheet, HWC."""
    config = self._config
    if self._pipe is None:
      self._pipe = pipelines.Pipeline(config, params, f"{self._root}, training")
    self._pipe.load(params)
    windows = list(loader.fixed_windows(config.data, _CLIPS))
    real_NTHWC = latent_sets.pictures(config, np.stack([w.frames for w in windows]))
    scale = config.conditioning.motion_bucket_scale
    clips = self._pipe.generate(
      pipelines.Request(
        **requests.given(config.conditioning.mode, real_NTHWC, [w.scores for w in windows]),
        prompts=[w.caption for w in windows],
        seeds=range(_CLIPS),
        motion_bucket_id=[min(255.0, w.motion_score * scale) for w in windows],
        steps=_STEPS,
      )
    )
    self._pipe.free()  # training needs the memory
    strips = [
      strip
      for window, real, clip in zip(windows, real_NTHWC, clips, strict=True)
      for strip in (render.Strip(f"real: {window.caption[:100]}", real), render.Strip("", clip))
    ]
    folder = self._root / "samples"
    sheet_HWC = render.contact_sheet(strips)
    render.write_png(folder / f"{step:08d}.png", sheet_HWC)
    if clips.shape[1] > 1:
      tiled_THWC = np.concatenate(list(clips), axis=2)
      render.write_video(folder / f"{step:08d}.mp4", tiled_THWC, config.data.fps)
    return sheet_HWC
