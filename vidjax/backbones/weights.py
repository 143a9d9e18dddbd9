"""Converted weights on disk: one `.safetensors` a network, with what they were made from.

The header's texts are `network`, `source` (name of the file), `source_sha256`, `eps` of its norms
("" where it has none) and `layers`, their number.
"""

from collections.abc import Mapping
import dataclasses
import hashlib

import numpy as np

from vidjax import lazy, storage
from vidjax.interop import safetensors
from vidjax.nn.params import Network, Params

SUFFIX = ".safetensors"
_NETWORK, _HASH = "network", "source_sha256"


@dataclasses.dataclass(frozen=True)
class Loaded:
  """A network's weights.

  Attributes:
    name: of the weights, see `registry.Backbone.weights`.
    params: float32 on the host, by flat name.
    sha256: of names, shapes and values, whatever file they came in.
    facts: texts about their source.
  """

  name: str
  params: Params
  sha256: str
  facts: Mapping[str, str]


def path(folder: storage.PathLike, name: str) -> storage.Path:
  """Where the weights `name` are in a folder of converted ones."""
  return storage.Path(folder) / (name.replace("/", "-") + SUFFIX)


def source_facts(source: storage.PathLike, network: Network, eps: float | None) -> dict[str, str]:
  """What is written beside weights that were read from `source`, a file or a folder."""
  return {
    "source": storage.Path(source).name,
    _HASH: source_sha256(source),
    "eps": "" if eps is None else repr(eps),
    "layers": str(sum(name.endswith(".kernel") for name in network.abstract)),
  }


def source_sha256(source: storage.PathLike) -> str:
  """SHA-256 of a file, or of the names and SHA-256 of all files in a folder."""
  if not storage.Path(source).is_dir():
    return storage.sha256(source)
  digest = hashlib.sha256()
  for file in storage.list_files(source):
    digest.update(f"{file.relative_to(source)} {storage.sha256(file)}\n".encode())
  return digest.hexdigest()


def write(
  folder: storage.PathLike, name: str, params: Params, facts: Mapping[str, str]
) -> storage.Path:
  """Writes weights; an older file of this name is replaced."""
  target = path(folder, name)
  specs = {key: (np.dtype(np.float32), params[key].shape) for key in sorted(params)}
  (written,) = safetensors.write(
    folder,
    target.name.removesuffix(SUFFIX),
    specs,
    lambda key: np.asarray(params[key]),
    max_shard_bytes=1 << 62,
    metadata={_NETWORK: name, **facts},
  )
  return written


def read(folder: storage.PathLike, name: str, network: Network) -> Loaded:
  """Reads weights that `write` has written.

  Raises:
    ValueError: there are none, or they are of another network; the message names the file and what
      to do.
  """
  file = path(folder, name)
  if not file.exists():
    raise ValueError(
      f"{file} does not exist: `vidjax convert_weights --network={name} --file=FILE"
      f" --out={folder}` makes it; --list says which file"
    )
  tensors, facts = safetensors.read_file(file)
  if facts.get(_NETWORK) != name:
    raise ValueError(
      f"{file} holds the weights of {facts.get(_NETWORK, 'some network')!r} and not of {name!r}:"
      " convert the file again"
    )
  expected = {key: leaf.shape for key, leaf in network.abstract.items()}
  found = {key: tensor.shape for key, tensor in tensors.items()}
  if found != expected:
    odd = sorted(
      key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)
    )
    raise ValueError(
      f"{file}: {odd[0]} is of shape {found.get(odd[0])}, expected {expected.get(odd[0])}: it was"
      " written by another version, convert the file again"
    )
  params = {key: tensor.read().astype(np.float32) for key, tensor in tensors.items()}
  return Loaded(name, params, lazy.sha256(params), facts)
