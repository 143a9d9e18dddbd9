"""The order of the training stream: pure functions of (seed, global sample index).

Sample `index` of a run is the same clip, the same window and the same caption whatever the number
of hosts, of decoding processes, the batch size, and however often the run was interrupted, for
nothing here has state. Epoch `index // clips` visits every clip once, in an order of its own.

The arithmetic is spelled out (blake2b, SplitMix64, a Feistel network) and not taken from a
library's generator, since the order of a run that lasts months must survive its upgrades.
"""

import enum
import functools
import hashlib
import struct

_ROUNDS = 6  # of the Feistel network; 4 make a pseudo-random permutation, tiny domains like more
_MASK = 2**64 - 1


class Draw(enum.IntEnum):
  """What a random number is for: keeps the numbers of one sample independent of each other.

  The values are part of the order of every run: append, never renumber.
  """

  EPOCH = 0
  SUBSTITUTE = 1
  WINDOW = 2
  FLIP = 3
  CAPTION = 4
  EVALUATION = 5
  FPS = 6
  STREAM = 7


def uniform(seed: int, index: int, draw: Draw) -> float:
  """The random number in [0, 1) that sample `index` uses for `draw`."""
  return (_hash64(seed, index, draw) >> 11) / 2**53


def key(seed: int, draw: Draw, epoch: int = 0) -> int:
  """Names one of the 2^64 permutations of `permute`."""
  return _hash64(seed, epoch, draw)


def stream_seed(seed: int, *number: int) -> int:
  """Seed of one of several streams of a run; the first of all, number 0, has the run's own."""
  return _hash64(seed, Draw.STREAM, *number) if any(number) else seed


def permute(position: int, size: int, permutation: int) -> int:
  """Image of `position` under the pseudo-random `permutation` of `range(size)`, in O(1) memory.

  A Feistel network permutes the smallest square power of two that holds `size`; values that fall
  outside are permuted again until they fall inside ("cycle walking", Black and Rogaway 2002),
  which takes fewer than four rounds on average.
  """
  assert 0 <= position < size, f"{position=} {size=}"
  half = max(1, ((size - 1).bit_length() + 1) // 2)
  low = (1 << half) - 1
  round_keys = _round_keys(permutation)
  value = position
  while True:
    left, right = value >> half, value & low
    for round_key in round_keys:
      left, right = right, left ^ (_mix64(round_key ^ right) & low)
    value = left << half | right
    if value < size:
      return value


def clip_at(index: int, clips: int, seed: int, attempt: int = 0) -> int:
  """Number (0 to `clips - 1`) of the clip that sample `index` of the stream shows.

  Args:
    index: global sample index, from 0.
    clips: how many clips there are.
    seed: of the run.
    attempt: 0 follows the epoch's permutation; 1, 2, ... name substitutes in case that clip, and
      then its substitutes, cannot be decoded.
  """
  if attempt:
    return _hash64(seed, index, Draw.SUBSTITUTE, attempt) % clips
  epoch, position = divmod(index, clips)
  return permute(position, clips, key(seed, Draw.EPOCH, epoch))


def host_rows(global_batch: int, process_index: int, process_count: int) -> range:
  """Rows of the global batch that one host reads: contiguous, so that hosts concatenate to it.

  Raises:
    ValueError: the batch does not divide by the number of hosts.
  """
  if global_batch < 1 or global_batch % process_count:
    raise ValueError(
      f"batch_size={global_batch} does not divide by {process_count} hosts:"
      f" set batch_size to a positive multiple of {process_count}"
    )
  assert 0 <= process_index < process_count, f"{process_index=} {process_count=}"
  rows = global_batch // process_count
  return range(process_index * rows, (process_index + 1) * rows)


@functools.lru_cache(maxsize=64)
def _round_keys(permutation: int) -> tuple[int, ...]:
  return tuple(_hash64(permutation, r) for r in range(_ROUNDS))


def _mix64(word: int) -> int:
  """The finalizer of SplitMix64 (Steele et al. 2014): a cheap hash for the rounds."""
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
  word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _MASK
  return word ^ (word >> 31)


def _hash64(*words: int) -> int:
  packed = struct.pack(f"<{len(words)}Q", *(word & _MASK for word in words))
  return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little")
