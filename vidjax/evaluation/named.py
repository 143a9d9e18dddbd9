"""The named protocols: what published papers compared, as far as they say it.

Where a paper is silent, the field has the choice that is most often made, and `Note.assumed` says
so: a number of ours is then near theirs, not beside it. Sources are papers and the code that came
with them; `docs/evaluation.md` explains each. A change of any field changes the protocol's hash,
which tests/golden/evaluation/protocols.txt holds: a name stands for one protocol for ever.
"""

import dataclasses
import difflib

from vidjax import storage
from vidjax.evaluation import protocol as protocols
from vidjax.evaluation.datasets.items import ClipRule
from vidjax.evaluation.protocol import FakeSet, Metric, Protocol, RealSet, SizeStep

DEFAULT = "svd-ucf101"


@dataclasses.dataclass(frozen=True)
class Note:
  """What stands beside a protocol and changes no number.

  Attributes:
    source: where it is described.
    assumed: what the source does not say.
  """

  source: str
  assumed: str = ""


# --- Parts --------------------------------------------------------------------------------------

_ALL = 13_320  # videos of UCF-101
_FIRST = ClipRule(frames=16, start="first")
_CENTRE = ClipRule(frames=16, start="centre")
_RANDOM = ClipRule(frames=16, start="random", short="discard")

_FVD_STYLEGAN_V = Metric("fvd", "i3d/torchscript", "logits", ddof=0)
_FVD_TATS = Metric("fvd", "i3d/tats", "logits", ddof=1)
_FVD_TFHUB = Metric("fvd", "i3d/tfhub", "logits", ddof=1)
_IS_10K = Metric("is", "c3d/tgan2", "logits", count=10_000, splits=10, eps=1e-20)
_CLIPSIM_B32 = Metric("clipsim", "clip/vit-b-32", "embedding")
_CLIPSIM_B16 = Metric("clipsim", "clip/vit-b-16", "embedding")


def _short_side(size: int) -> SizeStep:
  return SizeStep("short_side", size, 0, "bilinear", antialias=True, rounded=True)


def _crop(height: int, width: int) -> SizeStep:
  return SizeStep("centre_crop", height, width)


def _resize(height: int, width: int) -> SizeStep:
  return SizeStep("resize", height, width, "bilinear", antialias=True, rounded=True)


_SQUARE_256 = (_short_side(256), _crop(256, 256))


# --- Protocols ----------------------------------------------------------------------------------

