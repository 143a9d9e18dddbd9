"""The known truth of made-up clips, held against their pixels."""

import dataclasses
import hashlib
import itertools
import os
import pickle
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from data_pipelines import signals
from vidjax.data import sources
from vidjax.data.config import SetConfig
from vidjax.data.procedural import captions, scenes
from vidjax.data.sources import procedural

SIZE = (96, 144)  # the shape of the default options

# Hashes frames of two clips; the loader's processes must see what the training process sees.
HASH_FRAMES = """
import hashlib, sys
import numpy as np
from vidjax.data.sources import procedural
options = {"variable_rate": True, "cuts": 1.0, "camera": 1.0}
source = procedural.open_source("", "train", options)
hashed = hashlib.sha256(source.listing.digest.encode())
for number in (3, 4, 5, 6):
  clip = source[number]
  hashed.update(clip.read(np.arange(8) / 2, (32, 48)).tobytes())
  hashed.update(repr((clip.captions, clip.motion_score, clip.scores)).encode())
assert "jax" not in sys.modules
print(hashed.hexdigest())
"""


def make(split="train", **options):
  return procedural.open_source("", split, options)


def frames_of(source, number, moments_s, size=SIZE):
  return source[number].read(np.asarray(moments_s, np.float64), size)


def test_clips_are_the_same_in_every_process():
  def run(**environment):
    done = subprocess.run(
      [sys.executable, "-c", HASH_FRAMES],
      env={**os.environ, **environment},
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

  first = run(PYTHONHASHSEED="1", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
  assert first == run(PYTHONHASHSEED="2", OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2")


def test_clips_stay_what_they_are():
  """Change this together with `procedural.VERSION`: a resumed run must notice."""
  source = make(cuts=1.0)
  assert procedural.VERSION == 1
  assert source[1].captions["short"] == (
    "a blue ring stands still, then a purple triangle moves up and to the left, a green circle"
    " accelerates up and to the right and an orange star stands still"
  )
  told = [dataclasses.astuple(source.film(number).scenes[0].shapes[0]) for number in range(20)]
  rounded = repr([[round(v, 9) if isinstance(v, float) else v for v in one] for one in told])
  assert hashlib.sha256(rounded.encode()).hexdigest()[:16] == "d2920e8c0dc3f9cd"


def test_splits_and_seeds_share_no_clip():
  told = [
    repr(source.film(number))
    for source in (make(), make("holdout"), make(seed=1))
    for number in range(100)
  ]
  assert len(set(told)) == 300
  digests = {make().listing.digest, make("holdout").listing.digest, make(seed=1).listing.digest}
  assert len(digests) == 3


def test_listing():
  source = make(num_clips=7, duration_s=3, fps=10, height=90, width=160)
  assert len(source.listing) == 7
  assert source.listing.durations_s.tolist() == [3.0] * 7
  assert source.listing.fps.tolist() == [10.0] * 7
  assert source.listing.sizes.tolist() == [[90, 160]] * 7
  clip = source[6]
  assert clip.duration_s == 3.0
  assert clip.times_s().tolist() == pytest.approx(np.arange(30) / 10)
  assert clip.read(np.array([0.0, 1.0]), (45, 45)).shape == (2, 45, 80, 3)  # covers, uncut
  with pytest.raises(IndexError):
    source[7]


def test_equal_options_are_one_data_set():
  assert make(duration_s=5).listing.digest == make(duration_s=5.0).listing.digest
  assert make(backgrounds="plain,clouds").options == make(backgrounds=["plain", "clouds"]).options


def test_pickles_small_and_comes_back():
  source = make(num_clips=1_000_000)
  data = pickle.dumps(source)
  assert len(data) < 10_000
  again = pickle.loads(data)
  assert again.listing.digest == source.listing.digest
  np.testing.assert_array_equal(frames_of(again, 9, [1.0]), frames_of(source, 9, [1.0]))


def test_opens_by_kind():
  source = sources.open_source(SetConfig(kind="procedural", options={"num_clips": 3}))
  assert len(source.listing) == 3
  assert set(source[0].captions) == {"full", "short"}


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"colour": 1}, "colour.*num_clips, seed"),
    ({"cuts": 1.5}, "cuts=1.5.*from 0 to 1"),
    ({"shapes": 0}, "shapes=0.*from 1"),
    ({"shapes": 2.5}, "shapes=2.5.*must be int"),
    ({"fps": "fast"}, "fps='fast'.*must be float"),
    ({"fps": 0.0}, "fps=0.0"),
    ({"duration_s": 0.01}, "duration_s=0.01.*at least"),
    ({"variable_rate": 1}, "variable_rate=1.*must be bool"),
    ({"backgrounds": "plain,sea"}, "backgrounds=.*sea.*checkerboard"),
    ({"backgrounds": ()}, "backgrounds"),
  ],
)
def test_options_errors(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)


