"""CLIPSIM, and how steady frames are: cosines between embeddings of frames and captions.

CLIPSIM (Wu et al., GODIVA, 2104.14806) is the mean over videos of the mean over frames of
cos(frame, caption). It is neither cut off at 0 nor multiplied by 100, as CLIPScore is. Its scale is
that of the network: values of ViT-B/32, ViT-B/16 and ViT-L/14 do not compare.

Legend: N videos, T frames, D embedding dimensions.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from vidjax.metrics.checks import checked
from vidjax.metrics.intervals import Estimate, mean_of


@dataclasses.dataclass(frozen=True)
class Similarity:
  """A mean cosine over videos.

  Attributes:
    estimate: the mean, with its 95 % interval.
    values: (N,) float64, one for each video.
    sd: standard deviation over videos, divided by N - 1; NaN for one video.
    standard_error: sd / sqrt(N); the interval is wider than it says where videos are grouped.
  """

  estimate: Estimate
  values: np.ndarray
  sd: float
  standard_error: float


def frame_caption(frames_TD: np.ndarray, caption_D: np.ndarray) -> float:
  """Mean over frames of cos(frame, caption), of one video.

  Args:
    frames_TD: embeddings of at least 1 frame, of any length.
    caption_D: embedding of the caption.

  Raises:
    ValueError: wrong shapes, values that are not finite, or an embedding that is 0.
  """
  frames_TD = _unit(frames_TD, "frame embeddings")
  caption_1D = _unit(np.asarray(caption_D)[None], "caption embedding")
  if frames_TD.shape[1] != caption_1D.shape[1]:
    raise ValueError(
      f"frame embeddings have D={frames_TD.shape[1]} and the caption's D={caption_1D.shape[1]}:"
      " both must come from one model, after its projections"
    )
  return float((frames_TD @ caption_1D[0]).mean())


def frame_to_frame(frames_TD: np.ndarray) -> float:
  """Temporal consistency of one video: mean cosine of consecutive frames; 1 where nothing changes.

  As in Esser et al. (2302.03011). A frozen video has the highest value: read it beside how
  much videos move (`vidjax.metrics.video_statistics`).

  Raises:
    ValueError: as `frame_caption`, or there is one frame only.
  """
  unit_TD = _unit(frames_TD, "frame embeddings", at_least=2)
  return float((unit_TD[:-1] * unit_TD[1:]).sum(axis=1).mean())


def clipsim(
  frames: Sequence[np.ndarray], captions_ND: np.ndarray, groups_N: np.ndarray | None = None
) -> Similarity:
  """CLIPSIM of N videos.

  Args:
    frames: (T, D) embeddings of each video; T may differ.
    captions_ND: the embedding of each video's caption.
    groups_N: see `over_videos`.

  Raises:
    ValueError: as `frame_caption`, or there is not one caption for each video.
  """
  if len(frames) != len(captions_ND):
    raise ValueError(f"{len(frames)} videos, {len(captions_ND)} captions: one for each is needed")
  return over_videos(
    [frame_caption(video, text) for video, text in zip(frames, captions_ND, strict=True)], groups_N
  )


def over_videos(
  values_N: Sequence[float] | np.ndarray, groups_N: np.ndarray | None = None
) -> Similarity:
  """Mean of a cosine per video, of either kind.

  Args:
    values_N: one value for each video.
    groups_N: groups that are not independent, e.g. several videos of one caption
      (`vidjax.metrics.groups.groups_of`); None for independent videos.

  Raises:
    ValueError: no value, one that is not finite, or not one group for each.
  """
  values = np.asarray(values_N, np.float64)
  estimate = mean_of(values, "cosine", groups_N, lowest=-1.0, highest=1.0)
  sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
  return Similarity(estimate, values, sd, sd / float(np.sqrt(len(values))))


def _unit(x_TD: np.ndarray, name: str, at_least: int = 1) -> np.ndarray:
  x_TD = checked(x_TD, name, at_least)
  length_T = np.linalg.norm(x_TD, axis=1, keepdims=True)
  if not length_T.all():
    raise ValueError(f"{name}: row {int(length_T.argmin())} is 0 and has no direction")
  return x_TD / length_T
