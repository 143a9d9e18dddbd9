"""How a training config fits a mesh: asked before anything is compiled, without a device.

A size that cannot be is an error (`check`). What is merely not divided, because its number does not
divide, is computed by every device of an axis, and is worth knowing (`computed_whole`).
"""

from collections.abc import Iterator, Mapping
import dataclasses
import math

from vidjax import denoising
from vidjax.config import TrainConfig
from vidjax.encoders import frozen
from vidjax.nn.norm import GROUPS


def check(config: TrainConfig, mesh: Mapping[str, int]) -> None:
  """Refuses a config that does not divide over a mesh.

  Args:
    config: of the run.
    mesh: size of each axis (`Mesh.shape`).

  Raises:
    ValueError: batch, frames or channels do not divide; the message has a line for each, with key,
      value and what would do.
  """
  if found := list(_problems(config, mesh)):
    raise ValueError("\n".join(found))


def in_parts(config: TrainConfig, mesh: Mapping[str, int]) -> TrainConfig:
  """The config with its batch in so many parts that no device takes more than `rows_per_device`.

  The same config then trains on few devices and on many: what differs is the order of sums.

  Args:
    config: one that `check` lets pass.
    mesh: size of each axis. Devices along `context` and `tensor` share their rows.

  Returns:
    The config, `accumulation_steps` being the fewest parts that will do, a multiple of what they
    were; `rows_per_device` is 0.

  Raises:
    ValueError: no number of parts divides both the rows and the pictures of a device.
  """
  shards = mesh["replica"] * mesh["fsdp"]
  rows, pictures = config.batch_size // shards, config.data.images.rows // shards
  most = config.rows_per_device or rows
  parts = config.accumulation_steps
  while rows > most * parts or rows % parts or pictures % parts:
    parts += config.accumulation_steps
    if parts > rows:  # only pictures that do not divide lead here
      raise ValueError(
        f"rows_per_device={most}: no number of parts divides both the {rows} rows and the"
        f" {pictures} pictures of a device: change batch_size or data.images.rows"
      )
  return dataclasses.replace(config, accumulation_steps=parts, rows_per_device=0)


def _problems(config: TrainConfig, mesh: Mapping[str, int]) -> Iterator[str]:
  parts = config.accumulation_steps
  divisor = mesh["replica"] * mesh["fsdp"] * parts
  factors = "mesh.replica x mesh.fsdp" + (" x accumulation_steps" if parts > 1 else "")
  for key, rows in (
    ("batch_size", config.batch_size),
    ("data.images.rows", config.data.images.rows),
  ):
    if rows % divisor:
      yield (
        f"{key}={rows} does not divide over {factors} = {divisor}: use a multiple of {divisor}"
      )
  frames, context, tensor = config.data.num_frames, mesh["context"], mesh["tensor"]
  if frames == 1 and context > 1:
    yield (
      f"mesh.context={context} divides the frames of clips, and data.num_frames=1: give its devices"
      " to mesh.fsdp"
    )
  elif frames % context:
    yield (
      f"data.num_frames={frames} does not divide over mesh.context={context}: use a multiple of"
      f" {context}, or mesh.context={_divisors(frames)}"
    )
  if tensor == 1:
    return
  if config.task == "autoencoder":
    yield (
      f"mesh.tensor={tensor}: the channels of an autoencoder are not divided: give its devices to"
      " mesh.fsdp"
    )
  elif GROUPS % tensor:
    yield (
      f"mesh.tensor={tensor} does not divide the {GROUPS} groups of channels that are normalised"
      f" together: use mesh.tensor={_divisors(GROUPS)}"
    )
  else:
    heads = denoising.unet_config(config).num_attention_heads
    if all(n % tensor for n in heads):
      yield (
        f"mesh.tensor={tensor} divides the attention heads of no level, num_attention_heads={heads}"
        f" of model.preset={config.model.preset!r}: use"
        f" mesh.tensor={_divisors(math.gcd(GROUPS, max(heads, key=lambda n: math.gcd(GROUPS, n))))}"
      )


def computed_whole(config: TrainConfig, mesh: Mapping[str, int]) -> list[str]:
  """What is not divided over `context` or `tensor` although the axis is there, a line for each."""
  context, tensor = mesh["context"], mesh["tensor"]
  if config.task == "autoencoder" or context * tensor == 1:
    return []
  unet = denoising.unet_config(config)
  factor = frozen.vae_downsampling(config.encoders.vae)
  views = config.data.buckets or ((config.data.height, config.data.width),)
  found = []
  for level, heads in enumerate(unet.num_attention_heads):
    used = unet.attention[level] or level == len(unet.attention) - 1
    if used and heads % tensor:
      found.append(f"level {level}: attention of {heads} heads, over mesh.tensor={tensor}")
    for height, width in sorted(views):
      # Halving rounds up, level by level.
      h, w = (-(-(pixels // factor) // 2**level) for pixels in (height, width))
      if unet.temporal != "none" and h * w % context:
        found.append(f"level {level}: temporal layers of {h} x {w}, over mesh.context={context}")
  images = config.data.images
  if context > 1 and (images.rows or images.every_steps):
    found.append(f"pictures beside the videos, over mesh.context={context}")
  return found


def _divisors(number: int) -> str:
  *others, last = (str(n) for n in range(1, number + 1) if number % n == 0)
  return f"{', '.join(others)} or {last}" if others else last
