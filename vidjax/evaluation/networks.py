"""The networks of a protocol, with their weights: clips -> the features that its metrics need.

B clips, T F frames, H W pixels, N clips of a side, D features.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from vidjax import lazy, storage
from vidjax.backbones import extraction, registry
from vidjax.encoders import frozen, tokenizers
from vidjax.evaluation import scores, sides, sizes
from vidjax.evaluation.protocol import Metric, Protocol, SizeStep
from vidjax.metrics import video_statistics

RANDOM = "random"  # value of --weights that tries the machinery out, and compares with nothing
_SEED = 0
_TWO_SIDED = ("fvd", "fid", "jedi")  # kinds of metrics that see the real side
_TEXTS = 64  # prompts embedded at once


@dataclasses.dataclass(frozen=True)
class Loaded:
  """Weights of a protocol's networks, on the host.

  Attributes:
    protocol: whose networks they are.
    folder: of the weights, or `RANDOM`.
    weights: by name of network.
  """

  protocol: Protocol
  folder: str
  weights: Mapping[str, registry.weights.Loaded]

  def metrics(self, side: str) -> list[Metric]:
    """The metrics that need features of a side, "real" or "fake"."""
    return [m for m in self.protocol.metrics if side == "fake" or m.kind in _TWO_SIDED]

  def digests(self, side: str) -> dict[str, str]:
    """SHA-256 of the weights that see a side, by name of network."""
    mark = f"{RANDOM}, " if self.folder == RANDOM else ""
    names = sorted({metric.backbone for metric in self.metrics(side)})
    return {name: mark + self.weights[name].sha256 for name in names}

  def texts(self, ids: Sequence[str], texts: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Embeddings (N, D) of the prompts of clips, by name of network; for CLIPSIM."""
    names = sorted({m.backbone for m in self.protocol.metrics if m.kind == "clipsim"})
    return {name: _embedded(name, self.folder, [texts[id_] for id_ in ids]) for name in names}


def load(protocol: Protocol, folder: str) -> Loaded:
  """Reads the weights of all networks of a protocol.

  Raises:
    ValueError: a network is not known, its weights are not there or of another one, or it does not
      take the protocol's clips; the message says what to do.
  """
  loaded = {}
  for metric in protocol.metrics:
    backbone = registry.get(metric.backbone)
    if metric.tap not in backbone.taps:
      raise ValueError(
        f"protocol {protocol.name!r}: {backbone.name} has no features {metric.tap!r}: it has"
        f" {', '.join(backbone.taps)}"
      )
    if not _is_of_pictures(backbone):
      backbone.check((1, protocol.fake.num_frames, 8, 8, 3))
    if metric.backbone not in loaded:
      loaded[metric.backbone] = (
        registry.random(metric.backbone, _SEED)
        if folder == RANDOM
        else registry.load(metric.backbone, folder)
      )
  return Loaded(protocol, folder, loaded)


class Extractor:
  """Features of batches of clips of one side.

  Args:
    loaded: the networks.
    side: "real" or "fake".
  """

  def __init__(self, loaded: Loaded, side: str):
    protocol = loaded.protocol
    self._steps = getattr(protocol, side).size
    self._metrics = loaded.metrics(side)
    taps: dict[str, list[str]] = {}
    for metric in self._metrics:
      taps.setdefault(metric.backbone, []).append(metric.tap)
    self._networks = {
      name: extraction.Extractor(
        registry.get(name),
        loaded.weights[name].params,
        taps=sorted(set(of)),
        batch_size=sides.BATCH,
      )
      for name, of in taps.items()
    }

  def __call__(self, made: Sequence[sides.Made]) -> dict[str, np.ndarray]:
    """Arrays with a row for each clip; see `vidjax.evaluation.scores` for their names."""
    rows: list[dict[str, np.ndarray]] = [{} for _ in made]
    for group in _by_shape(made):
      clips_BTHWC = _sized(np.stack([made[i].frames_THWC for i in group]), self._steps)
      for name, found in self._features(clips_BTHWC).items():
        for i, row in zip(group, found, strict=True):
          rows[i][name] = row
    for row, clip in zip(rows, made, strict=True):
      record = video_statistics.measure(clip.frames_THWC, clip.given_HWC)
      row |= {name: np.float64(value) for name, value in scores.columns(record).items()}
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

  def _features(self, clips_BTHWC: np.ndarray) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, network in self._networks.items():
      if _is_of_pictures(network.backbone):
        frames = max((m.frames or len(clips_BTHWC[0])) for m in self._of(name))
        found |= _of_pictures(network, clips_BTHWC, frames)
      else:
        for tap, values_BD in network(clips_BTHWC).items():
          found[scores.key(name, tap)] = values_BD
    return found

  def _of(self, backbone: str) -> list[Metric]:
    return [metric for metric in self._metrics if metric.backbone == backbone]


