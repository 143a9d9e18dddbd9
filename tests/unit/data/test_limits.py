"""Pictures and videos that say absurd sizes, or that name other files."""

import fractions
import io
import struct
import zlib

import media
import numpy as np
import PIL.Image
import pytest

from data_pipelines import analyse, config
from vidjax import errors, request_files
from vidjax.data import limits, pictures, transforms, video


def png(width: int, height: int) -> bytes:
  """A picture of which there is only the beginning."""

  def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum

  head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100)))


@pytest.mark.parametrize("size", [(16385, 8192), (100_000, 100_000), (2**31 - 1, 2**31 - 1)])
def test_pictures_of_absurd_size_are_refused_before_they_are_decoded(size):
  for look in (pictures.probe, pictures.read):
    with pytest.raises(errors.DataError, match="ecompression"):
      look(png(*size))


@pytest.mark.parametrize("size", [(4096, 4096), (7680, 4320), (15360, 8640)])
def test_pictures_of_cameras_pass(size):
  assert pictures.probe(png(*size)) == size[::-1]


def test_a_picture_of_the_size_of_a_camera_is_read():
  stream = io.BytesIO()
  PIL.Image.new("L", (4096, 4096)).save(stream, "png")
  assert pictures.read(stream.getvalue()).shape == (4096, 4096, 3)


def test_a_line_is_not_blown_up_to_cover_a_view():
  with pytest.raises(errors.DataError, match="1x1000 pixels is too narrow for a view of 256x256"):
    transforms.cover(np.zeros((1, 1, 1000, 3), np.uint8), (256, 256))
  assert transforms.cover_size((1000, 20_000), (256, 256)) == (256, 5120)


@pytest.fixture
def clip(tmp_path):
  return media.write(tmp_path / "x.mp4", media.shot(0, 6))


def test_videos_of_absurd_size_are_refused_before_they_are_decoded(clip, monkeypatch):
  monkeypatch.setitem(limits.DECODER, "max_pixels", "5000")
  monkeypatch.setitem(video.picked.REPORT_DAMAGE, "max_pixels", "5000")
  for source in (str(clip), clip.read_bytes()):
    with pytest.raises(video.av.error.FFmpegError):
      video.probe(source)
    with pytest.raises((video.av.error.FFmpegError, ValueError)):
      video.read_frames_at(source, [0.0])
    with video.FrameReader(source) as reader:
      assert not list(reader)


def test_pixels_that_are_no_squares_do_not_make_a_video_absurd(tmp_path, monkeypatch):
  path = media.write(tmp_path / "w.mp4", media.shot(0, 6), aspect=fractions.Fraction(60, 1))
  assert video.probe(str(path)).width == 128 * 60
  monkeypatch.setattr(limits, "MAX_PIXELS", 128 * 72 * 59)
  with pytest.raises(video.NoVideoError, match="says that it has 7680x72 pixels"):
    video.probe(str(path))
  with pytest.raises(video.NoVideoError, match="says that it has 7680x72 pixels"):
    video.read_frames_at(str(path), [0.0])


def test_playlists_do_not_lead_to_other_files(clip, tmp_path):
  concat = tmp_path / "concat.mp4"
  concat.write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
  with video.av.open(str(concat)) as opened:
    assert opened.streams.video, "FFmpeg by itself follows it"
  hls = tmp_path / "hls.m3u8"
  hls.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip.name}\n#EXT-X-ENDLIST\n")
  for path in (concat, hls):
    for look in (video.probe, video.FrameReader):
      with pytest.raises(video.av.error.FFmpegError):
        look(str(path))


def test_names_are_files_and_no_protocols(clip, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(video.av.error.FileNotFoundError):
    video.probe(f"concat:{clip.name}|{clip.name}")
  (tmp_path / "data:x.mp4").write_bytes(clip.read_bytes())
  assert video.probe("data:x.mp4").num_frames == 6


def test_a_clip_that_memory_does_not_hold_is_refused(clip, monkeypatch):
  monkeypatch.setattr(limits, "MAX_CLIP_BYTES", 6 * 72 * 128 * 3 - 1)
  with pytest.raises(ValueError, match=r"--video=.*x\.mp4 cannot be read .* 6 frames of 128x72"):
    request_files.read_clip("video", str(clip), 16, 16)


def test_a_picture_that_is_asked_for_by_flag_is_a_users_error(tmp_path):
  PIL.Image.new("RGB", (1000, 1)).save(tmp_path / "line.png")
  with pytest.raises(ValueError, match=r"line\.png: a picture of 1x1000 pixels is too narrow"):
    request_files.read_image("image", str(tmp_path / "line.png"), 64, 64)


def test_curation_rejects_a_video_of_absurd_size(tmp_path, monkeypatch):
  path = media.write(tmp_path / "w.mp4", media.shot(0, 6), aspect=fractions.Fraction(60, 1))
  monkeypatch.setattr(limits, "MAX_PIXELS", 128 * 72 * 59)
  # In this process, whose limit is another one.
  found = analyse._analyse_local(str(path), "w.mp4", "", config.CurateConfig(), lambda: None)
  assert found.reject is not None
  assert "says that it has 7680x72 pixels" in found.reject.error
