"""Decoding by time: the last frame with time stamp <= t, upright, on every kind of file."""

import fractions

import av
import numpy as np
import pytest

from tests import media
from vidjax.data import mp4, upright, video

SIDE = 64


def numbered(count: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
  """Frame i is gray of level 4 i: its mean tells its number."""
  levels = (4 * np.arange(count)).astype(np.uint8)
  return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def numbers(frames_THWC: np.ndarray) -> list[int]:
  return [round(float(frame.mean()) / 4) for frame in frames_THWC]


def quadrants(height: int, width: int) -> np.ndarray:
  """Red, green / blue, white: shows rotation and mirroring."""
  frame = np.zeros((height, width, 3), np.uint8)
  h, w = height // 2, width // 2
  frame[:h, :w, 0] = frame[:h, w:, 1] = frame[h:, :w, 2] = frame[h:, w:] = 255
  return frame


def corners(frame_HWC: np.ndarray) -> str:
  height, width = frame_HWC.shape[:2]
  names = {(True, False, False): "R", (False, True, False): "G", (False, False, True): "B"}
  found = ""
  for y in (height // 4, 3 * height // 4):
    for x in (width // 4, 3 * width // 4):
      found += names.get(tuple(bool(v > 128) for v in frame_HWC[y, x]), "W")
  return found


def test_frame_at_a_time_is_the_last_one_not_later():
  data = mp4.encode_mp4(numbered(48), np.arange(48) / 24)
  times_s = [0.0, 0.04, 1 / 24, 0.5, 0.999, 1.0, 1.9583333]
  assert numbers(video.read_frames_at(data, times_s)) == [0, 0, 1, 12, 23, 24, 47]


def test_times_outside_give_the_first_and_the_last_frame():
  data = mp4.encode_mp4(numbered(10), np.arange(10) / 10)
  assert numbers(video.read_frames_at(data, [-1.0, 0.0, 5.0, 9.0])) == [0, 0, 9, 9]


def test_variable_frame_rate_is_read_by_time_not_by_number():
  times_s = np.array([0.0, 0.04, 0.08, 1.0, 1.5, 1.54, 3.0])
  data = mp4.encode_mp4(numbered(7), times_s)
  asked_s = np.arange(0, 3.5, 0.25)
  expected = [int(np.searchsorted(times_s, t + 1e-4, side="right")) - 1 for t in asked_s]
  assert numbers(video.read_frames_at(data, asked_s)) == expected
  np.testing.assert_allclose(video.probe(data).times_s, times_s, atol=1e-5)


@pytest.mark.parametrize("start_s", [0.0, 0.7, 1.3, 2.9, 3.9])
def test_seeking_gives_the_frames_of_a_full_decode(start_s):
  frames = media.shot(1, 96)
  data = mp4.encode_mp4(frames, np.arange(96) / 24)
  times_s = start_s + np.arange(5) / 20
  with video.FrameReader(data) as reader:
    every = [(f.time_s, upright.rgb(f.picture, reader.stream)) for f in reader]
  stamps_s = np.array([t for t, _ in every])
  picked = np.searchsorted(stamps_s, times_s + 1e-4, side="right") - 1
  expected = np.stack([every[i][1] for i in picked])
  np.testing.assert_array_equal(video.read_frames_at(data, times_s), expected)


def test_seeking_in_a_file_with_one_key_frame(tmp_path):
  path = media.write(tmp_path / "long_gop.mkv", numbered(60), fps=20, gop=1000)
  assert numbers(video.read_frames_at(str(path), [2.5, 2.55])) == [50, 51]


def test_round_trip_keeps_colours():
  frames = np.stack([quadrants(64, 96)] * 3)
  data = mp4.encode_mp4(frames, [0.0, 0.1, 0.2], crf=4)
  read = video.read_frames_at(data, [0.0])[0]
  inner = np.r_[8:24, 40:56]
  assert np.abs(read[inner][:, inner].astype(int) - frames[0][inner][:, inner]).max() <= 6


@pytest.mark.parametrize(("rotation", "expected"), [(0, "RGBW"), (-90, "BRWG"), (90, "GWRB")])
def test_rotated_files_are_read_upright(tmp_path, rotation, expected):
  frames = np.stack([quadrants(48, 80)] * 4)
  path = media.write(tmp_path / "turned.mp4", frames, rotation=rotation)
  info = video.probe(str(path))
  assert info.rotation == rotation
  assert (info.width, info.height) == ((80, 48) if rotation == 0 else (48, 80))
  frame = video.read_frames_at(str(path), [0.0])[0]
  assert frame.shape[:2] == (info.height, info.width)
  assert corners(frame) == expected


def test_wide_pixels_become_square(tmp_path):
  aspect = fractions.Fraction(2, 1)
  path = media.write(tmp_path / "anamorphic.mkv", numbered(3), aspect=aspect)
  info = video.probe(str(path))
  assert (info.width, info.height) == (2 * SIDE, SIDE)
  assert video.read_frames_at(str(path), [0.0]).shape == (1, SIDE, 2 * SIDE, 3)


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("ten_bit.mkv", {"pix_fmt": "yuv420p10le"}),
    ("full_chroma.mp4", {"pix_fmt": "yuv444p"}),
    ("vp9.webm", {"codec": "libvpx-vp9"}),
    ("old.avi", {"codec": "mpeg4"}),
    ("picture.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
  ],
)
def test_codecs_and_pixel_formats(tmp_path, name, options):
  path = media.write(tmp_path / name, media.shot(3, 12), fps=10, **options)
  info = video.probe(str(path))
  assert (info.width, info.height, info.num_frames) == (128, 72, 12)
  frames = video.read_frames_at(str(path), [0.0, 0.5])
  assert np.abs(frames[1].astype(int) - media.shot(3, 12)[5]).mean() < 20


def test_odd_sizes_gain_a_row_and_a_column():
  frames = numbered(4, height=33, width=45)
  data = mp4.encode_mp4(frames, np.arange(4) / 4)
  assert video.read_frames_at(data, [0.0]).shape == (1, 34, 46, 3)


def test_equal_frames_give_equal_bytes_and_the_index_comes_first():
  frames = media.shot(5, 30)
  data = mp4.encode_mp4(frames, np.arange(30) / 30)
  assert data == mp4.encode_mp4(frames, np.arange(30) / 30)
  assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_key_frames_come_at_least_every_second():
  times_s = np.concatenate([np.arange(30) / 30, 1 + np.arange(20) / 7])
  data = mp4.encode_mp4(media.shot(6, 50), times_s)
  with video.FrameReader(data) as reader:
    keys_s = [f.time_s for f in reader if f.picture.key_frame]
  assert keys_s[0] == 0
  assert np.diff([*keys_s, times_s[-1]]).max() < 1 + 1 / 7


def test_written_mp4_has_the_frame_rate(tmp_path):
  mp4.write_mp4(tmp_path / "new" / "x.mp4", numbered(14), fps=7)
  info = video.probe(str(tmp_path / "new" / "x.mp4"))
  assert info.num_frames == 14
  assert info.fps == pytest.approx(7, rel=1e-3)
  assert info.duration_s == pytest.approx(2.0, abs=1e-3)


def test_writing_needs_uint8_frames(tmp_path):
  with pytest.raises(ValueError, match="uint8"):
    mp4.write_mp4(tmp_path / "x.mp4", numbered(2).astype(np.float32), fps=7)
  with pytest.raises(ValueError, match="at least one frame"):
    mp4.encode_mp4([], [])


def test_sound_alone_is_no_video(tmp_path):
  path = media.write_sound(tmp_path / "sound.mp4")
  with pytest.raises(video.NoVideoError, match="no video stream"):
    video.probe(str(path))


def test_a_cover_picture_is_no_video(tmp_path):
  path = tmp_path / "song.mp4"
  media.write_sound(path)
  cover = tmp_path / "cover.m4a"
  with av.open(str(path)) as source, av.open(str(cover), "w", format="mp4") as target:
    stream = target.add_stream_from_template(source.streams.audio[0])
    art = target.add_stream("mjpeg", rate=1)
    art.width, art.height, art.pix_fmt = 32, 32, "yuvj420p"
    art.disposition = av.stream.Disposition.attached_pic
    target.mux(art.encode(av.VideoFrame(32, 32, "yuvj420p")))
    target.mux(art.encode(None))
    for packet in source.demux(source.streams.audio[0]):
      if packet.dts is not None:
        packet.stream = stream
        target.mux(packet)
  with pytest.raises(video.NoVideoError):
    video.probe(str(cover))


def test_a_truncated_file_gives_its_frames_and_an_error(tmp_path):
  data = mp4.encode_mp4(media.shot(7, 60), np.arange(60) / 20)
  with video.FrameReader(data[: int(len(data) * 0.6)]) as reader:
    count = sum(1 for _ in reader)
  assert 10 < count < 55
  assert reader.frames_decoded == count
  assert reader.errors


def test_falling_times_are_refused():
  data = mp4.encode_mp4(numbered(3), [0.0, 0.1, 0.2])
  for times_s in ([0.2, 0.1], []):
    with pytest.raises(ValueError, match="ascending"):
      video.read_frames_at(data, times_s)


def test_frame_counts_of_real_files(shared_data):
  import json

  manifest = json.loads((shared_data / "MANIFEST.json").read_text())
  names = ["tree.avi", "nasa_13013_vfr.mp4", "keyboard_rot90.mov", "pigs_in_a_polka.gif"]
  for entry in manifest["files"]:
    if entry["file"].removeprefix("videos/") in names:
      with video.FrameReader(str(shared_data / entry["file"])) as reader:
        times_s = [frame.time_s for frame in reader]
      assert len(times_s) == entry["frames"], entry["file"]
      assert np.all(np.diff(times_s) > 0)
      assert not reader.errors
