"""What is decoded in part is what a full decode shows, whatever the codec, container and stamps."""

import fractions
import itertools
import pathlib
from typing import Any

import av
import av.error
from av.video.reformatter import Interpolation
import numpy as np
import pytest

from tests import media
from vidjax.data import mp4, picked, transforms, upright, video

FULL_CHROMA = Interpolation.AREA | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
UNSHIFTED = {"avoid_negative_ts": "disabled"}
TICK = fractions.Fraction(1, 90_000)


def reference(source: Any, moments_s: np.ndarray) -> list[np.ndarray]:
  """The pictures shown at ascending moments, by decoding every frame from start to end."""
  shown, picture, pictures = None, None, []
  with video.FrameReader(source) as reader:
    for frame in itertools.chain(reader, [None]):
      while len(pictures) < len(moments_s) and shown is not None:
        if frame is not None and frame.time_s <= moments_s[len(pictures)] + 1e-4:
          break
        picture = upright.rgb(shown.picture, reader.stream) if picture is None else picture
        pictures.append(picture)
      shown, picture = frame, None
    assert not reader.errors
  return pictures


def check(source: Any, *, windows: int = 8, seed: int = 0) -> None:
  """Compares random windows, one at a steady rate, single moments and the ends."""
  with video.FrameReader(source) as reader:
    times_s = np.array([frame.time_s for frame in reader])
  rng, end_s = np.random.default_rng(seed), times_s[-1]
  asked = [np.sort(rng.uniform(-0.1, end_s + 0.3, rng.integers(1, 9))) for _ in range(windows)]
  asked += [rng.uniform(0, max(0.1, end_s - 4)) + np.arange(16) / 4]
  asked += [rng.choice(times_s, 1), times_s[-1:], np.zeros(1), times_s[: 5 * windows]]
  moments_s = np.concatenate(asked)
  order = np.argsort(moments_s, kind="stable")
  pictures = dict(zip(order, reference(source, moments_s[order]), strict=True))
  place = 0
  for window_s in asked:
    for moment_s, frame in zip(window_s, video.read_frames_at(source, window_s), strict=True):
      np.testing.assert_array_equal(frame, pictures[place], err_msg=f"at {moment_s} s")
      place += 1


@pytest.fixture
def swift(monkeypatch):
  """Counts how a file was read: (in part, in full)."""
  counts = {"part": 0, "full": 0}
  read, from_start = picked.read, video._read_from_start

  def counted(*args, **kwargs):
    frames = read(*args, **kwargs)
    counts["part"] += frames is not None
    return frames

  def counted_full(*args):
    counts["full"] += 1
    return from_start(*args)

  monkeypatch.setattr(picked, "read", counted)
  monkeypatch.setattr(video, "_read_from_start", counted_full)
  return counts


def encode(
  path: pathlib.Path,
  codec: str,
  options: dict[str, str],
  *,
  count: int = 90,
  times_s: Any = None,
  first: int = 0,
  gop: int = 25,
  container_options: dict[str, str] | None = None,
  b_frames: int | None = None,
  frames: np.ndarray | None = None,
) -> str:
  """Writes a moving picture; `first` is the time stamp of its first frame in ticks of 1/90 ms."""
  frames = media.shot(11, count, height=64, width=96, speed=2.5) if frames is None else frames
  count = len(frames)
  times_s = np.arange(count) / 25 if times_s is None else times_s
  base = fractions.Fraction(1, 25) if "mpeg" in codec else TICK
  with av.open(str(path), "w", options=container_options or {}) as container:
    stream: Any = container.add_stream(codec, rate=25, options=options)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    stream.gop_size = gop
    stream.codec_context.time_base = base
    if b_frames is not None:
      stream.codec_context.max_b_frames = b_frames
    for frame_HWC, time_s in zip(frames, times_s, strict=True):
      picture = av.VideoFrame.from_ndarray(frame_HWC, "rgb24")
      picture.pts, picture.time_base = first + round(time_s / base), base
      container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
  return str(path)


X264 = {"preset": "fast", "threads": "1"}
X265 = {"preset": "fast", "x265-params": "log-level=error:pools=none:frame-threads=1"}
VFR_S = np.cumsum(np.random.default_rng(3).choice([0.02, 0.04, 0.1, 0.5], 90))


def x264(params: str) -> dict[str, str]:
  return {**X264, "x264-params": params}


