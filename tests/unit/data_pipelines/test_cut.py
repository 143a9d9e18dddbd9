"""Shots: hard cuts to the frame, gradual ones by kind, nothing where there is only motion."""

import itertools
import json

import numpy as np
import pytest

from data_pipelines import config, cut, signals
from tests import media

CUT = config.CutConfig()


@pytest.fixture
def shots_of(tmp_path):
  def run(video_THWC, cut_config=CUT, **options):
    path = media.write(tmp_path / "video.mkv", video_THWC, **options)
    return cut.find_shots(signals.read_signals(str(path)), cut_config)

  return run


def bounds(shots):
  return [(s.start, s.start_boundary) for s in shots]


def test_hard_cuts_are_found_to_the_frame(shots_of):
  parts = [media.shot(i, n) for i, n in enumerate([30, 17, 40, 12])]
  shots = shots_of(np.concatenate(parts))
  assert bounds(shots) == [(0, "file"), (30, "hard"), (47, "hard"), (87, "hard")]
  assert [(s.clip_start, s.clip_end) for s in shots] == [(0, 30), (30, 47), (47, 87), (87, 99)]
  assert shots[-1].end_boundary == "file"


def test_shots_cover_every_frame_once(shots_of):
  video = np.concatenate([media.shot(1, 40), media.black(20), media.shot(2, 30)])
  shots = shots_of(video, config.CutConfig(max_seconds=0.9))
  assert shots[0].start == 0
  assert shots[-1].end == 90
  for before, after in itertools.pairwise(shots):
    assert before.end == after.start
    assert before.end_boundary == after.start_boundary
  assert all(s.start <= s.clip_start <= s.clip_end <= s.end for s in shots)


@pytest.mark.parametrize("speed", [0.5, 3.0, 6.0])
def test_camera_motion_is_no_cut(shots_of, speed):
  assert bounds(shots_of(media.shot(4, 60, speed=speed))) == [(0, "file")]


def test_cut_between_flat_colours(shots_of):
  red, blue = np.zeros((2, 20, 72, 128, 3), np.uint8)
  red[..., 0], blue[..., 2] = 200, 200
  assert bounds(shots_of(np.concatenate([red, blue]))) == [(0, "file"), (20, "hard")]


def test_a_small_change_in_a_still_picture_is_a_cut(shots_of):
  slide = media.still(5, 50)
  changed = slide.copy()
  changed[:, 20:50, 20:70] = 255 - changed[:, 20:50, 20:70]
  assert bounds(shots_of(np.concatenate([slide, changed]))) == [(0, "file"), (50, "hard")]


def test_a_flash_is_no_cut(shots_of):
  video = media.shot(6, 60)
  video[30:32] = 255
  assert bounds(shots_of(video)) == [(0, "file")]


def test_a_change_of_light_is_no_cut(shots_of):
  video = media.shot(7, 60, speed=0.3)
  video[30:] = (video[30:] * 0.6).astype(np.uint8)
  assert bounds(shots_of(video)) == [(0, "file")]


@pytest.mark.parametrize("length", [12, 24, 40])
def test_dissolve_is_one_boundary_and_is_left_out(shots_of, length):
  video = media.dissolve(media.shot(8, 80, speed=0.2), media.shot(9, 80, speed=0.2), length)
  shots = shots_of(video)
  assert [s.start_boundary for s in shots] == ["file", "dissolve"]
  first, last = 80 - length, 79
  assert first + length / 4 <= shots[1].start <= last - length / 4
  assert first - length / 2 <= shots[0].clip_end <= first + 2
  assert last - 2 <= shots[1].clip_start <= last + length / 2


def test_fades_through_black(shots_of):
  dark = media.black(80)
  video = np.concatenate(
    [
      media.dissolve(media.shot(10, 60, speed=0.2), dark[:40], 20),
      media.dissolve(dark[:40], media.shot(11, 60, speed=0.2), 20),
    ]
  )
  shots = shots_of(video)
  assert [s.start_boundary for s in shots] == ["file", "fade", "fade"]
  assert 40 <= shots[1].start <= 60
  assert 100 <= shots[2].start <= 120
  assert shots[0].clip_end <= 42
  assert shots[2].clip_start >= 118


