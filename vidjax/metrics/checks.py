"""What feature sets have to be before anything is computed from them: errors, and warnings.

Legend: N samples, D feature dimensions.
"""

import warnings

import numpy as np


def checked(features: np.ndarray, name: str = "features", at_least: int = 2) -> np.ndarray:
  """Returns (N, D) features as float64.

  Args:
    features: any real dtype, bfloat16 included.
    name: what the set is called in messages.
    at_least: smallest N that is accepted.

  Raises:
    ValueError: not one (N, D) array of finite real numbers with N >= `at_least`; names the set,
      what is wrong with it and what it should be.
  """
  x = np.asarray(features)
  if x.ndim != 2 or x.shape[-1] < 1:
    raise ValueError(f"{name} must be one (N, D) array, got shape {x.shape}")
  if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)):
    try:
      x = x.astype(np.float64, casting="safe")  # bfloat16 and other extension dtypes
    except TypeError:
      raise ValueError(f"{name} must be real numbers, got dtype {x.dtype}") from None
  if len(x) < at_least:
    why = "a covariance needs" if at_least == 2 else "this needs"
    raise ValueError(f"{name}: N={len(x)}, {why} at least {at_least} samples")
  x = x.astype(np.float64, copy=False)
  bad_N = ~np.isfinite(x).all(axis=1)
  if bad_N.any():
    raise ValueError(
      f"{name}: {bad_N.sum()} of {len(x)} rows hold NaN or infinity, the first is row"
      f" {int(bad_N.argmax())}: remove them or find out which video made them"
    )
  return x


def checked_pair(
  real_ND: np.ndarray,
  fake_ND: np.ndarray,
  names: tuple[str, str] = ("real features", "fake features"),
) -> tuple[np.ndarray, np.ndarray]:
  """Returns both sets as float64 after checking what every distance here needs.

  Raises:
    ValueError: as `checked`, or the sets differ in D.
  """
  real_ND = checked(real_ND, names[0])
  fake_ND = checked(fake_ND, names[1])
  if real_ND.shape[1] != fake_ND.shape[1]:
    raise ValueError(
      f"{names[0]} have D={real_ND.shape[1]} and {names[1]} D={fake_ND.shape[1]}:"
      " both must come from the same network"
    )
  return real_ND, fake_ND


def warn_if_few(*features_ND: np.ndarray) -> None:
  """Warns where N < D: the Fréchet distance of so few samples is mostly bias."""
  n = min(len(x_ND) for x_ND in features_ND)
  dims = features_ND[0].shape[1]
  if n < dims:
    warnings.warn(
      f"N={n} samples in D={dims} dimensions: with N < D the covariance is singular and the Fréchet"
      " distance mostly bias; use more samples",
      stacklevel=3,
    )
