"""Many clips through the autoencoder's encoder in chunks of one shape: one program, full devices.

Clips follow each other in a chunk without a gap, so that pictures and short clips leave no device
idle. Frames are encoded each for itself, so what a frame gives does not depend on its neighbours.

Legend: F frames of a chunk, T frames of a clip, H W pixels, h w latent height and width, C colours,
Z latent channels.
"""

import collections
from collections.abc import Iterator, Sequence
import concurrent.futures
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vidjax.data import latents, samples, transforms
from vidjax.data.clip import Clip, Source
from vidjax.encoders import frozen
from vidjax.encoders.vae import VAEConfig
from vidjax.nn.params import Params
from vidjax.parallel import plan


@dataclasses.dataclass(frozen=True)
class View:
  """What is seen of a clip: all of it at `fps`, in `height` x `width` pixels."""

  height: int
  width: int
  fps: float


@dataclasses.dataclass
class Encoded:
  """One clip, or why there is none of it.

  Attributes:
    name: where the clip is, for people.
    clip: None where it could not be opened.
    parts: float16 (T, h, w, 2 Z) each, joined all frames: means, then log-variances.
    error: what went wrong; the other fields mean nothing then.
  """

  name: str
  clip: Clip | None = None
  parts: list[np.ndarray] = dataclasses.field(default_factory=list)
  error: str = ""


@dataclasses.dataclass(frozen=True)
class _Piece:
  """What decoding some rows of a clip gave.

  Attributes:
    of: the clip.
    clip: opened.
    frames_THWC: uint8; none where there is an error.
    error: why.
    last: whether the clip ends here.
  """

  of: Encoded
  clip: Clip | None
  frames_THWC: np.ndarray
  error: str
  last: bool


@dataclasses.dataclass
class _Chunk:
  """Frames to be encoded at once, and whose they are.

  Attributes:
    frames_FHWC: uint8; rows that are not filled are black.
    filled: rows.
    places: the clips in their order with their rows; None in the place of rows ends a clip.
  """

  frames_FHWC: np.ndarray
  filled: int = 0
  places: list[tuple[Encoded, slice | None]] = dataclasses.field(default_factory=list)


