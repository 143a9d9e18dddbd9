"""The same video as a file, as pictures and as an array is the same clip, bit for bit."""

import dataclasses

import av
import media
import numpy as np
import PIL.Image
import pytest

from vidjax import errors
from vidjax.data import video
from vidjax.evaluation.datasets import ClipRule, Item, open_dataset, read_clip
from vidjax.evaluation.datasets.stored import VideoFile

UCF = "videos/v_BaseballPitch_g01_c01.avi"  # 107 frames
RULES = [
  ClipRule(),
  ClipRule(start="centre"),
  ClipRule(start="random", seed=3),
  ClipRule(start="random", stride=5, frames=9),
  ClipRule(frames=130, stride=3, short="loop"),
  ClipRule(fps=12.0, start="centre"),
  ClipRule(fps=40.0, stride=2, start="random"),
  ClipRule(fps=12.0, frames=40, short="loop"),
  ClipRule(fps=30000 / 1001, frames=100),  # every frame of the file
]


def decoded(path):
  """All frames, by the plain way of PyAV."""
  with av.open(str(path)) as container:
    return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def store(frames_THWC, folder):
  """One video in the three ways, all with the id "v"; returns an item of each."""
  (folder / "pictures" / "v").mkdir(parents=True)
  for i, frame in enumerate(frames_THWC):
    PIL.Image.fromarray(frame).save(folder / "pictures" / "v" / f"{i}.png", compress_level=1)
  for kind, save in (("npy", np.save), ("npz", np.savez), ("zip", np.savez_compressed)):
    (folder / kind).mkdir()
    save(folder / kind / ("v.npy" if kind == "npy" else "v.npz"), frames_THWC)
  return {
    kind: open_dataset("folder", str(folder / kind), fps=30000 / 1001).items[0]
    for kind in ("pictures", "npy", "npz", "zip")
  }


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory):
  frames = decoded(shared_data / UCF)
  assert len(frames) == 107
  folder = tmp_path_factory.mktemp("same")
  media.write(folder / "again" / "v.mp4", frames, fps=30000 / 1001)
  items = store(frames, folder)
  items["file"] = Item("v", None, (), VideoFile(str(shared_data / UCF)))
  items["again"] = open_dataset("folder", str(folder / "again")).items[0]
  return frames, items


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_file_pictures_and_arrays_give_the_same_clip(real, rule):
  frames, items = real
  clips = {kind: read_clip(item, rule) for kind, item in items.items()}
  first = clips["file"]
  assert first.frames_THWC.dtype == np.uint8
  assert first.frames_THWC.shape == (rule.frames, 240, 320, 3)
  for kind in ("pictures", "npy", "npz", "zip"):
    np.testing.assert_array_equal(clips[kind].frames_THWC, first.frames_THWC)
    assert clips[kind].fps == pytest.approx(first.fps)
  if rule.fps is None:
    expected = frames[rule.indices(107, "v")]
  else:
    size = int(np.ceil(107 * 1001 / 30000 * rule.fps))
    expected = frames[(rule.indices(size, "v") / rule.fps * 30000 / 1001 + 3e-3).astype(int)]
  np.testing.assert_array_equal(first.frames_THWC, expected)
  assert first.fps == pytest.approx((rule.fps or 30000 / 1001) / rule.stride)


def test_encoding_again_is_no_longer_the_same_clip(real):
  _, items = real
  one = read_clip(items["file"], ClipRule()).frames_THWC.astype(int)
  two = read_clip(items["again"], ClipRule()).frames_THWC.astype(int)
  assert one.shape == two.shape
  assert 0 < np.abs(one - two).mean() < 10, "close, and not the same"


def test_a_clip_says_what_decoded_it(real):
  _, items = real
  decoders = {kind: read_clip(item, ClipRule(frames=1)).decoder for kind, item in items.items()}
  assert decoders["file"].startswith(f"PyAV {av.__version__}, libavcodec ")
  assert decoders["pictures"] == f"Pillow {PIL.__version__} (png)"
  assert decoders["npy"] == f"NumPy {np.__version__} (pixels as stored)"


@pytest.mark.parametrize("promised", [2, 16, 100, 104, 110, 300])
@pytest.mark.parametrize("short", ["discard", "loop"])
def test_promises_of_packets_do_not_count(real, monkeypatch, promised, short):
  """Frames are counted, since of some codecs packets and frames are not the same number."""
  frames, items = real
  probe = video.probe
  monkeypatch.setattr(
    video, "probe", lambda f: dataclasses.replace(probe(f), times_s=np.arange(promised) / 30)
  )
  for rule in (ClipRule(start="centre", short=short), ClipRule(start="random", short=short)):
    expected = frames[rule.indices(107, "v")]
    np.testing.assert_array_equal(read_clip(items["file"], rule).frames_THWC, expected)


@pytest.mark.parametrize("start", ["first", "centre", "random"])
@pytest.mark.parametrize("kind", ["file", "pictures", "npy", "npz"])
def test_what_is_too_short(real, kind, start):
  frames, items = real
  rule = ClipRule(frames=27, stride=4, start=start)  # takes 105
  assert read_clip(items[kind], rule) is not None
  longer = dataclasses.replace(rule, frames=28)  # takes 109
  assert read_clip(items[kind], longer) is None
  looped = read_clip(items[kind], dataclasses.replace(longer, short="loop"))
  np.testing.assert_array_equal(looped.frames_THWC, frames[np.arange(28) * 4 % 107])
  with pytest.raises(errors.DataError, match=r"v: 107 frames, .* which needs 109"):
    read_clip(items[kind], dataclasses.replace(longer, short="error"))


def test_a_turned_video_is_upright(shared_data):
  item = Item("v", None, (), VideoFile(str(shared_data / "videos/nasa_13013_rotated.mp4")))
  assert read_clip(item, ClipRule(frames=2)).frames_THWC.shape == (2, 480, 270, 3)
  assert read_clip(item, ClipRule(frames=2, fps=5.0)).frames_THWC.shape == (2, 480, 270, 3)
