"""Features of many clips, on all devices of this process, with one compiled program a shape.

B clips of a batch, T frames, H W pixels, C channels, D features, N clips.
"""

from collections.abc import Iterable, Iterator, Sequence
import functools
import itertools
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from vidjax.backbones.registry import Backbone
from vidjax.nn.params import Params

_AXIS = "clips"


class Extractor:
  """Computes features of a network: video (B, T, H, W, 3) -> features (B, D) by tap.

  Weights are put on each local device once, and each device has its share of a batch. A batch that
  is not full is filled up with its last clip, whose further results are cut off.

  Args:
    backbone: the network.
    params: its weights.
    taps: which features; those of the row's first tap by default.
    batch_size: clips of a batch over all devices; rounded up to a multiple of their number.
    devices: by default, all local ones.
  """

  def __init__(
    self,
    backbone: Backbone,
    params: Params,
    *,
    taps: Sequence[str] = (),
    batch_size: int = 8,
    devices: Sequence[Any] | None = None,
  ):
    self.backbone = backbone
    self.taps = tuple(taps) or tuple(backbone.taps)[:1]
    for tap in self.taps:
      if tap not in backbone.taps:
        raise ValueError(
          f"{backbone.name} has no features {tap!r}: it has {', '.join(backbone.taps)}"
        )
    self._mesh = Mesh(np.array(devices or jax.local_devices()), (_AXIS,))
    self.batch_size = -(-batch_size // self._mesh.size) * self._mesh.size
    self._params = jax.device_put(params, NamedSharding(self._mesh, P()))

  def __call__(self, video_BTHWC: np.ndarray) -> dict[str, np.ndarray]:
    """Features of up to `batch_size` clips in [0, 255], of any number type.

    Raises:
      ValueError: the network does not take clips of this length.
    """
    assert len(video_BTHWC) <= self.batch_size, video_BTHWC.shape
    self.backbone.check(video_BTHWC.shape)
    count = len(video_BTHWC)
    if self.backbone.prepare is not None:
      video_BTHWC = self.backbone.prepare(video_BTHWC)
    missing = self.batch_size - count
    if missing:
      repeated = np.repeat(video_BTHWC[-1:], missing, 0)
      video_BTHWC = np.concatenate([video_BTHWC, repeated])
    # Bytes travel as they are, at a quarter of the size.
    if video_BTHWC.dtype != np.uint8:
      video_BTHWC = video_BTHWC.astype(np.float32, copy=False)
    placed = jax.device_put(video_BTHWC, NamedSharding(self._mesh, P(_AXIS)))
    found = _program(self.backbone, self.taps, self._mesh)(self._params, placed)
    return {tap: np.asarray(value)[:count] for tap, value in jax.device_get(found).items()}


def extract_features(
  backbone: Backbone,
  params: Params,
  clips: Iterable[np.ndarray],
  *,
  taps: Sequence[str] = (),
  batch_size: int = 8,
) -> dict[str, np.ndarray]:
  """Features (N, D) of clips (T, H, W, 3) of one shape, in their order, float32.

  `clips` is read batch by batch; see `Extractor` for the rest.

  Raises:
    ValueError: a tap is unknown, a clip does not fit the network, or there are no clips.
  """
  extractor = Extractor(backbone, params, taps=taps, batch_size=batch_size)
  parts = [extractor(np.stack(batch)) for batch in _batches(clips, extractor.batch_size)]
  if not parts:
    raise ValueError("there are no clips to take features of")
  return {tap: np.concatenate([part[tap] for part in parts]) for tap in extractor.taps}


@functools.cache
def _program(backbone: Backbone, taps: tuple[str, ...], mesh: Mesh):
  def run(params: Params, video_BTHWC: jax.Array) -> dict[str, jax.Array]:
    # Of layers that do not say so themselves: TPUs and GPUs round factors otherwise.
    with jax.default_matmul_precision("highest"):
      found = backbone.features(params, video_BTHWC.astype(np.float32))
    return {tap: found[tap] for tap in taps}

  # Rows never meet, so each device has the network and its clips, and there is nothing to exchange.
  # Not `shard_map`: encoders look at the mesh, and this one is none that they know.
  whole, rows = (NamedSharding(mesh, spec) for spec in (P(), P(_AXIS)))
  return jax.jit(run, in_shardings=(whole, rows), out_shardings=rows)


def _batches(clips: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
  remaining = iter(clips)
  while batch := list(itertools.islice(remaining, size)):
    yield batch