CASES = {
  "pyramid.mp4": ("libx264", x264("bframes=7:b-adapt=0:b-pyramid=normal"), {}),
  "open_gop.mp4": ("libx264", x264("bframes=5:b-adapt=0:open-gop=1:b-pyramid=normal"), {}),
  "open_gop.mkv": ("libx264", x264("bframes=5:b-adapt=0:open-gop=1"), {}),
  "intra_refresh.mkv": ("libx264", x264("intra-refresh=1:bframes=0"), {}),
  "one_key.mp4": ("libx264", x264("bframes=3"), {"gop": 1000}),
  "uneven.mp4": ("libx264", x264("bframes=4:b-adapt=0"), {"times_s": VFR_S}),
  "late.mkv": ("libx264", x264("bframes=3"), {"first": 90_000 * 7 + 300}),
  "late.mp4": ("libx264", x264("bframes=3"), {"first": 90_000 * 7 + 300}),
  "fields.mp4": ("libx264", x264("interlaced=1:bframes=3:b-adapt=0"), {}),
  "stream.ts": ("libx264", x264("bframes=3:b-adapt=0"), {}),
  "fragments.mp4": (
    "libx264",
    x264("bframes=3:b-adapt=0"),
    {"container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}},
  ),
  "reordered.avi": ("libx264", x264("bframes=3:b-adapt=0"), {}),
  "pyramid.mkv": ("libx264", x264("bframes=7:b-adapt=0:b-pyramid=normal"), {}),
  "hevc.mkv": ("libx265", X265, {}),
  "hevc.mp4": ("libx265", X265, {}),
  "layers.mp4": (
    "libx265",
    {**X265, "x265-params": X265["x265-params"] + ":temporal-layers=3:b-adapt=0:bframes=7"},
    {},
  ),
  "vp8.webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1"}, {}),
  "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, {}),
  "alt_ref.webm": (
    "libvpx-vp9",
    {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"},
    {"gop": 40},
  ),
  "av1.mp4": ("libsvtav1", {"preset": "11", "svtav1-params": "lp=1"}, {"count": 60}),
  "b_frames.avi": ("mpeg4", {}, {"b_frames": 2}),
  "b_frames.mp4": ("mpeg4", {}, {"b_frames": 2, "gop": 12}),
  "no_b_frames.avi": ("mpeg4", {}, {"b_frames": 0}),
  "mpeg2.ts": ("mpeg2video", {}, {"b_frames": 2, "gop": 12}),
}


# Frames that only become right after their key frame, seeks that miss one, guessed time stamps.
IN_FULL = ("intra_refresh.mkv", "stream.ts", "mpeg2.ts", "reordered.avi", "b_frames.avi")


@pytest.mark.parametrize("name", CASES)
def test_generated_files(tmp_path, name, swift):
  codec, options, more = CASES[name]
  check(encode(tmp_path / name, codec, options, **more))
  if name not in IN_FULL:
    assert swift["full"] == 0
    assert swift["part"] > 0


@pytest.mark.slow
def test_real_files(shared_data, swift):
  count = 0
  for path in sorted((shared_data / "videos").iterdir()):
    try:
      video.probe(str(path))
    except (av.error.FFmpegError, video.NoVideoError):
      continue
    if "truncated" not in path.name:
      check(str(path), windows=2)
      count += 1
  assert count > 20
  assert swift["full"] == 0


def test_a_file_of_ours_is_decoded_in_part(swift, monkeypatch):
  data = mp4.encode_mp4(media.shot(1, 96), np.arange(96) / 24)
  spans = []
  decode = picked._decode

  def spy(codec, packets, *args, **kwargs):
    spans.append([float(packet.pts * packet.time_base) for packet in packets])
    return decode(codec, packets, *args, **kwargs)

  monkeypatch.setattr(picked, "_decode", spy)
  video.read_frames_at(data, 2.2 + np.arange(3) / 24)
  assert swift == {"part": 1, "full": 0}
  assert min(spans[0]) == 2
  assert len(spans[0]) < 30  # of 48 to the end


def test_b_frames_of_avi_come_in_the_order_in_which_they_are_shown(tmp_path):
  levels = (np.arange(30) * 8).astype(np.uint8)
  frames = np.broadcast_to(levels[:, None, None, None], (30, 64, 96, 3))
  codec, options, _ = CASES["reordered.avi"]
  path = encode(tmp_path / "reordered.avi", codec, options, frames=frames)
  shown = video.read_frames_at(path, np.arange(30) / 25)
  np.testing.assert_allclose(shown.mean(axis=(1, 2, 3)), levels, atol=2)


def test_an_edit_list_that_starts_inside_a_group(tmp_path):
  codec, options, more = CASES["pyramid.mp4"]
  whole = encode(tmp_path / "whole.mp4", codec, options, **more)
  cut = str(tmp_path / "cut.mp4")
  with av.open(whole) as source, av.open(cut, "w", options=UNSHIFTED) as target:
    stream: Any = source.streams.video[0]
    copied = target.add_stream_from_template(stream)
    shift = round(fractions.Fraction(2, 5) / stream.time_base)
    for packet in source.demux(stream):
      if packet.dts is not None and packet.pts is not None:
        packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copied
        target.mux(packet)
  with av.open(cut) as container:
    assert sum(packet.is_discard for packet in container.demux(video=0)) == 10
  check(cut)
  with video.FrameReader(cut) as reader:
    assert sum(1 for _ in reader) == 80