def test_unknown_split():
  with pytest.raises(ValueError, match=r"'test'.*train, holdout"):
    make("test")


def test_a_frame_is_shown_until_the_next_time_stamp():
  source = make(variable_rate=True, fps=6.0, camera=1.0, cuts=0.0, backgrounds="clouds")
  clip = source[0]
  times_s = clip.times_s()
  steps_s = np.diff(times_s)
  assert times_s[0] == 0
  assert steps_s.min() > 0
  assert np.ptp(steps_s) > 0.05
  on_stamps = clip.read(times_s[:10], SIZE)
  before_next = clip.read(times_s[1:11] - 1e-3, SIZE)
  np.testing.assert_array_equal(on_stamps, before_next)
  assert all((a != b).any() for a, b in itertools.pairwise(on_stamps))
  past_the_end = clip.read(np.array([times_s[-1], 100.0]), SIZE)
  np.testing.assert_array_equal(past_the_end[0], past_the_end[1])


def warp(frame_HWC, flow_HW2):
  """What is at (x, y) + flow, for each pixel (x, y)."""
  height, width = frame_HWC.shape[:2]
  x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
  return cv2.remap(frame_HWC, x + flow_HW2[..., 0], y + flow_HW2[..., 1], cv2.INTER_LINEAR).astype(
    np.float32
  )


def test_frames_warped_by_the_flow_are_each_other():
  source = make(camera=1.0, cuts=0.0, backgrounds="clouds,gradient")
  right, wrong, hidden = [], [], []
  for number in range(12):
    before_s, after_s = 2.0, 2.4
    first, second = frames_of(source, number, [before_s, after_s]).astype(np.float32)
    flow_HW2, valid_HW = procedural.true_flow(source, number, before_s, after_s, SIZE)
    assert flow_HW2.shape == (*SIZE, 2)
    assert valid_HW.mean() > 0.6
    error_HW = abs(warp(second, flow_HW2) - first).mean(axis=-1)
    right.append(error_HW[valid_HW].mean())
    wrong.append(abs(warp(second, -flow_HW2) - first).mean(axis=-1)[valid_HW].mean())
    # Not in error at most places: a few pixels on the edge of a shape are mixed of two things.
    assert np.mean(error_HW[valid_HW] > 12) < 0.02, number
    hidden.append(error_HW[~valid_HW].mean())
  assert np.mean(right) < 1.5
  assert np.mean(wrong) > 5 * np.mean(right)
  assert np.mean(hidden) > 5 * np.mean(right)


def test_flow_there_and_back_cancels():
  source = make(camera=1.0, cuts=0.0)
  there_HW2, valid_HW = procedural.true_flow(source, 3, 1.0, 1.5, SIZE)
  back_HW2, _ = procedural.true_flow(source, 3, 1.5, 1.0, SIZE)
  returned_HW2 = warp(back_HW2, there_HW2) + there_HW2
  assert np.median(np.linalg.norm(there_HW2, axis=-1)) > 0.5
  assert np.quantile(np.linalg.norm(returned_HW2, axis=-1)[valid_HW], 0.95) < 0.05


def test_flow_scales_with_the_view():
  source = make(camera=1.0, cuts=0.0)
  small_HW2, _ = procedural.true_flow(source, 5, 1.0, 1.25, SIZE)
  large_HW2, _ = procedural.true_flow(source, 5, 1.0, 1.25, (192, 288))
  pooled_HW2 = large_HW2.reshape(96, 2, 144, 2, 2).mean(axis=(1, 3))
  assert np.median(abs(pooled_HW2 - 2 * small_HW2)) < 1e-3