class FrameEncoder:
  """Encodes clips of a source.

  Attributes:
    chunk: F.
    frame_bytes: size of one frame's moments.

  Args:
    vae: the autoencoder.
    view: how clips are shown.
    mesh: devices that share each chunk.
    chunk: F; a multiple of the devices.

  Raises:
    ValueError: the view does not fit the autoencoder, or the chunk the devices.
  """

  def __init__(
    self, vae: frozen.Encoder[VAEConfig], view: View, mesh: jax.sharding.Mesh, chunk: int
  ):
    factor = vae.config.downsampling
    if view.height % factor or view.width % factor:
      raise ValueError(
        f"data.height={view.height}, data.width={view.width}: the autoencoder takes multiples of"
        f" {factor}"
      )
    self._vae, self._view, self.chunk = vae, view, chunk
    self._mesh = mesh
    divisor = plan.batch_divisor(self._mesh)
    if chunk < 1 or chunk % divisor:
      raise ValueError(f"--chunk={chunk} does not divide over {divisor} devices")
    shape = (view.height // factor, view.width // factor, 2 * vae.config.latent_channels)
    self.frame_bytes = 2 * int(np.prod(shape))  # of one frame's moments
    with jax.set_mesh(self._mesh):
      self._weights = jax.device_put(
        {name: np.asarray(value, np.float32) for name, value in vae.params.items()},
        jax.NamedSharding(self._mesh, jax.P()),
      )
    self._run = jax.jit(self._moments)

  def encode(self, source: Source, clips: Sequence[int], workers: int) -> Iterator[Encoded]:
    """The moments of some clips, in their order; one that cannot be read comes with its error.

    Args:
      source: of the clips.
      clips: their numbers.
      workers: threads that decode ahead; decoding runs outside of Python's lock.
    """
    pending: tuple[_Chunk, jax.Array] | None = None
    for chunk in self._chunks(self._pieces(source, clips, workers)):
      running = (chunk, self._start(chunk.frames_FHWC))
      if pending is not None:  # the device works on one chunk while the next is filled
        yield from _finished(*pending)
      pending = running
    if pending is not None:
      yield from _finished(*pending)

  def _chunks(self, pieces: Iterator[_Piece]) -> Iterator[_Chunk]:
    """Packs frames one after the other; the last chunk may have black rows at its end."""
    chunk = self._empty()
    for piece in pieces:
      piece.of.clip = piece.clip
      piece.of.error = piece.of.error or piece.error
      frames = piece.frames_THWC
      while len(frames):
        first = chunk.filled
        chunk.filled = min(self.chunk, first + len(frames))
        count = chunk.filled - first
        chunk.frames_FHWC[first : chunk.filled] = frames[:count]
        chunk.places.append((piece.of, slice(first, chunk.filled)))
        frames = frames[count:]
        if chunk.filled == self.chunk:
          yield chunk
          chunk = self._empty()
      if piece.last:
        chunk.places.append((piece.of, None))
    if chunk.places:
      yield chunk

  def _empty(self) -> _Chunk:
    # A new one each time: the device may still read the one before.
    return _Chunk(np.zeros((self.chunk, self._view.height, self._view.width, 3), np.uint8))

  def _start(self, frames_FHWC: np.ndarray) -> jax.Array:
    with jax.set_mesh(self._mesh):
      sharding = jax.NamedSharding(self._mesh, plan.batch_spec(self._mesh))
      return self._run(self._weights, jax.device_put(frames_FHWC, sharding))

  def _moments(self, weights: Params, frames_FHWC: jax.Array) -> jax.Array:
    """(F, h, w, 2 Z) float16; the pixels are made as training makes them."""
    x_FTHWC = frames_FHWC[:, None].astype(jnp.float32) / 127.5 - 1.0
    moments = self._vae.network.bind(weights).encode_moments(x_FTHWC)
    return jnp.concatenate(moments, axis=-1)[:, 0].astype(jnp.float16)

  def _pieces(self, source: Source, clips: Sequence[int], workers: int) -> Iterator[_Piece]:
    """All frames of all clips in their order, decoded ahead by threads."""
    with concurrent.futures.ThreadPoolExecutor(max(1, workers)) as pool:
      ahead: collections.deque[concurrent.futures.Future[_Piece]] = collections.deque()
      try:
        for job in self._jobs(source, clips):
          ahead.append(pool.submit(self._read, source, *job))
          if len(ahead) > 2 * workers:
            yield ahead.popleft().result()
        while ahead:
          yield ahead.popleft().result()
      finally:
        pool.shutdown(wait=True, cancel_futures=True)

  def _jobs(
    self, source: Source, clips: Sequence[int]
  ) -> Iterator[tuple[int, Encoded, range, bool]]:
    """(clip, what becomes of it, rows to decode, whether they end it); several if it is long."""
    for number in clips:
      rows = latents.num_rows(source.listing.durations_s[number], self._view.fps)
      of = Encoded(source.name(number))
      for first in range(0, rows, self.chunk):
        last = min(rows, first + self.chunk)
        yield number, of, range(first, last), last == rows

  def _read(self, source: Source, number: int, of: Encoded, rows: range, last: bool) -> _Piece:
    """Decodes some rows of a clip."""
    size = (self._view.height, self._view.width)
    try:
      clip = source[number]
      frames = clip.read(np.array(rows) / self._view.fps, size)
      return _Piece(of, clip, transforms.crop(frames, size), "", last)
    except samples.DAMAGE as error:
      none = np.zeros((0, *size, 3), np.uint8)
      return _Piece(of, None, none, f"{type(error).__name__}: {error}", last)


def _finished(chunk: _Chunk, moments: jax.Array) -> Iterator[Encoded]:
  """Waits for the device and gives the clips that end in this chunk."""
  on_host = jax.device_get(moments)
  for of, rows in chunk.places:
    if rows is not None:
      of.parts.append(on_host[rows])
      if not np.isfinite(of.parts[-1]).all():
        of.error = of.error or "its moments are not finite in float16"
    else:
      yield of
