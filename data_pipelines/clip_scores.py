"""CLIP's scores: how a frame looks (aesthetics), and how well a text fits it (similarity).

Stable Video Diffusion, appendix C: both on the first, middle and last frame of each clip. CLIP is
our own (`vidjax.encoders.clip`), on the accelerator where there is one; weights are the user's.

Legend: N pictures or texts, S side, L tokens, X embedding, I O inputs and outputs of a layer.
"""

from collections.abc import Sequence
import dataclasses
import functools
import re
import threading
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines import config as config_lib
from vidjax import lazy, storage
from vidjax.encoders import clip, frozen, tokenizers
from vidjax.interop import pickles, safetensors

# Programs are compiled once for each process, by whichever thread comes first.
_lock = threading.Lock()
# One of them runs at a time: threads share the device, and what it takes is measured.
_running = threading.Lock()


class Embedded(NamedTuple):
  """Embeddings, (N, X) float32 of unit length, and the processor seconds that they took.

  The seconds are those of the process meanwhile, since the threads that compute are not ours;
  compilation is not among them.
  """

  vectors_NX: np.ndarray
  cpu_s: float


@dataclasses.dataclass(frozen=True)
class Head:
  """Linear layers on an embedding of unit length, one after the other; the last gives the score."""

  layers: tuple[tuple[np.ndarray, np.ndarray], ...]

  @property
  def width(self) -> int:
    """X."""
    return self.layers[0][0].shape[1]

  def __call__(self, embeddings_NX: np.ndarray) -> np.ndarray:
    """Scores (N,)."""
    h_NI = embeddings_NX
    for weight_OI, bias_O in self.layers:
      h_NI = h_NI @ weight_OI.T + bias_O
    return h_NI[:, 0]


def load_head(path: str) -> Head:
  """Reads a head: `.safetensors`, or a pickle of tensors (which needs the extra `torch`).

  LAION's linear head has `weight` and `bias`, the one with more layers `layers.N.weight` and
  `layers.N.bias`, without activations between.

  Raises:
    ValueError: there is none, or it is none.
  """
  if pickles.is_pickle(path):
    with pickles.as_safetensors(path) as local:
      return _head(local, path)
  return _head(path, path)


def _head(local: str, path: str) -> Head:
  if not storage.Path(local).exists():
    raise ValueError(f"look.aesthetic={path}: there is no such file")
  tensors, _ = safetensors.read_file(local)
  names = [n for n in tensors if re.fullmatch(r"(.*\.)?(\d+\.)?weight", n)]
  names.sort(key=lambda n: [int(part) for part in re.findall(r"\d+", n)])
  layers = []
  for name in names:
    bias = name.removesuffix("weight") + "bias"
    if bias not in tensors or len(tensors[name].shape) != 2:
      raise ValueError(f"look.aesthetic={path}: {name!r} is no linear layer with a bias")
    weight_OI, bias_O = (np.asarray(tensors[n].read(), np.float32) for n in (name, bias))
    if layers and weight_OI.shape[1] != layers[-1][0].shape[0]:
      raise ValueError(f"look.aesthetic={path}: {name!r} does not fit the layer before it")
    layers.append((weight_OI, bias_O))
  if not layers or layers[-1][0].shape[0] != 1:
    raise ValueError(f"look.aesthetic={path}: no linear layers that end in one score")
  return Head(tuple(layers))