def test_farneback_agrees():
  """On backgrounds with texture: angles within 20 degrees, lengths within 15 %, in the mean."""
  source = make(camera=1.0, cuts=0.0, backgrounds="clouds", shapes=2)
  cosines, lengths, known = [], [], []
  for number in range(10):
    first, second = (
      cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
      for frame in frames_of(source, number, [2.0, 2.125], (192, 288))
    )
    flow_HW2, valid_HW = procedural.true_flow(source, number, 2.0, 2.125, (192, 288))
    estimate_HW2 = signals.farneback(first, second)
    length_HW, estimated_HW = (np.linalg.norm(f, axis=-1) for f in (flow_HW2, estimate_HW2))
    used_HW = valid_HW & (length_HW > 0.5)
    used_HW[[*range(20), *range(-20, 0)]] = used_HW[:, [*range(20), *range(-20, 0)]] = False
    dot_HW = (flow_HW2 * estimate_HW2).sum(axis=-1)
    cosines.append((dot_HW / np.maximum(length_HW * estimated_HW, 1e-3))[used_HW])
    lengths.append(estimated_HW[used_HW])
    known.append(length_HW[used_HW])
  assert np.concatenate(cosines).mean() > np.cos(np.radians(20))
  assert np.concatenate(lengths).mean() == pytest.approx(np.concatenate(known).mean(), rel=0.15)


def test_cuts_are_where_they_are_said_to_be():
  # Without stripes: those that pass by change a frame as much as a cut does.
  source = make(
    cuts=1.0, max_cuts=3, camera=1.0, variable_rate=True, fps=12.0, backgrounds="plain,clouds"
  )
  counts = set()
  for number in range(12):
    clip = source[number]
    times_s, cuts_s = clip.times_s(), procedural.cut_times(source, number)
    counts.add(len(cuts_s))
    assert clip.scores["num_cuts"] == len(cuts_s)
    assert np.isin(cuts_s, times_s).all()
    assert np.diff([0.0, *cuts_s, clip.duration_s]).min() >= scenes.MIN_SCENE_S
    video = clip.read(times_s, (48, 72)).astype(np.float32)
    change = abs(np.diff(video, axis=0)).mean(axis=(1, 2, 3))
    at_cut = np.isin(times_s[1:], cuts_s)
    assert change[at_cut].min() > 2 * change[~at_cut].max(), number
    flow_HW2, valid_HW = procedural.true_flow(source, number, cuts_s[0] - 0.05, cuts_s[0], SIZE)
    assert not valid_HW.any()
    assert np.isnan(flow_HW2).all()
  assert counts == {1, 2, 3}


def test_shares_of_cuts_and_cameras():
  source = make(cuts=0.25, camera=0.5)
  films = [source.film(number) for number in range(400)]
  assert np.mean([len(film.scenes) > 1 for film in films]) == pytest.approx(0.25, abs=0.07)
  moving: dict[bool, list[bool]] = {False: [], True: []}
  for scene in (scene for film in films for scene in film.scenes):
    moved = bool(scene.camera.pan or scene.camera.zoom)
    moving[scene.background.kind == "plain"].append(moved)
  assert np.mean(moving[False]) == pytest.approx(0.5, abs=0.07)
  assert not any(moving[True])  # it could not be seen
  still = make(cuts=0.0, camera=0.0)
  assert all(len(still.film(n).scenes) == 1 for n in range(50))
  assert all(still[n].scores["camera_pan"] == 0 for n in range(50))


def test_a_clip_too_short_for_two_scenes_has_no_cut():
  source = make(duration_s=0.9, cuts=1.0)
  assert all(len(source.film(number).scenes) == 1 for number in range(20))
  assert make(duration_s=0.01, fps=100.0)[0].motion_score == 0.0  # a single frame


def centroids(video, color):
  """Centres (T, 2) and numbers (T,) of the pixels of a colour."""
  near_THW = abs(video.astype(int) - np.array(scenes.COLORS[color])).max(axis=-1) < 14
  places = [np.argwhere(near_HW)[:, ::-1].mean(axis=0) for near_HW in near_THW]
  return np.array(places), near_THW.sum(axis=(1, 2))


CAPTION = re.compile(
  r"an? (?:(?P<size>small|large) )?(?P<color>\w+) (?P<kind>\w+) (?P<verb>.+?)"
  r"(?: while spinning (?P<spin>\w+))? over (?P<over>.+)"
)


