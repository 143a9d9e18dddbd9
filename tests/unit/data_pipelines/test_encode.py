"""Stored clips: exactly the frames of the span, upright, at training size, in time."""

import dataclasses
import fractions

import av
import numpy as np
import pytest

from data_pipelines import analyse, config, encode
from tests import media
from vidjax.data import mp4, upright, video

CURATE = config.CurateConfig(
  select=config.SelectConfig(min_seconds=0.5), encode=config.EncodeConfig(short_side=48, crf=12)
)


def curated(tmp_path, path, curate_config=CURATE):
  """All clips of a file with their mp4, whatever their verdict."""
  found = analyse.analyse(path.parent, path.name, tmp_path / "cache", curate_config)
  assert found.reject is None
  return list(encode.encode_source(str(path), found.clips, curate_config.encode))


def test_clips_hold_the_frames_between_the_cuts(tmp_path):
  source = np.concatenate([media.shot(1, 30), media.shot(2, 41)])
  path = media.write(tmp_path / "v.mkv", source, fps=20)
  clips = curated(tmp_path, path)
  assert [(c.start_frame, c.end_frame) for c, _ in clips] == [(0, 30), (30, 71)]
  for clip, data in clips:
    info = video.probe(data)
    assert info.num_frames == clip.end_frame - clip.start_frame
    assert (info.width, info.height) == (86, 48)
    times_s = np.arange(info.num_frames) / 20
    stored = video.read_frames_at(data, times_s)
    expected = video.read_frames_at(str(path), clip.start_time_s + times_s)
    for frame, original in zip(stored, expected, strict=True):
      assert np.abs(frame.mean((0, 1)) - original.mean((0, 1))).max() < 4


def test_adjacent_pieces_lose_no_frame(tmp_path):
  path = media.write(tmp_path / "v.mp4", media.shot(3, 90), fps=30)
  pieces = config.CurateConfig(
    cut=config.CutConfig(max_seconds=1.0),
    select=config.SelectConfig(min_seconds=0.5),
    encode=CURATE.encode,
  )
  counts = [video.probe(data).num_frames for _, data in curated(tmp_path, path, pieces)]
  assert counts == [30, 30, 30]


@pytest.mark.parametrize(("fps", "expected"), [(24, 24), (29.97, 29.97), (50, 25), (60, 30)])
def test_high_frame_rates_are_thinned_evenly(tmp_path, fps, expected):
  path = media.write(tmp_path / "v.mp4", media.shot(4, int(fps)), fps=fps)
  ((clip, data),) = curated(tmp_path, path)
  assert clip.source_fps == pytest.approx(fps, rel=1e-3)
  assert clip.fps == pytest.approx(expected, rel=1e-3)
  np.testing.assert_allclose(np.diff(video.probe(data).times_s), 1 / expected, atol=1e-4)


def test_variable_rates_are_kept(tmp_path):
  times_s = np.array([0, 0.1, 0.2, 0.6, 0.7, 1.5, 1.6, 1.7, 2.0])
  path = media.write(tmp_path / "v.mkv", media.shot(5, 9), times_s=times_s)
  ((_, data),) = curated(tmp_path, path)
  np.testing.assert_allclose(video.probe(data).times_s, times_s, atol=2e-3)


def test_rotation_and_pixel_aspect_are_baked_in(tmp_path):
  tall = media.write(tmp_path / "a" / "v.mp4", media.shot(6, 30), rotation=90)
  ((clip, data),) = curated(tmp_path, tall)
  assert (clip.width, clip.height, clip.rotation) == (72, 128, 90)
  assert (video.probe(data).width, video.probe(data).height) == (48, 86)
  assert video.probe(data).rotation == 0
  wide = media.write(tmp_path / "b" / "v.mp4", media.shot(7, 30), aspect=fractions.Fraction(3, 2))
  ((clip, data),) = curated(tmp_path, wide)
  assert (clip.width, clip.height) == (192, 72)
  assert (video.probe(data).width, video.probe(data).height) == (128, 48)


@pytest.mark.parametrize(
  ("size", "short_side", "expected"),
  [
    ((1920, 1080), 256, (456, 256)),
    ((1080, 1920), 256, (256, 456)),
    ((314, 273), 256, (294, 256)),
    ((33, 45), 256, (32, 44)),
    ((320, 180), 256, (320, 180)),
  ],
)
def test_stored_sizes_are_even_and_never_larger(size, short_side, expected):
  assert encode.stored_size(*size, short_side) == expected


def test_clips_start_at_zero_with_a_key_frame_every_second(tmp_path):
  path = media.write(tmp_path / "v.mkv", media.shot(8, 75), fps=25)
  ((_, data),) = curated(tmp_path, path)
  with video.FrameReader(data) as reader:
    assert reader.stream.codec_context.name == "h264"
    assert reader.stream.codec_context.pix_fmt == "yuv420p"
    keys_s = [f.time_s for f in reader if f.picture.key_frame]
  assert keys_s == pytest.approx([0.0, 1.0, 2.0])


@pytest.mark.parametrize(("matrix", "full_range"), [(1, False), (2, False), (6, False), (1, True)])
def test_colours_are_those_of_the_way_through_rgb(tmp_path, matrix, full_range):
  """Stored without that way, or with it, a clip has the colours that the source shows."""
  path = tmp_path / "v.mp4"
  frames = media.shot(8, 12, height=180, width=320)
  with av.open(str(path), "w") as container:
    stream = container.add_stream("libx264", rate=24, options={"crf": "4"})
    stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
    stream.codec_context.colorspace = matrix
    stream.codec_context.color_range = 2 if full_range else 1
    for frame in frames:
      picture = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(
        format="yuv420p",
        dst_colorspace="ITU709" if matrix == 1 else "ITU601",
        dst_color_range="JPEG" if full_range else "MPEG",
      )
      picture.pts = None
      container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
  large = dataclasses.replace(CURATE, encode=config.EncodeConfig(short_side=96, crf=4))
  ((_, data),) = curated(tmp_path, path, large)
  times_s = np.arange(12) / 24
  stored = video.read_frames_at(data, times_s).astype(float)
  with video.FrameReader(path) as reader:
    shown = np.stack(
      [upright.rgb(f.picture, reader.stream, (170, 96)).astype(float) for f in reader]
    )
  through_rgb = video.read_frames_at(
    mp4.encode_mp4(shown.astype(np.uint8), times_s, crf=4), times_s
  )
  bias = (stored - shown).mean((0, 1, 2))
  assert np.abs(bias - (through_rgb - shown).mean((0, 1, 2))).max() < 0.6
  assert np.abs(stored - shown).mean() < 1.2 * np.abs(through_rgb - shown).mean()
