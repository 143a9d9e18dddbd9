"""Which parameters are trained, chosen by patterns of their names."""

from collections.abc import Iterable
import difflib
import fnmatch

from vidjax.config import OptimizerConfig


def trained_names(config: OptimizerConfig, names: Iterable[str]) -> frozenset[str]:
  """Names of the parameters that get gradients, moments and averages.

  All of them, or those that a pattern of `train_only` matches; without those of `freeze`.

  Raises:
    ValueError: a pattern matches no parameter, or nothing is left to train.
  """
  names = sorted(names)
  trained = set(names)
  if config.train_only:
    trained = _matches("optimizer.train_only", config.train_only, names)
  trained -= _matches("optimizer.freeze", config.freeze, names)
  if not trained:
    raise ValueError(
      f"optimizer.train_only={config.train_only} and optimizer.freeze={config.freeze} leave no"
      f" parameter to train, of {len(names)}"
    )
  return frozenset(trained)


def _matches(key: str, patterns: Iterable[str], names: list[str]) -> set[str]:
  found = set()
  for pattern in patterns:
    hits = fnmatch.filter(names, pattern)
    if not hits:
      raise ValueError(f"{key}: {pattern!r} matches no parameter; {_near(pattern, names)}")
    found.update(hits)
  return found


def _near(pattern: str, names: list[str]) -> str:
  """What may have been meant: names, or the beginnings that many of them share."""
  parts = [name.split(".") for name in names]
  known = {".".join(path[:stop]): None for path in parts for stop in range(1, len(path) + 1)}
  near = difflib.get_close_matches(pattern.strip("*."), known, n=3, cutoff=0.6)
  near = [name if name in names else f"{name}.*" for name in near]
  return f"near are {', '.join(near)}" if near else f"names look like {names[0]!r}"