def test_captions_are_true():
  """Colour, size, direction and the way of moving are read from the text and from the pixels."""
  source = make(shapes=1, cuts=0.0, camera=0.0)
  areas, verbs = {}, set()
  for number in range(60):
    clip = source[number]
    said = CAPTION.fullmatch(clip.captions["full"])
    assert said, clip.captions["full"]
    video = clip.read(np.linspace(1.0, 4.0, 7), (128, 192))
    at_T2, area_T = centroids(video, said["color"])
    if said["kind"] == "circle":
      areas.setdefault(said["size"], []).append(area_T.max())
    moved = at_T2[-1] - at_T2[0]
    steps = np.linalg.norm(np.diff(at_T2, axis=0), axis=1)
    verb = said["verb"]
    verbs.add(verb.split()[0])
    if verb.startswith(("moves clockwise", "moves counterclockwise")):
      (ax, ay), (bx, by) = at_T2[1] - at_T2[0], at_T2[2] - at_T2[1]
      assert (ax * by - ay * bx > 0) == (verb.split()[1] == "clockwise"), number
    elif verb.startswith(("stands still", "spins")):
      assert steps.max() < 5, number  # what spins out of balance staggers
    else:
      direction = re.sub(r"moves |accelerates |slows down moving ", "", verb)
      heading = np.array(scenes.DIRECTIONS[direction]) / np.hypot(*scenes.DIRECTIONS[direction])
      assert moved @ heading > 0.85 * np.linalg.norm(moved), (number, verb, moved)
      first_half, second_half = (at_T2[3] - at_T2[0]) @ heading, (at_T2[6] - at_T2[3]) @ heading
      if verb.startswith("accelerates"):
        assert second_half > 1.1 * first_half, number
      if verb.startswith("slows"):
        assert first_half > 1.1 * second_half, number
  assert verbs == {"moves", "accelerates", "slows", "stands", "spins"}
  assert max(areas["small"]) < min(areas[None]) < max(areas[None]) < min(areas["large"])


def test_camera_is_told_as_it_moves():
  source = make(shapes=1, cuts=0.0, camera=1.0, backgrounds="stripes,clouds")
  seen = set()
  for number in range(40):
    said = re.search(
      r"; the camera (?:pans (\w+))?(?: and )?(?:zooms (\w+))?", source[number].captions["full"]
    )
    pan, zoom = said.groups()
    seen |= {pan, zoom}
    flow_HW2, _ = procedural.true_flow(source, number, 2.25, 2.75, SIZE)
    corners_22 = flow_HW2[[2, -3]][:, [2, -3]].reshape(4, 2)
    if pan:  # the world goes the other way
      assert np.median(corners_22, axis=0) @ np.array(scenes.PANS[pan]) < -1, number
    if zoom:
      outwards = (corners_22[3] - corners_22[0]).sum()
      assert (outwards > 0) == (zoom == "in"), number
  assert seen == {*scenes.PANS, "in", "out", None}


def test_captions_of_scenes_follow_each_other():
  source = make(cuts=1.0, max_cuts=2, camera=1.0)
  for number in range(30):
    film = source.film(number)
    texts = captions.captions(film)
    parts = texts["full"].split(". Cut to "), texts["short"].split(", then ")
    for part, short, scene in zip(*parts, film.scenes, strict=True):
      for shape in scene.shapes:
        assert f"{shape.color} {shape.kind}" in part
        assert f"{shape.color} {shape.kind}" in short
      assert len({shape.color for shape in scene.shapes}) == len(scene.shapes)
      assert scene.background.color in part.rpartition(" over ")[2]


def test_motion_score_is_the_mean_speed_on_small_frames():
  source = make(camera=1.0, cuts=0.0, shapes=1, backgrounds="clouds")
  for number in range(3):
    times_s = np.arange(10) * 0.5
    speeds = [
      np.linalg.norm(procedural.true_flow(source, number, a, b, (16, 24))[0], axis=-1).mean() / 0.5
      for a, b in itertools.pairwise(times_s)
    ]
    clip = source[number]
    assert clip.motion_score == pytest.approx(np.mean(speeds), rel=1e-3)
    assert clip.scores["motion_max"] == pytest.approx(np.max(speeds), rel=1e-3)
    assert clip.motion_score > 0.3


@pytest.mark.parametrize("number", range(5))
def test_any_size_shows_the_same(number):
  source = make(camera=1.0)
  small, large = (frames_of(source, number, [1.0, 3.0], size) for size in (SIZE, (384, 576)))
  pooled = large.reshape(2, 96, 4, 144, 4, 3).mean(axis=(2, 4))
  assert abs(pooled - small).mean() < 2
  assert np.quantile(abs(pooled - small), 0.999) < 60


def test_clips_differ():
  source = make()
  told = {part for n in range(200) for part in source[n].captions["full"].split()}
  assert {*scenes.SHAPES, *scenes.COLORS, *scenes.BACKGROUND_COLORS} <= told
  assert {"checkerboard", "stripes", "clouds", "gradient", "plain"} <= told
