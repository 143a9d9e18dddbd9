"""Data sets of cached latents: what they have to fit, said before anything is compiled.

What an autoencoder makes of a frame is decided by its encoder. A decoder that was tuned afterwards,
as SVD's was on top of Stable Diffusion's encoder (2311.15127), reads the same latents.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import hashlib
import json
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidjax import lazy, storage
from vidjax.conditioning.modes import MODES
from vidjax.config import TrainConfig
from vidjax.data import latents
from vidjax.data.config import DataConfig, SetConfig
from vidjax.data.latents import Manifest
from vidjax.encoders import frozen, tokenizers
from vidjax.encoders.vae import VAEConfig
from vidjax.nn.params import Params
from vidjax.parallel import mesh as meshes

_ENCODER = ("encoder.", "quant_conv.")  # names of its parameters
_OF_DECODER = ("use_post_quant_conv", "temporal_decoder", "scaling_factor")  # fields beside those


def cached(data: DataConfig) -> bool:
  """Whether a run reads latents instead of pixels.

  Raises:
    ValueError: some of its data sets hold the one and some the other.
  """
  kinds = {member.kind == "latents" for member, _ in _views(data)}
  if len(kinds) > 1:
    raise ValueError(
      "some data sets of config.data are of kind 'latents' and others hold pixels: cache the"
      " latents of all with `vidjax cache_latents`, or of none"
    )
  return kinds == {True}


def cached_parts(data: DataConfig) -> frozenset[str]:
  """Kinds of the encoders that a run does not need, as what they make is cached."""
  kinds = {"vae"} if cached(data) else set()
  return frozenset(kinds | ({"text"} if text_shape(data) else set()))


def text_shape(data: DataConfig) -> tuple[int, int] | None:
  """(L, X) of the cached embeddings of texts; None where none are cached.

  A folder that is not there yet has none: a run can be planned before its latents are cached, and
  `check` refuses to start it.

  Raises:
    ValueError: some of the data sets have them, others do not, or of another shape.
  """
  if not cached(data):
    return None
  folders = [member.path for member, _ in _views(data) if storage.Path(member.path).exists()]
  texts = [latents.read_manifest(folder).text for folder in folders]
  shapes = {(text["length"], text["width"]) if text else None for text in texts}
  if len(shapes) > 1:
    raise ValueError(
      "some data sets of config.data have cached texts and others have none, or of another length:"
      " cache them for all with `vidjax cache_latents --text`, or for none"
    )
  return shapes.pop() if shapes else None


def check_use(config: TrainConfig) -> None:
  """Refuses cached latents for what needs pixels; reads no data.

  Raises:
    ValueError: the task, the mode or the views do; the message says what to use instead.
  """
  if not cached(config.data):
    return
  mode = config.conditioning.mode
  if config.task != "diffusion":
    raise ValueError(
      f"task={config.task!r} learns from pixels: data of kind 'latents' have none; train on the"
      " data set that they were made of"
    )
  if MODES[mode].images:
    textual = [name for name, of in MODES.items() if not of.images]
    raise ValueError(
      f"conditioning.mode={mode!r} shows the model pixels: data of kind 'latents' have none; use"
      f" them with {' or '.join(textual)}, and the data set that they were made of here"
    )
  if config.data.buckets or config.data.images.buckets:
    raise ValueError("data.buckets: cached latents are of one view, data.height x data.width")


def check(config: TrainConfig) -> None:
  """Refuses cached latents that are not what training from pixels would compute.

  Raises:
    ValueError: as `check_use`, or the latents are of another autoencoder, view or crop; the message
      says what differs.
    FileNotFoundError, DataError: there are no latents that can be read.
  """
  check_use(config)
  if not cached(config.data):
    return
  wanted: Manifest | None = None
  for member, (height, width) in _views(config.data):
    if member.flip:
      raise ValueError(
        f"{member.path}: flip=True mirrors pixels, and latents are no pixels: set it to False"
      )
    stored = latents.read_manifest(member.path)
    if wanted is None:
      text = describe_text(config.encoders.text) if text_shape(config.data) else {}
      wanted = manifest(frozen.load_vae(config.encoders.vae), height, width, stored.fps, text)
    if stored.text and member.template != "{caption}":
      raise ValueError(
        f"{member.path}: what the text encoder makes of its texts is cached as they are:"
        f" template={member.template!r} would change them. Leave it away, or cache without --text"
      )
    _compare(member.path, stored, dataclasses.replace(wanted, height=height, width=width))


def manifest(
  vae: frozen.Encoder[VAEConfig],
  height: int,
  width: int,
  fps: float,
  text: Mapping[str, Any] | None = None,
) -> Manifest:
  """Describes the latents that `vae` makes of a view, and the embeddings of `describe_text`."""
  encoder = {name: w for name, w in vae.params.items() if name.startswith(_ENCODER)}
  assert encoder
  return Manifest(
    vae_sha256=lazy.sha256({name: np.asarray(w, np.float32) for name, w in encoder.items()}),
    vae={k: v for k, v in dataclasses.asdict(vae.config).items() if k not in _OF_DECODER},
    scaling_factor=vae.config.scaling_factor,
    height=height,
    width=width,
    fps=fps,
    text=text or {},
  )


def describe_text(spec: str) -> dict[str, Any]:
  """Describes what the text encoder in `spec` makes of texts, see `Manifest.text`.

  Raises:
    ValueError: there is no text encoder, or no tokenizer.
  """
  encoder, tokenizer = frozen.load_text(spec), tokenizers.load(spec)
  tokens_1L = jax.ShapeDtypeStruct((1, tokenizer.length), jnp.int32)
  embedded = jax.eval_shape(
    lambda params, tokens: encoder.network.bind(params)(tokens), encoder.network.abstract, tokens_1L
  )
  shape = dataclasses.asdict(encoder.config)
  del shape["dtype"]  # in which it computes, not what it is
  return {
    "sha256": lazy.sha256({n: np.asarray(w, np.float32) for n, w in encoder.params.items()}),
    "config": json.loads(json.dumps(shape)),
    "tokenizer": _sha256_of_files(tokenizer),
    "length": int(embedded.shape[1]),
    "width": int(embedded.shape[2]),
  }


def _sha256_of_files(tokenizer: tokenizers.Tokenizer) -> str:
  digest = hashlib.sha256()
  with tempfile.TemporaryDirectory(prefix="vidjax-") as folder:
    tokenizers.save(tokenizer, folder)
    for file in storage.list_files(folder):
      digest.update(file.name.encode() + b"\0" + storage.read_bytes(file))
  return digest.hexdigest()


def pictures(config: TrainConfig, frames: np.ndarray) -> np.ndarray:
  """Samples' frames (N, T, ...) to look at: (N, T, H, W, C) float32 in [0, 1].

  Pixels are those of the video; cached moments are decoded, from their means.
  """
  if frames.dtype == np.uint8:
    return frames.astype(np.float32) / 255.0
  vae = frozen.load_vae(config.encoders.vae)

  def run(weights: Params, moments_NThwC: jax.Array) -> jax.Array:
    mean, _ = jnp.split(moments_NThwC.astype(jnp.float32), 2, axis=-1)
    return jnp.clip(vae.network.bind(weights).decode(mean) * 0.5 + 0.5, 0.0, 1.0)

  weights = lazy.read_all(vae.params, "reading vae encoder")
  with jax.set_mesh(meshes.make_mesh(meshes.MeshConfig(), jax.local_devices()[:1])):
    return jax.device_get(jax.jit(run)(weights, jnp.asarray(frames)))


def differences(stored: Manifest, wanted: Manifest) -> list[str]:
  """What `stored` latents have that is not `wanted`, one text for each field."""

  def flat(of: Manifest) -> dict[str, Any]:
    values = of.as_dict()
    parts = {part: values.pop(part) for part in ("vae", "text")}
    return values | {f"{p}.{name}": value for p, of in parts.items() for name, value in of.items()}

  have, want = flat(stored), flat(wanted)
  return [
    f"{key} is {have.get(key)!r}, not {want.get(key)!r}"
    for key in sorted(have.keys() | want.keys())
    if have.get(key) != want.get(key)
  ]


def _compare(path: str, stored: Manifest, wanted: Manifest) -> None:
  wanted = dataclasses.replace(wanted, fps=stored.fps)  # a window takes what it needs of the grid
  if changes := differences(stored, wanted):
    raise ValueError(
      f"{path}/{latents.MANIFEST}: the latents do not fit the encoders and the view of config.data:"
      f" {'; '.join(changes)}. Write them anew with `{latents.WRITER}`, or set what made them"
    )


def _views(data: DataConfig) -> Iterator[tuple[SetConfig, tuple[int, int]]]:
  """Each data set that a run reads, with (height, width) of its view."""
  for member in data.members:
    yield member, (data.height, data.width)
  if data.images.every_steps or data.images.rows:
    view = (data.images.height or data.height, data.images.width or data.width)
    for member in data.images.sets or data.members:
      yield member, view