_ROWS: tuple[tuple[Protocol, Note], ...] = (
  (
    Protocol(
      "svd-ucf101",
      RealSet("ucf101", "all", _FIRST),
      FakeSet(
        _ALL,
        "classname",
        histogram="all",
        fps=25.0,
        guidance=7.0,
        size=(_resize(240, 432), _crop(240, 320)),
      ),
      (_FVD_STYLEGAN_V,),
    ),
    Note(
      "Stable Video Diffusion, 2311.15127, appendix E.4",
      "the first 16 frames of each of the 13,320 real videos; 8-bit levels after the resize",
    ),
  ),
  (
    Protocol(
      "pixeldance-ucf101",
      RealSet("ucf101", "all", _FIRST, size=_SQUARE_256),
      FakeSet(10_000, "ours", histogram="train", size=_SQUARE_256),
      (
        _FVD_STYLEGAN_V,
        _IS_10K,
        Metric("fid", "inception/torch-fidelity", "2048", ddof=1),
      ),
    ),
    Note(
      "PixelDance, 2311.10982, 4.2.1: about 10K samples, a descriptive prompt for each class",
      "the real set, its frames, the copy of I3D, the flavour of Inception, frames of a video for"
      " FID (all), splits of IS; the prompts are ours, theirs are not published",
    ),
  ),
  (
    Protocol(
      "pixeldance-msrvtt",
      RealSet("msrvtt", "test", _FIRST, size=_SQUARE_256),
      FakeSet(None, "one_caption", size=_SQUARE_256),
      (_FVD_STYLEGAN_V, _CLIPSIM_B32),
    ),
    Note(
      "PixelDance, 2311.10982, 4.2.1: 2,990 videos, one random prompt for each",
      "the draw of prompts, the frames, the copy of I3D, the size of CLIP",
    ),
  ),
  (
    Protocol(
      "videoldm-ucf101",
      RealSet("ucf101", "train", _FIRST, size=_SQUARE_256),
      FakeSet(10_000, "classname", histogram="train", fps=30.0, size=_SQUARE_256),
      (_FVD_TFHUB, _IS_10K),
    ),
    Note(
      "Video LDM, 2304.08818, appendix: class names, 16 frames at 30 fps, 10K samples",
      "the real set, its frames, the size, the copy of I3D, splits of IS",
    ),
  ),
  (
    Protocol(
      "videoldm-msrvtt",
      RealSet("msrvtt", "test", _FIRST, size=_SQUARE_256),
      FakeSet(None, "one_caption", fps=30.0, size=_SQUARE_256),
      (_CLIPSIM_B32,),
    ),
    Note(
      "Video LDM, 2304.08818, appendix: one random prompt for each of 2,990 videos, ViT-B/32",
      "the draw of prompts, the size",
    ),
  ),
  (
    Protocol(
      "lavie-ucf101",
      RealSet(
        "ucf101", "train", _FIRST, size=(_short_side(270), _crop(270, 270), _resize(224, 224))
      ),
      FakeSet(10_100, "classname", histogram="uniform", size=(_crop(270, 270), _resize(224, 224))),
      (_FVD_TATS,),
    ),
    Note(
      "LaVie, 2309.15103, 5.4: 100 of each class, 320x512, centre crop 270x270, resize to 224",
      "the real set and its frames; others could not reach the published value (LaVie issue 65)",
    ),
  ),
  (
    Protocol(
      "show1-ucf101",
      RealSet("ucf101", "train", _FIRST, size=_SQUARE_256),
      FakeSet(10_000, "sentence", histogram="train", size=_SQUARE_256),
      (dataclasses.replace(_FVD_TATS, count=2048), _IS_10K),
    ),
    Note(
      "Show-1, 2309.15818, 4.2: 10K samples for IS, 2,048 for FVD, the prompts of PYoCo",
      "the real set, its frames, the copy of I3D, splits of IS; the prompts are a file of yours",
    ),
  ),
  (
    Protocol(
      "show1-msrvtt",
      RealSet("msrvtt", "test", _FIRST, count=2048, size=_SQUARE_256),
      FakeSet(None, "all_captions", size=_SQUARE_256),
      (dataclasses.replace(_FVD_TATS, count=2048), _CLIPSIM_B32),
    ),
    Note(
      "Show-1, 2309.15818, 4.2: all captions for CLIPSIM, 2,048 random videos for FVD",
      "the draw of videos, the frames, the copy of I3D, the size of CLIP",
    ),
  ),
  (
    Protocol(
      "videopoet-ucf101",
      RealSet("ucf101", "train", _CENTRE, count=10_000, size=_SQUARE_256),
      FakeSet(10_000, "sentence", histogram="train", fps=25.0, size=_SQUARE_256),
      (_FVD_TFHUB, _IS_10K),
    ),
    Note(
      "VideoPoet, 2312.14125, A.5.5: the prompts of PYoCo, central 16 frames, 10K of training",
      "splits of IS, the draw; that list has 9,537 videos, so all are taken; prompts are a file of"
      " yours",
    ),
  ),
  (
    Protocol(
      "videopoet-msrvtt",
      RealSet("msrvtt", "test", _CENTRE, count=2048, size=_SQUARE_256),
      FakeSet(None, "all_captions", fps=30.0, size=_SQUARE_256),
      (dataclasses.replace(_FVD_TFHUB, count=2048), _CLIPSIM_B16),
    ),
    Note(
      "VideoPoet, 2312.14125, A.5.5: 59,794 captions for CLIP, 2,048 videos for FVD, ViT-B/16",
      "the draw; theirs is the mean over 20 draws of generated samples, this is one draw",
    ),
  ),
  (
    Protocol(
      "dynamicrafter-ucf101",
      RealSet("ucf101", "all", ClipRule(frames=16, stride=3, short="discard"), count=2048),
      FakeSet(None, "classname", condition="first_frame", size=(_short_side(240), _crop(240, 320))),
      (_FVD_STYLEGAN_V,),
    ),
    Note(
      "DynamiCrafter, issue 6 of its repository: 2,048 videos, first frame given, 16 frames,"
      " every third",
      "the draw, the split, the copy of I3D; a model that reads pictures and no text is given none",
    ),
  ),
  (
    Protocol(
      "dynamicrafter-msrvtt",
      RealSet("msrvtt", "test", ClipRule(frames=16, stride=3, short="discard"), count=2048),
      FakeSet(
        None, "one_caption", condition="first_frame", size=(_short_side(240), _crop(240, 320))
      ),
      (_FVD_STYLEGAN_V,),
    ),
    Note(
      "DynamiCrafter, issue 6 of its repository: 2,048 videos, first frame given, 16 frames,"
      " every third",
      "the draw, the copy of I3D; a model that reads pictures and no text is given none",
    ),
  ),
  (
    Protocol(
      "stylegan-v",
      RealSet("folder", "", _RANDOM),
      FakeSet(2048, "given", condition="given"),
      (_FVD_STYLEGAN_V,),
    ),
    Note(
      "StyleGAN-V, 2112.14683 and its code: `fvd2048_16f`, any data set, unconditional models",
      "the draw of offsets: theirs is of one random stream, this of each video's id",
    ),
  ),
  (
    Protocol(
      "stylegan-v-ucf101",
      RealSet("ucf101", "train", _RANDOM),
      FakeSet(2048, "given", condition="given"),
      (
        _FVD_STYLEGAN_V,
        Metric("is", "c3d/torchscript", "logits", count=2048, splits=10, shuffle=42),
      ),
    ),
    Note(
      "StyleGAN-V, 2112.14683 and its code: `fvd2048_16f` and `isv2048_ucf`",
      "the draw of offsets: theirs is of one random stream, this of each video's id",
    ),
  ),
  (
    Protocol(
      "tgan2-ucf101",
      RealSet("ucf101", "train", _RANDOM),
      FakeSet(2048, "given", condition="given"),
      (
        Metric("is", "c3d/tgan2", "logits", count=2048, splits=1, eps=1e-20),
        Metric("fid", "c3d/tgan2", "fc7", ddof=1),
      ),
    ),
    Note(
      "TGANv2, 1811.09245 and its code: 2,048 samples, C3D, one split",
      "theirs is the mean over 10 sets of samples: score ten folders and average",
    ),
  ),
  (
    Protocol(
      "cd-fvd",
      RealSet("folder", "", _FIRST),
      FakeSet(2048, "given", condition="given"),
      (Metric("fvd", "videomae/v2-giant-ssv2", "pooled", ddof=0),),
    ),
    Note(
      "Content-debiased FVD, 2404.12391, and cd-fvd 0.1.1, model `videomae`: all real videos, 2,048"
      " samples, divided by N",
      "which frames of the real videos: first 16, where its loader cuts sequences",
    ),
  ),
  (
    Protocol(
      "cd-fvd-i3d",
      RealSet("folder", "", _FIRST),
      FakeSet(2048, "given", condition="given"),
      (dataclasses.replace(_FVD_TATS, ddof=0),),
    ),
    Note(
      "cd-fvd 0.1.1, model `i3d`: all real videos, 2,048 samples, divided by N",
      "which frames of the real videos: first 16, where its loader cuts sequences",
    ),
  ),
)