class Scorer:
  """CLIP with its weights on the device."""

  def __init__(self, spec: str, head: Head | None, batch_size: int):
    image, text = _towers(spec)
    if head:
      _check_fits(head, image.config, spec)
    self.side = image.config.image_size
    self.width = image.config.projection_dim
    self._head = head
    self.batch_size = batch_size
    self._tokenizer = tokenizers.load(spec)
    self._image, self._text = (
      jax.device_put(lazy.read_all(e.params, "reading CLIP")) for e in (image, text)
    )

    def embed_pictures(params, pictures_NSSC):
      x_NSSC = pictures_NSSC.astype(jnp.float32) / 255
      mean, std = (jnp.asarray(v).reshape(1, 1, 1, 3) for v in (clip.PIXEL_MEAN, clip.PIXEL_STD))
      return _unit(image.network.bind(params).embed_pixels((x_NSSC - mean) / std))

    def embed_texts(params, tokens_NL):
      return _unit(text.network.bind(params).embed(tokens_NL))

    self._embed_pictures, self._embed_texts = jax.jit(embed_pictures), jax.jit(embed_texts)
    self._compiled: dict[Any, Any] = {}

  def embed_pictures(self, pictures_NSSC: np.ndarray) -> Embedded:
    """Embeddings of uint8 pictures as of `look.clip_picture`."""
    return self._in_batches(self._embed_pictures, self._image, pictures_NSSC)

  def embed_texts(self, texts: Sequence[str]) -> Embedded:
    """Embeddings of texts; those that are too long are cut."""
    tokens_NL = np.stack([self._tokenizer(text) for text in texts])
    return self._in_batches(self._embed_texts, self._text, tokens_NL)

  def aesthetics(self, embeddings_NX: np.ndarray) -> np.ndarray | None:
    """Scores (N,) of pictures; None without a head."""
    return self._head(embeddings_NX) if self._head else None

  def _in_batches(self, function: Any, params: Any, inputs_N: np.ndarray) -> Embedded:
    """Always the same shape: one program, and results that do not depend on what is beside.

    Programs for fewer inputs would round differently, and a run that goes on after an interruption
    would then differ from one that was not interrupted. Callers come with full batches instead.
    """
    results, cpu_s = [], 0.0
    for start in range(0, len(inputs_N), self.batch_size):
      part = inputs_N[start : start + self.batch_size]
      rest = [(0, self.batch_size - len(part)), *[(0, 0)] * (part.ndim - 1)]
      padded = np.pad(part, rest)
      with _running:
        if function not in self._compiled:
          self._compiled[function] = function.lower(params, padded).compile()
        began_s = time.process_time()
        results.append(np.asarray(self._compiled[function](params, padded))[: len(part)])
        cpu_s += time.process_time() - began_s
    vectors_NX = np.concatenate(results) if results else np.zeros((0, self.width), np.float32)
    return Embedded(vectors_NX, cpu_s)


def check(config: config_lib.LookConfig) -> str:
  """Opens what a config names, without reading weights; a short hash of the files.

  Raises:
    ValueError: something is not there, or does not fit together.
  """
  image, _ = _towers(config.clip)
  tokenizers.load(config.clip)
  parts: list[object] = []
  if storage.Path(config.clip).exists():
    parts += [dataclasses.astuple(state)[1:] for state in storage.file_states(config.clip)]
  if config.aesthetic:
    _check_fits(load_head(config.aesthetic), image.config, config.clip)
    parts.append(storage.sha256(config.aesthetic))
  return config_lib.fingerprint(str(parts))


def scorer(config: config_lib.LookConfig) -> Scorer | None:
  """The scorer of this process; None where the config names no CLIP."""
  if not config.clip:
    return None
  with _lock:
    return _scorer(config.clip, config.aesthetic, config.batch_size)


@functools.lru_cache(maxsize=1)
def _scorer(spec: str, aesthetic: str, batch_size: int) -> Scorer:
  return Scorer(spec, load_head(aesthetic) if aesthetic else None, batch_size)


def _towers(
  spec: str,
) -> tuple[frozen.Encoder[clip.VisionConfig], frozen.Encoder[clip.TextConfig]]:
  image, text = frozen.load_image(spec), frozen.load_clip_text(spec)
  if image.config.projection_dim != text.config.projection_dim:
    raise ValueError(
      f"look.clip={spec}: its towers embed in {image.config.projection_dim} and "
      f"{text.config.projection_dim} dimensions: they do not belong together"
    )
  return image, text


def _check_fits(head: Head, tower: clip.VisionConfig, spec: str) -> None:
  if head.width != tower.projection_dim:
    raise ValueError(
      f"look.aesthetic: a head on {head.width} dimensions, look.clip={spec} has "
      f"{tower.projection_dim}"
    )


def _unit(x_NX: jax.Array) -> jax.Array:
  return x_NX / jnp.linalg.norm(x_NX, axis=-1, keepdims=True)
