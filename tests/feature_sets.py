"""Seeded sets of features, and distances between them that independent code computed."""

import numpy as np

# (seed, n, d, scale, shift, rank), then the Fréchet distance with ddof 0 and 1: QR of the centred
# features plus a nuclear norm, in float64; good to 50-digit arithmetic within 3e-14.
FRECHET = {
  "well_conditioned": ((0, 2048, 400, 1.2, 0.1, None), 48.9506038779, 48.9723995315),
  "fewer_samples_than_dims": ((1, 256, 400, 1.2, 0.1, None), 245.828213979, 246.762648657),
  "same_law": ((2, 2048, 400, 1.0, 0.0, None), 24.2348961926, 24.2465128145),
  "small": ((3, 256, 16, 1.3, 0.25, None), 3.65587985954, 3.66432715011),
  "nearly_singular": ((4, 2048, 400, 1.1, 0.05, 40), 335.183351303, 335.339090761),
}
# Unbiased squared MMD, kernel (x.y / D + 1)^3: torchmetrics and torch-fidelity give these digits.
KID = {
  "well_conditioned": 0.0324961729058,
  "fewer_samples_than_dims": 0.0321097251005,
  "same_law": 0.000547392830693,
  "small": 0.649223027302,
  "nearly_singular": 5.96495764741,
}
# 100 times the biased squared MMD, kernel (x.y / D)^2, by scikit-learn's kernel.
JEDI = {
  "well_conditioned": 0.261839661995,
  "fewer_samples_than_dims": 1.32168364591,
  "same_law": 0.0992042355123,
  "small": 11.4830359201,
  "nearly_singular": 378.571045062,
}


def make(name: str) -> tuple[np.ndarray, np.ndarray]:
  """The float32 features of a set. NumPy's PCG64 stream is the same on every machine."""
  seed, n, d, scale, shift, rank = FRECHET[name][0]
  g = np.random.Generator(np.random.PCG64(seed))
  mix = g.standard_normal((d, d)) / np.sqrt(d) if rank is None else g.standard_normal((rank, d))
  pair = []
  for _ in range(2):
    if rank is None:
      pair.append(g.standard_normal((n, d)) @ mix)
    else:
      x = g.standard_normal((n, rank)) @ mix
      pair.append(x + 1e-3 * g.standard_normal((n, d)))
  return pair[0].astype(np.float32), (pair[1] * scale + shift).astype(np.float32)


def by_qr(x: np.ndarray, y: np.ndarray, ddof: int) -> float:
  """The Fréchet distance without forming a covariance."""
  x, y = x.astype(np.float64), y.astype(np.float64)
  rx = np.linalg.qr(x - x.mean(0), mode="r") / np.sqrt(len(x) - ddof)
  ry = np.linalg.qr(y - y.mean(0), mode="r") / np.sqrt(len(y) - ddof)
  cross = np.linalg.svd(rx @ ry.T, compute_uv=False).sum()
  return ((x.mean(0) - y.mean(0)) ** 2).sum() + (rx**2).sum() + (ry**2).sum() - 2 * cross