def test_fade_in_at_the_start_belongs_to_its_shot(shots_of):
  video = media.dissolve(media.black(24), media.shot(12, 80, speed=0.2), 20)
  (shot,) = shots_of(video)
  assert shot.start == 0
  assert shot.start_boundary == "file"
  assert 22 <= shot.clip_start <= 32


def test_a_title_that_fades_in_is_no_dissolve(shots_of):
  video = media.still(13, 80)
  title = video.copy()
  title[:, 25:45, 30:100] = 250
  alpha = np.clip((np.arange(80) - 30) / 20, 0, 1)[:, None, None, None]
  shots = shots_of(((1 - alpha) * video + alpha * title).astype(np.uint8))
  assert bounds(shots) == [(0, "file")]


def test_long_shots_are_split_evenly(shots_of):
  shots = shots_of(media.shot(14, 120), config.CutConfig(max_seconds=2.0))
  assert bounds(shots) == [(0, "file"), (40, "max_length"), (80, "max_length")]
  assert shots[1].end_boundary == "max_length"
  assert shots[2].end_boundary == "file"


def test_cuts_in_a_file_of_variable_rate(shots_of):
  times_s = np.cumsum(np.r_[0, np.random.default_rng(0).choice([1 / 30, 1 / 15, 0.2], 59)])
  video = np.concatenate([media.shot(15, 25), media.shot(16, 35)])
  assert bounds(shots_of(video, times_s=times_s)) == [(0, "file"), (25, "hard")]


REAL = [
  "bikes.mp4",
  "nasa_13013.mp4",
  "nasa_13013_vfr.mp4",
  "nasa_13013_mkv_duration_tag.mkv",
  "pigs_in_a_polka.gif",
  "v_BaseballPitch_g01_c01.avi",
  "laion_slides_a.mp4",
  "tree.avi",
  "asl_book.mkv",
  "nasa_13013_rotated.mp4",
]
REAL_SLOW = [
  "big_buck_bunny_480p_30s.mp4",
  "big_buck_bunny_0_30.webm",
  "pyscenedetect_testvideo.mp4",
  "awesome_movie.mov",
  "basketball.mp4",
  "bottle-detection.mp4",
  "chaplin.mp4",
  "chaplin_vp9.webm",
  "flower.webm",
  "flower_hevc.mov",
  "ios9_rotated.mov",
  "keyboard_rot90.mov",
  "v_SoccerJuggling_g23_c01.avi",
  "vtest_10s.avi",
]


def test_all_labelled_videos_are_here(shared_data):
  files = json.loads((shared_data / "MANIFEST.json").read_text())["files"]
  labelled = {f["file"] for f in files if f.get("cut_frames") is not None}
  assert {f"videos/{name}" for name in [*REAL, *REAL_SLOW]} == labelled


@pytest.mark.parametrize(
  "name", [*REAL, *(pytest.param(n, marks=pytest.mark.slow) for n in REAL_SLOW)]
)
def test_real_videos_have_the_labelled_cuts(shared_data, name):
  files = json.loads((shared_data / "MANIFEST.json").read_text())["files"]
  (label,) = [f for f in files if f["file"] == f"videos/{name}"]
  found = signals.read_signals(str(shared_data / "videos" / name))
  shots = cut.find_shots(found, CUT)
  hard = [s.start for s in shots if s.start_boundary == "hard"]
  assert len(hard) == len(label["cut_frames"]), (hard, label["cut_frames"])
  assert np.abs(np.array(hard) - label["cut_frames"]).max(initial=0) <= 2
  gradual = [s.start for s in shots if s.start_boundary in ("fade", "dissolve")]
  inner = [t for t in label["transitions"] if t["start"] > 0]
  assert len(gradual) == len(inner), (gradual, inner)
  for frame, transition in zip(gradual, inner, strict=True):
    assert transition["start"] - 5 <= frame <= transition["end"] + 5
