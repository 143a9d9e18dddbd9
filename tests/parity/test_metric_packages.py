"""The statistics of evaluation against the packages that published numbers come from."""

import importlib
from types import ModuleType

import numpy as np
import pytest
import torch

from tests import feature_sets
from vidjax import metrics
from vidjax.metrics import inception_score, video_statistics
from vidjax.metrics.kid import jedi_mmd

# Without eigenvalues near 0 they have 11 digits in common with us, with them 5.
FRECHET = {
  "well_conditioned": 1e-10,
  "fewer_samples_than_dims": 2e-5,
  "same_law": 1e-10,
  "small": 1e-10,
  "nearly_singular": 2e-5,
}
sets = pytest.mark.parametrize("name", feature_sets.FRECHET)
few = pytest.mark.filterwarnings("ignore:N=256 samples")


def optional(name: str) -> ModuleType:
  try:
    return importlib.import_module(name)
  except (ImportError, RuntimeError) as error:  # torchvision of another build: RuntimeError
    pytest.skip(f"{name.split('.')[0]} cannot be imported here: {error}")


def tensors(name: str) -> list[torch.Tensor]:
  return [torch.from_numpy(x.astype(np.float64)) for x in feature_sets.make(name)]


@few
@sets
def test_frechet_torchmetrics(name):
  fid = optional("torchmetrics.image.fid")
  real, fake = tensors(name)
  moments = [moment for x in (real, fake) for moment in (x.mean(0), torch.cov(x.T))]
  ours = metrics.frechet_distance(*feature_sets.make(name), ddof=1)
  assert ours == pytest.approx(float(fid._compute_fid(*moments)), rel=FRECHET[name])


def test_frechet_torchmetrics_in_batches():
  fid = optional("torchmetrics.image.fid")

  class Identity(torch.nn.Module):
    num_features = 16

    def forward(self, x):
      return x

  theirs = fid.FrechetInceptionDistance(feature=Identity()).set_dtype(torch.float64)
  for x, real in zip(tensors("small"), (True, False), strict=True):
    for part in x.split(50):
      theirs.update(part, real=real)
  ours = metrics.frechet_distance(*feature_sets.make("small"), ddof=1)
  assert ours == pytest.approx(float(theirs.compute()), rel=1e-10)


@few
@sets
def test_frechet_torch_fidelity(name):
  fid = optional("torch_fidelity.metric_fid")
  stats = [fid.fid_features_to_statistics(x) for x in tensors(name)]
  theirs = fid.fid_statistics_to_metric(*stats, False)["frechet_inception_distance"]
  ours = metrics.frechet_distance(*feature_sets.make(name), ddof=1)
  assert ours == pytest.approx(theirs, rel=FRECHET[name])


@pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated")
@few
@sets
def test_frechet_cd_fvd(name):
  """Whose statistics are StyleGAN-V's: covariances are divided by N."""
  fvd = optional("cdfvd.fvd")
  stats_of = optional("cdfvd.utils.metric_utils").FeatureStats
  stats = []
  for x in feature_sets.make(name):
    stats.append(stats_of(capture_mean_cov=True))
    for i in range(0, len(x), 16):
      stats[-1].append(x[i : i + 16])
  bare = object.__new__(fvd.cdfvd)
  theirs = float(bare.compute_fvd_from_stats(fake_stats=stats[1], real_stats=stats[0]))
  ours = metrics.frechet_distance(*feature_sets.make(name), ddof=0)
  assert ours == pytest.approx(theirs, rel=FRECHET[name])


@sets
def test_kid_torchmetrics(name):
  kid = optional("torchmetrics.image.kid")
  theirs = float(kid.poly_mmd(*tensors(name)))
  assert metrics.kid(*feature_sets.make(name)) == pytest.approx(theirs, abs=1e-10, rel=1e-10)


@sets
def test_jedi_scikit_learn(name):
  kernel = optional("sklearn.metrics.pairwise").polynomial_kernel
  x, y = (part.astype(np.float64) for part in feature_sets.make(name))
  xx, yy, xy = (kernel(*pair, degree=2, coef0=0).mean() for pair in ((x, x), (y, y), (x, y)))
  assert jedi_mmd(x, y) == pytest.approx(100 * (xx + yy - 2 * xy), rel=1e-10)


def test_inception_score_torch_fidelity():
  isc = optional("torch_fidelity.metric_isc")
  logits = 4 * np.random.default_rng(0).standard_normal((1003, 101)).astype(np.float32)
  theirs = isc.isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=False)
  scheme = inception_score.Scheme(splits=10)
  with pytest.warns(UserWarning, match="fewer than 10 per class"):
    ours = inception_score.of_logits(logits, scheme)
  assert ours.estimate.value == pytest.approx(theirs["inception_score_mean"], rel=1e-10)
  assert ours.sd == pytest.approx(theirs["inception_score_std"], rel=1e-8)


@pytest.fixture
def frames():
  rng = np.random.default_rng(0)
  smooth = np.cumsum(rng.integers(-9, 10, (40, 52, 3)), axis=1) + 128
  noisy = [smooth + rng.integers(-k, k + 1, smooth.shape) for k in (3, 40)]
  return [np.clip(x, 0, 255).astype(np.uint8) for x in noisy]


def test_frames_torchmetrics(frames):
  """In float64; their mean takes in windows of mirrored borders, which the paper has none of."""
  image = optional("torchmetrics.functional.image")
  a, b = (torch.from_numpy(x.astype(np.float64)).permute(2, 0, 1)[None] for x in frames)
  _, full = image.structural_similarity_index_measure(
    a, b, sigma=1.5, data_range=255.0, return_full_image=True
  )
  inside = float(full[..., 5:-5, 5:-5].mean())
  assert video_statistics.ssim(*frames) == pytest.approx(inside, rel=1e-10)
  theirs = image.peak_signal_noise_ratio(a, b, data_range=255.0)
  assert video_statistics.psnr(*frames) == pytest.approx(float(theirs), rel=1e-6)


def test_frames_scikit_image(frames):
  skimage = optional("skimage.metrics")
  theirs = skimage.structural_similarity(
    *frames, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=255
  )  # fmt: skip
  assert video_statistics.ssim(*frames) == pytest.approx(theirs, rel=1e-10)
  theirs = skimage.peak_signal_noise_ratio(*frames, data_range=255)
  assert video_statistics.psnr(*frames) == pytest.approx(theirs, rel=1e-12)
