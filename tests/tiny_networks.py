"""Feature networks of a few numbers: rows of the table that a test adds, as anyone may."""

import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from vidjax.backbones import registry
from vidjax.evaluation.datasets import ClipRule
from vidjax.evaluation.protocol import FakeSet, Metric, Protocol, RealSet
from vidjax.nn import params

WIDTH = 3


class Scaled(nnx.Module):
  """Mean colour and mean change of colour of a clip, each times a weight."""

  def __init__(self, rngs):
    draw = jax.random.normal(rngs.params(), (2, WIDTH))
    self.kernel = nnx.Param(draw, role="kernel")


def describe():
  return params.network(Scaled)


NETWORK = describe()


def features(values, video_BTHWC):
  kernel = NETWORK.bind(values).kernel[...]
  colour_BC = video_BTHWC.mean(axis=(1, 2, 3)) / 64 * kernel[:1]
  change_BC = jnp.abs(jnp.diff(video_BTHWC, axis=1)).mean(axis=(1, 2, 3)) / 16 * kernel[1:]
  return {"means": colour_BC + change_BC}


def pictures(values, video_BTHWC):
  kernel = NETWORK.bind(values).kernel[...]
  return {"embedding": video_BTHWC[:, 0].mean(axis=(1, 2)) / 64 * kernel[:1] + 0.1}


def row(name, frames, taps, of):
  return registry.Backbone(
    name, name, frames, taps, describe, of, ("file",), "nowhere", "nowhere", lambda *_: None
  )


ROWS = {
  "tiny/clips": row("tiny/clips", (2, None), {"means": WIDTH}, features),
  "tiny/pictures": row("tiny/pictures", (1, 1), {"embedding": WIDTH}, pictures),
}

FOLDERS = Protocol(
  "folders",
  RealSet("folder", "", ClipRule(frames=4)),
  FakeSet(None, "given", condition="given", num_frames=4),
  (Metric("fvd", "tiny/clips", "means"),),
)
EVERYTHING = dataclasses.replace(
  FOLDERS,
  name="everything",
  metrics=(
    *FOLDERS.metrics,
    Metric("fid", "tiny/pictures", "embedding", ddof=1),
    Metric("jedi", "tiny/clips", "means"),
    Metric("is", "tiny/clips", "means", splits=2),
    Metric("clipsim", "tiny/pictures", "embedding"),
  ),
)


def write_clips(folder, count, seed, frames=5, size=(8, 12), brightness=0):
  """`count` arrays of noise, each with its own brightness."""
  folder.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(seed)
  for i in range(count):
    level = rng.integers(40, 120) + brightness
    clip = np.clip(level + rng.integers(-30, 30, (frames, *size, 3)), 0, 255).astype(np.uint8)
    np.save(folder / f"clip_{i:03d}.npy", clip)
