"""Numbers of a model: its loss on held-out windows at fixed noise, and what its clips are like.

Legend: N windows or clips, S noise levels, T frames, H W pixels, C channels (RGB), R = N S rows.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.studies import plan as plans
from benchmarks.studies import statistics, training
from benchmarks.studies.plan import ROWS
from data_pipelines import flow, signals
from vidjax import config as configs
from vidjax import denoising, lazy, pretrained, requests
from vidjax import pipeline as pipelines
from vidjax.conditioning.modes import MODES
from vidjax.data import loader, samples
from vidjax.data.config import DataConfig
from vidjax.diffusion import levels, noise
from vidjax.diffusion import loss as losses
from vidjax.encoders import frozen as encoders
from vidjax.encoders import tokenizers
from vidjax.metrics import comparison, random_features
from vidjax.parallel import mesh as meshes

_NOISE, _LATENT = 0, 1  # random streams of a held-out window
_MAX_PSNR = 60.0
_DARK = 1e-3  # saturation below it is that of a gray picture


class Scorer:
  """Scores arms, and keeps what they share: windows, compiled programs.

  Args:
    commands: of the plan, which know folders.
  """

  def __init__(self, commands: training.Commands):
    self._commands, self._plan = commands, commands.plan
    self._pipelines: dict[str, pipelines.Pipeline] = {}
    self._windows: dict[tuple[str, str], list[samples.Sample]] = {}

  def score(self, study: str, arm: str, stage: str, seed: int) -> dict[str, Any]:
    """Numbers by name; those of single clips and frames are lists under `clips` and `frames`."""
    of = self._plan.studies[study]
    loaded = pretrained.load(self._commands.workdir(stage, seed))
    config = comparable(loaded.config)
    params = lazy.read_all(loaded.params, "reading weights")
    windows = self._heldout(of.evaluation, config.data)
    result: dict[str, Any] = {}
    if of.evaluation.sigmas:
      loss_S = heldout_loss(config, params, windows, of.evaluation.sigmas, of.evaluation.seed)
      result["loss_by_sigma"] = [round(float(x), 6) for x in loss_S]
      result["heldout_loss"] = float(loss_S.mean())
    if not of.evaluation.steps:
      return result
    pipe = self._pipeline(config)
    pipe.load(params)
    request = {**of.evaluation.request, **of.requests[arm]}
    clips_NTHWC = sample(pipe, windows, of.evaluation, request)
    pipe.free()
    if of.kind == "training":
      real_NTHWC = video(windows)
      terms = comparison.distances(*comparison.measure(real_NTHWC, {arm: clips_NTHWC}))[arm]
      return result | {f"frechet_{name}": float(of.value) for name, of in terms.items()}
    fps = float(request.get("fps", config.data.fps))
    return result | clip_numbers(video(windows)[:, 0], clips_NTHWC, fps)

  def reference(self, study: str) -> dict[str, float]:
    """How well motion is measured at all: of real windows, and of them through the autoencoder."""
    of = self._plan.studies[study]
    config = comparable(self._commands.config(of.model, 0))
    windows = self._heldout(of.evaluation, config.data)
    real_NTHWC = video(windows)
    back_NTHWC = np.concatenate(
      [
        self._pipeline(config).reconstruct(real_NTHWC[i : i + ROWS])
        for i in range(0, len(real_NTHWC), ROWS)
      ]
    )
    true_N = [window.motion_score for window in windows]
    real_N, back_N = (
      [config.data.fps * motion_per_frame(one) for one in videos]
      for videos in (real_NTHWC, back_NTHWC)
    )
    return {
      "true_motion": float(np.mean(true_N)),
      "real_motion": float(np.mean(real_N)),
      "reconstructed_motion": float(np.mean(back_N)),
      "real_rank_correlation": statistics.rank_correlation(
        true_N, np.array(real_N)[:, None], rises=True
      ),
      "reconstructed_rank_correlation": statistics.rank_correlation(
        true_N, np.array(back_N)[:, None], rises=True
      ),
      "reconstructed_psnr": float(
        np.mean([psnr(a, b) for a, b in zip(real_NTHWC, back_NTHWC, strict=True)])
      ),
    }

  def _pipeline(self, config: configs.TrainConfig) -> pipelines.Pipeline:
    """One for all models of the same shape: its programs are compiled once."""
    key = json.dumps(configs.to_dict(config), sort_keys=True)
    if key not in self._pipelines:
      self._pipelines[key] = pipelines.Pipeline(config, {}, "a study")
    return self._pipelines[key]

  def _heldout(self, of: plans.Evaluation, view: DataConfig) -> list[samples.Sample]:
    key = (json.dumps(dataclasses.asdict(of), sort_keys=True), str(view))
    if key not in self._windows:
      data = self._commands.data_config(of.data, view, of.split)
      self._windows[key] = list(loader.fixed_windows(data, of.windows, of.seed))
    return self._windows[key]


def comparable(config: configs.TrainConfig) -> configs.TrainConfig:
  """The config without what training alone reads: equal for all models of the same shape."""
  plain = configs.TrainConfig
  view = {name: getattr(config.data, name) for name in ("num_frames", "fps", "height", "width")}
  return plain(
    total_samples=1,
    data=DataConfig(kind="procedural", num_workers=0, **view),
    encoders=config.encoders,
    model=config.model,
    diffusion=dataclasses.replace(config.diffusion, p_mean=0.0, p_std=1.0),
    conditioning=dataclasses.replace(config.conditioning, dropout=0.0),
  )


def video(windows: Sequence[samples.Sample]) -> np.ndarray:
  """(N, T, H, W, C) float32 in [0, 1]."""
  return np.stack([window.frames for window in windows]).astype(np.float32) / 255.0


def heldout_loss(
  config: configs.TrainConfig,
  params: Mapping[str, Any],
  windows: Sequence[samples.Sample],
  sigmas: Sequence[float],
  seed: int,
) -> np.ndarray:
  """The training loss without its chance: every window at every level, noise of its own.

  Window, latent and noise are the same for all models, so that differences are those of the
  models.

  Returns:
    (S,) means over the windows.
  """
  assert len(windows) % ROWS == 0, len(windows)
  program, frozen = _loss_program(json.dumps(configs.to_dict(config), sort_keys=True))
  spec = config.encoders.text
  tokenizer = tokenizers.load(spec) if spec else None
  sums_S = np.zeros(len(sigmas))
  with jax.set_mesh(meshes.make_mesh(meshes.MeshConfig(), jax.devices()[:1])):
    for start in range(0, len(windows), ROWS):
      part = windows[start : start + ROWS]
      batch = {
        "video_BTHWC": np.stack([window.frames for window in part]),
        "fps_B": np.array([window.fps for window in part], np.float32),
        "motion_score_B": np.array([window.motion_score for window in part], np.float32),
        "sample_index_B": np.arange(start, start + len(part), dtype=np.uint32),
      }
      if tokenizer:
        batch["tokens_BL"] = np.stack([tokenizer(window.caption) for window in part])
      keys_N = noise.sample_keys(seed, jnp.asarray(batch["sample_index_B"]))
      of_rows = program(
        dict(params), frozen.weights, batch, keys_N, jnp.asarray(sigmas, jnp.float32)
      )
      sums_S += np.asarray(of_rows, np.float64).reshape(len(part), -1).sum(axis=0)
  return sums_S / len(windows)


@functools.cache
def _loss_program(text: str) -> tuple[Any, encoders.Frozen]:
  config = configs.from_dict(configs.TrainConfig, json.loads(text))
  frozen = encoders.load(config.encoders, MODES[config.conditioning.mode].encoder)
  network = denoising.make_unet(config)

  def run(
    params: Any, weights: Any, batch: dict[str, jax.Array], keys_N: jax.Array, sigma_S: jax.Array
  ) -> jax.Array:
    bound = frozen.bind(weights)
    video_NTHWC = batch["video_BTHWC"].astype(jnp.float32) / 127.5 - 1.0
    x0_NTHWC = bound.encode_video(video_NTHWC, noise.stream(keys_N, _LATENT))
    condition = denoising.make_condition(config, bound, batch, video_NTHWC, keys_N)
    noise_NTHWC = noise.normal(noise.stream(keys_N, _NOISE), x0_NTHWC.shape[1:])
    count = sigma_S.shape[0]

    def rows(x: jax.Array) -> jax.Array:
      return jnp.repeat(x, count, axis=0)

    x0, unit, condition = rows(x0_NTHWC), rows(noise_NTHWC), jax.tree.map(rows, condition)
    level_R = levels.added(jnp.tile(sigma_S, x0_NTHWC.shape[0]))
    f = denoising.apply_unet(
      config.diffusion, network.bind(params), levels.noised(x0, unit, level_R), level_R, condition
    )
    of = config.diffusion
    return losses.denoising_loss(of.prediction, f, x0, unit, level_R, sigma_data=of.sigma_data)

  return jax.jit(run), frozen


def sample(
  pipe: pipelines.Pipeline,
  windows: Sequence[samples.Sample],
  of: plans.Evaluation,
  fields: Mapping[str, Any],
) -> np.ndarray:
  """A clip for each window, from its caption or first frame, (N, T, H, W, C) in [0, 1].

  Where the motion is not asked for, it is the window's own.
  """
  conditioning = pipe.config.conditioning
  made = []
  for start in range(0, len(windows), ROWS):
    part = windows[start : start + ROWS]
    motion_N = np.array([window.motion_score for window in part])
    bucket_N = np.clip(motion_N * conditioning.motion_bucket_scale, 0, 255).tolist()
    request = pipelines.Request(
      **requests.given(conditioning.mode, video(part), [window.scores for window in part]),
      prompts=[window.caption for window in part],
      seeds=[of.seed + start + i for i in range(len(part))],
      steps=of.steps,
      **{"motion_bucket_id": bucket_N, **fields},
    )
    made.append(pipe.generate(request))
  return np.concatenate(made)


def clip_numbers(first_NHWC: np.ndarray, clips_NTHWC: np.ndarray, fps: float) -> dict[str, Any]:
  """What clips are like that begin with given frames.

  motion             px / s at a shorter side of 16, mean Farneback flow (`data_pipelines.flow`)
  motion_per_frame   px from frame to frame: what is seen where all are played at one rate
  first_frame_psnr   dB, of the first frame against the given one
  distance_to_first  of the frames to the given one, in `vidjax.metrics.random_features`
  oversaturation     mean over frames of ln(saturation / that of the given frame), where above 0

  Returns:
    Means over clips by name; `clips`: name -> one number for each; `frames`: name -> one number
    for each frame.
  """
  moved_N = np.array([motion_per_frame(clip) for clip in clips_NTHWC])
  distance_NT = np.array([_distances(*pair) for pair in zip(first_NHWC, clips_NTHWC, strict=True)])
  excess_NT = np.log(_saturation(clips_NTHWC) / _saturation(first_NHWC)[:, None]).clip(min=0.0)
  pairs = zip(first_NHWC, clips_NTHWC[:, 0], strict=True)
  numbers = {
    "motion": fps * moved_N,
    "motion_per_frame": moved_N,
    "first_frame_psnr": np.array([psnr(given, made) for given, made in pairs]),
    "distance_to_first": distance_NT.mean(axis=1),
    "oversaturation": excess_NT.mean(axis=1),
  }
  frames = {"distance_to_first": distance_NT, "oversaturation": excess_NT}
  return {
    **{name: float(of.mean()) for name, of in numbers.items()},
    "clips": {name: np.round(of, 5).tolist() for name, of in numbers.items()},
    "frames": {name: np.round(of.mean(axis=0), 5).tolist() for name, of in frames.items()},
  }


def motion_per_frame(video_THWC: np.ndarray) -> float:
  """Mean flow from frame to frame, px at a shorter side of 16; frames in [0, 1].

  `data_pipelines.flow` looks at two frames a second: the frames are shown to it at that rate.
  """
  height, width = video_THWC.shape[1:3]
  scale = signals.TINY_SIDE / min(height, width)
  size = (round(width * scale), round(height * scale))
  frames = np.round(video_THWC * 255).astype(np.uint8)
  tiny_THWC = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])
  times_s = np.arange(len(tiny_THWC)) / flow.FLOW_FPS
  end_s = len(tiny_THWC) / flow.FLOW_FPS
  return flow.motion_scores(tiny_THWC, times_s, 0.0, end_s)["motion_score"] / flow.FLOW_FPS


def psnr(a: np.ndarray, b: np.ndarray) -> float:
  """In dB, of pictures or clips in [0, 1]; at most 60."""
  error = float(np.square(np.asarray(a, np.float64) - b).mean())
  return min(_MAX_PSNR, -10 * float(np.log10(max(error, 1e-12))))


def _distances(given_HWC: np.ndarray, clip_THWC: np.ndarray) -> np.ndarray:
  """(T,) distances of features of frames to those of the given one."""
  frames, _ = random_features.features(np.concatenate([given_HWC[None], clip_THWC]))
  return np.linalg.norm(frames[1:] - frames[:1], axis=-1)


def _saturation(pictures: np.ndarray) -> np.ndarray:
  """Mean over pixels of the largest minus the smallest channel, of pictures (..., H, W, C)."""
  return np.maximum((pictures.max(-1) - pictures.min(-1)).mean((-1, -2)), _DARK)