@pytest.mark.parametrize("referenced", [True, False])
def test_a_lost_frame_is_an_error_where_it_is_shown_or_needed(tmp_path, referenced):
  path = encode(tmp_path / "x.mp4", "libx264", x264("bframes=3:b-adapt=0:b-pyramid=none"))
  data = bytearray(pathlib.Path(path).read_bytes())
  with av.open(path) as container:
    packets: list[Any] = [packet for packet in container.demux(video=0) if packet.size]
    unit_s = float(packets[0].time_base)
    times_s = {p.pos: (p.pts - packets[0].pts) * unit_s for p in packets}
    # In order of decoding: key frame, P-frame, its three B-frames, P-frame ...
    lost = packets[5 if referenced else 3]
    data[lost.pos + 5 : lost.pos + lost.size] = bytes(lost.size - 5)  # all but length and type
  lost_s, whole, broken = times_s[lost.pos], pathlib.Path(path).read_bytes(), bytes(data)
  before, after = np.array([0.0, 0.04]), lost_s + np.array([0.04, 0.28])
  np.testing.assert_array_equal(
    video.read_frames_at(broken, before), video.read_frames_at(whole, before)
  )
  with pytest.raises((ValueError, av.error.FFmpegError), match=r"damaged|Invalid data"):
    video.read_frames_at(broken, [lost_s])
  if referenced:
    with pytest.raises((ValueError, av.error.FFmpegError), match=r"damaged|Invalid data"):
      video.read_frames_at(broken, after)
  else:
    np.testing.assert_array_equal(
      video.read_frames_at(broken, after), video.read_frames_at(whole, after)
    )


def test_a_truncated_file_is_read_up_to_its_end(shared_data):
  path = str(shared_data / "videos" / "truncated_midstream.mp4")
  whole = str(shared_data / "videos" / "basketball.mp4")
  times_s = 3 + np.arange(8) / 4
  np.testing.assert_array_equal(
    video.read_frames_at(path, times_s), video.read_frames_at(whole, times_s)
  )
  for start_s in (5.0, 9.0):
    with pytest.raises(ValueError, match="damaged"):
      video.read_frames_at(path, start_s + np.arange(8) / 4)


SCALED = {
  "h264.mp4": {},
  "ten_bit.mkv": {"pix_fmt": "yuv420p10le"},
  "full_chroma.mkv": {"pix_fmt": "yuv444p"},
  "turned.mp4": {"rotation": 90},
  "wide.mkv": {"aspect": fractions.Fraction(4, 3)},
  "picture.gif": {"codec": "gif", "pix_fmt": "rgb8", "fps": 10},
}


@pytest.mark.parametrize("view", [(40, 40), (33, 61), (100, 100), (72, 128)])
@pytest.mark.parametrize("name", SCALED)
def test_frames_come_at_the_size_that_covers_the_view(tmp_path, name, view):
  path = media.write(tmp_path / name, media.shot(5, 6, height=72, width=128), **SCALED[name])
  times_s = [0.0, 0.2]
  native = video.read_frames_at(str(path), times_s)
  frames = video.read_frames_at(str(path), times_s, view)
  cover = transforms.cover_size(native.shape[1:3], view)
  assert frames.shape == (2, *cover, 3)
  expected = transforms.cover_crop(native, *cover)
  difference = np.abs(frames.astype(int) - expected)
  # `native` has colours of half the width; scaling on the way keeps them.
  assert difference.mean() < 3.5
  assert np.abs((frames.astype(int) - expected).mean(axis=(0, 1, 2))).max() < 2
  if cover == native.shape[1:3]:
    np.testing.assert_array_equal(frames, native)


def test_scaling_on_the_way_keeps_the_colours(tmp_path):
  """Against averages of the full-size picture whose colours were not thinned out."""
  path = media.write(tmp_path / "x.mkv", media.shot(5, 2, height=144, width=256), pix_fmt="yuv444p")
  with av.open(str(path)) as container:
    picture = next(container.decode(video=0))
    exact = picture.reformat(format="rgb24", interpolation=FULL_CHROMA, threads=1).to_ndarray()
  small = video.read_frames_at(str(path), [0.0], (48, 64))[0]
  assert small.shape == (48, 85, 3)
  area = transforms.cover_crop(exact[None], 48, 85)[0]
  assert np.abs(small.astype(int) - area).max() <= 4
