"""Raises the frame rate of a clip with a model of interpolation (SVD, 2311.15127, sec. 4.4, D.5).

Each two neighbouring frames are the first and the last one of a short clip that the model makes;
these clips are joined at the frames that they share. A model of T frames makes T - 1 of each one:
SVD's, of five, four times the frame rate.

Shapes: K frames of the given clip, P = K - 1 pairs of neighbours, T frames of the model, H W
pixels, C channels (RGB).
"""

from collections.abc import Callable
import dataclasses

import numpy as np

from vidjax.observe import console
from vidjax.requests import Request


def raised(
  generate: Callable[[Request], np.ndarray],
  request: Request,
  frames_KHWC: np.ndarray,
  *,
  seed: int,
  batch_size: int,
) -> np.ndarray:
  """The clip with T - 2 more frames between each two: ((K - 1) (T - 1) + 1, H, W, 3) in [0, 1].

  Args:
    generate: of the model's pipeline.
    request: what is asked of it for every pair; frames and seeds are filled in here.
    frames_KHWC: the clip, in the model's size, in [0, 1].
    seed: of the first pair; the next ones have the next seeds.
    batch_size: pairs that are made at once.
  """
  pairs = len(frames_KHWC) - 1
  made = []
  with console.Progress("pairs of frames", total=pairs) as progress:
    for start in range(0, pairs, batch_size):
      stop = min(start + batch_size, pairs)
      asked = dataclasses.replace(
        request,
        images_NHWC=frames_KHWC[start:stop],
        last_images_NHWC=frames_KHWC[start + 1 : stop + 1],
        seeds=range(seed + start, seed + stop),
      )
      made.append(generate(asked))
      progress.update(stop)
  return joined(np.concatenate(made))


def joined(clips_PTHWC: np.ndarray) -> np.ndarray:
  """One clip of clips each of which begins with the frame that the one before ends with.

  Such a frame is taken from the clip that it begins.
  """
  pairs, frames, *rest = clips_PTHWC.shape
  without_ends = clips_PTHWC[:, :-1].reshape(pairs * (frames - 1), *rest)
  return np.concatenate([without_ends, clips_PTHWC[-1, -1:]])
