"""Contact sheets and video files."""

import base64
import io

import av
import numpy as np
import PIL.Image
import pytest

from vidjax import render
from vidjax.data import video


def clip(frames=6, height=20, width=30):
  ramp = np.linspace(0, 1, frames, dtype=np.float32)[:, None, None, None]
  return np.broadcast_to(ramp, (frames, height, width, 3))


@pytest.mark.parametrize("suffix", render.VIDEO_SUFFIXES)
def test_video_files_have_the_frames_and_the_rate(tmp_path, suffix):
  path = tmp_path / f"clip{suffix}"
  render.write_video(path, clip(), fps=4.0)
  with av.open(str(path)) as container:
    frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert float(container.streams.video[0].average_rate) == pytest.approx(4.0)
  expected = render.to_uint8(clip())
  assert len(frames) == len(expected)
  assert np.abs(np.stack(frames).astype(int) - expected).max() < 12


def test_matroska_keeps_every_bit(tmp_path):
  noise = np.random.default_rng(0).integers(0, 256, (5, 21, 33, 3), np.uint8)
  render.write_video(tmp_path / "clip.mkv", noise, fps=25.0)
  info = video.probe(tmp_path / "clip.mkv")
  np.testing.assert_array_equal(video.read_frames_at(tmp_path / "clip.mkv", info.times_s), noise)


def test_other_suffixes_are_refused(tmp_path):
  with pytest.raises(ValueError, match=r"'.avi' is not known, use .mp4, .gif, .webm, .mkv"):
    render.write_video(tmp_path / "clip.avi", clip(), fps=4.0)
  assert not list(tmp_path.iterdir())


def test_to_uint8_rounds_and_clips():
  values = render.to_uint8(np.array([-1.0, 0.0, 0.4999, 0.5, 1.0, 7.0]))
  assert values.tolist() == [0, 0, 127, 128, 255, 255]
  given = np.array([3, 200], np.uint8)
  assert render.to_uint8(given) is given


def test_contact_sheet_shows_time_from_left_to_right():
  sheet = render.contact_sheet([render.Strip("", clip(16))], columns=4, frame_height=20)
  assert sheet.dtype == np.uint8
  row = sheet[8 + 10]  # through the middle of the frames
  centres = [8 + 15 + i * (30 + 2) for i in range(4)]
  assert row[centres, 0].tolist() == [0, 85, 170, 255]


def test_contact_sheet_takes_clips_of_different_sizes(tmp_path):
  strips = [render.Strip("a label", clip()), render.Strip("b", clip(3, 64, 32))]
  sheet = render.contact_sheet(strips, frame_height=48)
  render.write_png(tmp_path / "sheet.png", sheet)
  with av.open(str(tmp_path / "sheet.png")) as container:
    (frame,) = container.decode(video=0)
  assert (frame.height, frame.width) == sheet.shape[:2]


def test_a_moving_picture_has_all_frames_and_their_time():
  frames = np.stack([np.full((12, 18, 3), 20 * t, np.uint8) for t in range(5)])
  uri = render.moving_picture(frames, fps=4.0, quality=90)
  header, _, data = uri.partition(",")
  assert header == "data:image/webp;base64"
  with PIL.Image.open(io.BytesIO(base64.b64decode(data))) as picture:
    assert (picture.n_frames, picture.size) == (5, (18, 12))
    picture.seek(3)
    picture.load()
    assert picture.info["duration"] == 250
    assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - 60).max() < 12