PROTOCOLS: dict[str, Protocol] = {row.name: row for row, _ in _ROWS}
NOTES: dict[str, Note] = {row.name: note for row, note in _ROWS}


def load(spec: str, limit: int | None = None) -> Protocol:
  """The protocol of a name, or of a `.json` file.

  Args:
    spec: a name in `PROTOCOLS`, or a path.
    limit: at most so many samples on either side; the hash then differs.

  Raises:
    ValueError: there is none, with the nearest name; or the file is no protocol, or takes a name
      that is known for another one.
  """
  if spec.endswith(".json"):
    found = protocols.read(spec)
    if found.name in PROTOCOLS and found != PROTOCOLS[found.name]:
      raise ValueError(
        f"{spec}: name={found.name!r} is that of a known protocol, which differs in"
        f" {'; '.join(protocols.differences(found.as_dict(), PROTOCOLS[found.name].as_dict()))}:"
        " give yours another name"
      )
  elif spec in PROTOCOLS:
    found = PROTOCOLS[spec]
  else:
    near = difflib.get_close_matches(spec, [*PROTOCOLS, "demo"], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(
      f"--protocol={spec}: {hint}known are {', '.join(PROTOCOLS)}, demo, or a .json file"
    )
  found = dataclasses.replace(found, limit=limit)
  protocols.check(found)
  return found


def write(protocol: Protocol, path: storage.PathLike) -> None:
  """Writes a protocol as a file that `load` reads, to start one of your own from."""
  storage.write_json(path, protocol.as_dict())