def _is_of_pictures(backbone: registry.Backbone) -> bool:
  return backbone.frames == (1, 1)


def _of_pictures(
  network: extraction.Extractor, clips_BTHWC: np.ndarray, frames: int
) -> dict[str, np.ndarray]:
  """(B, F, D) features of frames that are spread evenly over each clip."""
  chosen_F = np.linspace(0, clips_BTHWC.shape[1] - 1, frames).round().astype(int)
  pictures_NHWC = clips_BTHWC[:, chosen_F].reshape(-1, 1, *clips_BTHWC.shape[2:])
  parts = [
    network(pictures_NHWC[start : start + network.batch_size])
    for start in range(0, len(pictures_NHWC), network.batch_size)
  ]
  return {
    scores.key(network.backbone.name, tap): np.concatenate([part[tap] for part in parts]).reshape(
      len(clips_BTHWC), frames, -1
    )
    for tap in network.taps
  }


def _by_shape(made: Sequence[sides.Made]) -> list[list[int]]:
  """Clips that go through the networks together: of one shape, and at most `sides.BATCH`."""
  groups: dict[tuple[int, ...], list[int]] = {}
  for i, clip in enumerate(made):
    groups.setdefault(clip.frames_THWC.shape, []).append(i)
  return [
    of[start : start + sides.BATCH]
    for of in groups.values()
    for start in range(0, len(of), sides.BATCH)
  ]


def _sized(clips_BTHWC: np.ndarray, steps: tuple[SizeStep, ...]) -> np.ndarray:
  """Clips at the protocol's size; bytes stay bytes where its last resize rounds to them."""
  if not steps:
    return clips_BTHWC
  resized = [step for step in steps if step.kind != "centre_crop"]
  # One compiled program a shape, whatever the number of clips.
  padded = np.pad(clips_BTHWC, [(0, sides.BATCH - len(clips_BTHWC)), *[(0, 0)] * 4])
  found = np.asarray(_program(steps)(padded))[: len(clips_BTHWC)]
  whole = not resized or resized[-1].rounded
  return found.astype(np.uint8) if whole else found


@functools.cache
def _program(steps: tuple[SizeStep, ...]):
  return jax.jit(lambda x_BTHWC: sizes.apply(jnp.asarray(x_BTHWC, jnp.float32), steps))


def _embedded(name: str, folder: str, texts: Sequence[str]) -> np.ndarray:
  """Projected embeddings (N, D) of texts by CLIP's text tower."""
  if folder == RANDOM:
    width = registry.get(name).taps["embedding"]
    drawn = {text: _drawn(text, width) for text in dict.fromkeys(texts)}
    return np.stack([drawn[text] for text in texts])
  below = storage.Path(folder) / name.replace("/", "-")
  place = str(below if below.exists() else folder)
  encoder = frozen.load_clip_text(place)
  tokenizer = tokenizers.load(place)
  params = jax.device_put(lazy.read_all(encoder.params, f"reading texts of {name}"))
  embed = jax.jit(lambda params, tokens: encoder.network.bind(params).embed(tokens))
  parts = []
  for start in range(0, len(texts), _TEXTS):
    batch = texts[start : start + _TEXTS]
    tokens_NL = np.stack([tokenizer(text) for text in batch])
    rest = _TEXTS - len(tokens_NL)
    parts.append(np.asarray(embed(params, np.pad(tokens_NL, ((0, rest), (0, 0)))))[: len(batch)])
  return np.concatenate(parts)


def _drawn(text: str, width: int) -> np.ndarray:
  seed = np.frombuffer(text.encode() or b"\0", np.uint8)
  return np.random.default_rng(seed).standard_normal(width).astype(np.float32)
