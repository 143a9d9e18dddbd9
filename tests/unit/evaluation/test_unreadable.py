"""Videos that cannot be read end in one error that names them."""

import av
import media
import numpy as np
import PIL.Image
import pytest

from vidjax import errors
from vidjax.evaluation.datasets import ClipRule, Item, open_dataset, read_clip
from vidjax.evaluation.datasets.stored import VideoFile

BROKEN = ["truncated_no_moov.mp4", "nasa_13013_audio.mp3", "nasa_13013_audio_only.mp4"]
RULES = [ClipRule(), ClipRule(start="centre"), ClipRule(fps=8.0)]


@pytest.mark.parametrize("rule", RULES, ids=["first", "centre", "grid"])
@pytest.mark.parametrize("name", [*BROKEN, "not there.mp4"])
def test_files_without_a_video(shared_data, name, rule):
  item = Item("v", None, (), VideoFile(str(shared_data / "videos" / name)))
  with pytest.raises(errors.DataError, match=rf"{name} cannot be decoded: \w+: "):
    read_clip(item, rule)


def test_a_file_that_breaks_off_gives_what_is_before_the_break(shared_data):
  item = Item("v", None, (), VideoFile(str(shared_data / "videos" / "truncated_midstream.mp4")))
  assert read_clip(item, ClipRule()).frames_THWC.shape == (16, 360, 640, 3)
  with pytest.raises(errors.DataError, match=r"truncated_midstream.mp4 cannot be .* damaged at or"):
    read_clip(item, ClipRule(frames=170))
  with pytest.raises(errors.DataError, match="damaged at or before frame 16"):
    read_clip(item, ClipRule(start="centre"))


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_damage_before_the_last_frame_is_an_error(tmp_path, codec):
  suffix = "avi" if codec == "mpeg4" else "mp4"
  path = media.write(tmp_path / f"v.{suffix}", media.shot(0, 24), codec=codec)
  with av.open(str(path)) as container:
    packet = [p for p in container.demux(video=0) if p.size][10]
    place, size = packet.pos, packet.size
  content = bytearray(path.read_bytes())
  middle = place + size // 2
  content[middle : middle + 8] = np.random.default_rng(2).bytes(8)
  path.write_bytes(content)
  item = Item("v", None, (), VideoFile(str(path)))
  assert read_clip(item, ClipRule(frames=9)) is not None
  with pytest.raises(errors.DataError, match=r"v\.\w+ cannot be decoded: .* damaged at or before"):
    read_clip(item, ClipRule(frames=16))


def test_an_empty_file_and_a_text(tmp_path):
  for name, content in (("a.mp4", b""), ("b.mp4", b"hello"), ("c.gif", b"GIF89a")):
    (tmp_path / name).write_bytes(content)
  for item in open_dataset("folder", str(tmp_path)).items:
    with pytest.raises(errors.DataError, match=rf"{item.id}\.\w+ cannot be decoded"):
      read_clip(item, ClipRule())


def test_frames_of_two_sizes(tmp_path):
  (tmp_path / "v").mkdir()
  for i, size in enumerate([(8, 6), (8, 6), (6, 8)]):
    PIL.Image.new("RGB", size).save(tmp_path / "v" / f"{i}.png")
  (item,) = open_dataset("folder", str(tmp_path)).items
  assert read_clip(item, ClipRule(frames=2)).frames_THWC.shape == (2, 6, 8, 3)
  with pytest.raises(errors.DataError, match=r"v: frames of different sizes, \(6, 8, 3\) and \(8,"):
    read_clip(item, ClipRule(frames=3))


def test_a_damaged_picture_is_named(tmp_path, shared_data):
  (tmp_path / "v").mkdir()
  content = (shared_data / "images" / "truncated.jpg").read_bytes()
  (tmp_path / "v" / "0.jpg").write_bytes(content)
  (item,) = open_dataset("folder", str(tmp_path)).items
  with pytest.raises(errors.DataError, match=r"0\.jpg cannot be read: damaged picture"):
    read_clip(item, ClipRule(frames=1))


def test_a_grid_in_time_needs_a_rate(tmp_path):
  np.save(tmp_path / "v.npy", media.shot(0, 8, height=8, width=8))
  (item,) = open_dataset("folder", str(tmp_path)).items
  clip = read_clip(item, ClipRule(frames=4))
  assert clip.fps is None
  with pytest.raises(ValueError, match=r"v\.npy: frames without a frame rate, .* 4 per second"):
    read_clip(item, ClipRule(frames=4, fps=4.0))


def test_clips_of_absurdly_many_pixels_are_refused_at_their_first_frame(tmp_path, monkeypatch):
  np.save(tmp_path / "v.npy", media.shot(0, 8, height=8, width=8))
  media.write(tmp_path / "w.mp4", media.shot(0, 8, height=16, width=16))
  monkeypatch.setattr("vidjax.data.limits.MAX_CLIP_BYTES", 8 * 8 * 3 * 3)
  for item in open_dataset("folder", str(tmp_path)).items:
    for rule in (ClipRule(frames=4), ClipRule(frames=4, fps=24.0)):
      if item.id == "w" or rule.fps is None:
        with pytest.raises(errors.DataError, match="take fewer frames in the clip rule"):
          read_clip(item, rule)
