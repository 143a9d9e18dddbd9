"""`vidjax sample` with models of interpolation and of orbits."""

import dataclasses
import json
import shlex

from miniature_job import run_vidjax
import numpy as np
import pytest

from vidjax import pipeline as pipelines
from vidjax import render
from vidjax.data import mp4, video
from vidjax.encoders import frozen
from vidjax.interop import export
from vidjax.models.unet import PRESETS, UNet
from vidjax.nn.params import network

T, H, W = 5, 16, 24
INTERPOLATION = dataclasses.replace(PRESETS["tiny"], in_channels=17, mask_embedding=(2, 3))
MULTI_VIEW = dataclasses.replace(PRESETS["tiny"], vector_size=4)


def drawn_model(folder, config):
  """An export of drawn weights."""
  rng = np.random.default_rng(0)
  params = {}
  for name, leaf in network(lambda rngs: UNet(config, rngs)).abstract.items():
    vector = len(leaf.shape) < 2
    std = 0.1 if vector else np.prod(leaf.shape[:-1]) ** -0.5
    params[name] = np.float32(std * rng.standard_normal(leaf.shape) + 0.5 * vector)
  encoders = {"vae": frozen.load_vae("random:tiny"), "image": frozen.load_image("random:tiny")}
  assert export.export_pipeline(folder, config, params, encoders, GENERATION) is None
  return folder


GENERATION = export.Generation(num_frames=T, height=H, width=W, fps=8.0)


@pytest.fixture(scope="module")
def between(tmp_path_factory):
  return drawn_model(tmp_path_factory.mktemp("between"), INTERPOLATION)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
  """Two pictures: a folder with first.png and last.png."""
  folder = tmp_path_factory.mktemp("frames")
  for i, name in enumerate(("first", "last")):
    picture = np.random.default_rng(i).uniform(0, 1, (H, W, 3)).astype(np.float32)
    render.write_png(folder / f"{name}.png", picture)
  return folder


@pytest.mark.slow
def test_frames_between_two_pictures(between, frames, tmp_path):
  arguments = (
    "sample",
    f"--model={between}",
    f"--image={frames}/first.png",
    f"--last_image={frames}/last.png",
    "--steps=2",
    f"--save_array={tmp_path}/x.npy",
    f"--out={tmp_path}/x.mp4",
  )
  run_vidjax(*arguments)
  made = np.load(tmp_path / "x.npy")
  assert made.shape == (1, T, H, W, 3)
  note = json.loads((tmp_path / "x.json").read_text())
  assert note["last_image"] == f"{frames}/last.png"
  assert video.probe((tmp_path / "x.mp4").read_bytes()).num_frames == T

  noise = np.random.default_rng(2).standard_normal((2, 2, 3, 8)).astype(np.float32)
  np.save(tmp_path / "noise.npy", noise)
  run_vidjax(*arguments, f"--image_noise={tmp_path}/noise.npy", "--noise_aug_strength=0.5")
  assert np.abs(np.load(tmp_path / "x.npy") - made).max() > 1e-3


@pytest.mark.slow
def test_what_a_clip_between_depends_on(between):
  """On both frames and which is which, on the noise on them; not on its batch."""
  pipe = pipelines.Pipeline.from_pretrained(str(between))
  images = np.random.default_rng(0).uniform(0, 1, (2, 3, H, W, 3)).astype(np.float32)
  request = pipelines.Request(
    images_NHWC=images[0], last_images_NHWC=images[1], seeds=[5, 6, 7], steps=2
  )
  batch = pipe.generate(request)
  assert batch.shape == (3, T, H, W, 3)
  for n in range(3):
    alone = pipe(image=images[0, n], last_image=images[1, n], seed=5 + n, steps=2)
    np.testing.assert_allclose(batch[n], alone, atol=2e-5)

  plain = {"image": images[0, 0], "last_image": images[1, 0], "seed": 5, "steps": 2}
  for change in (
    {"image": images[1, 0], "last_image": images[0, 0]},
    {"image": images[0, 1]},
    {"last_image": images[1, 1]},
    {"noise_aug_strength": 0.5},
    {"fps": 20.0},
    {"motion_bucket_id": 5},
    {"image_noise_N2hwZ": np.zeros((1, 2, 2, 3, 8), np.float32), "noise_aug_strength": 0.5},
  ):
    assert np.abs(pipe(**{**plain, **change}) - batch[0]).max() > 1e-3, change
  given = {"noise_aug_strength": 0.5}
  drawn = pipe(**plain, **given)
  given["image_noise_N2hwZ"] = np.zeros((1, 2, 2, 3, 8), np.float32)
  assert np.abs(pipe(**plain, **given) - drawn).max() > 1e-3


@pytest.mark.slow
def test_a_clip_gets_a_higher_frame_rate(between, tmp_path):
  clip = np.kron(np.random.default_rng(0).integers(0, 256, (4, 2, 3, 3)), np.ones((1, 8, 8, 1)))
  mp4.write_mp4(tmp_path / "slow.mp4", clip.astype(np.uint8), 2.0)
  arguments = (
    "sample",
    f"--model={between}",
    f"--video={tmp_path}/slow.mp4",
    "--batch_size=2",
    "--steps=2",
    f"--save_array={tmp_path}/x.npy",
    f"--out={tmp_path}/smooth.mp4",
  )
  said = run_vidjax(*arguments).stdout
  assert "slow.mp4 has 2 frames per second: at 7 the result plays 0.88 times as fast" in said
  assert "at --fps=8 as it was" in said
  made = np.load(tmp_path / "x.npy")
  assert made.shape == (1, 3 * (T - 1) + 1, H, W, 3)
  info = video.probe((tmp_path / "smooth.mp4").read_bytes())
  assert (info.num_frames, round(info.fps, 3)) == (13, 7.0)
  note = json.loads((tmp_path / "smooth.json").read_text())
  assert (note["video"], note["image"]) == (f"{tmp_path}/slow.mp4", None)

  # Each pair by itself gives the same frames, the last one of the clip included.
  pipe = pipelines.Pipeline.from_pretrained(str(between))
  content = (tmp_path / "slow.mp4").read_bytes()
  read = video.read_frames_at(content, video.probe(content).times_s).astype(np.float32) / 255
  last = pipe(image=read[2], last_image=read[3], seed=2, steps=2)
  np.testing.assert_allclose(made[0, 8:], last, atol=2e-5)
  said = run_vidjax(*arguments, "--fps=8").stdout
  assert "frames per second" not in said


@pytest.mark.slow
@pytest.mark.parametrize("format", ["diffusers", "stability"])
def test_an_export_keeps_what_the_model_has_learned_for_frames_not_given(between, tmp_path, format):
  run_vidjax(
    "export", f"--model={between}", f"--out={tmp_path}/x", f"--format={format}", "--verify"
  )
  images = np.random.default_rng(1).uniform(0, 1, (2, H, W, 3)).astype(np.float32)
  clips = [
    pipelines.Pipeline.from_pretrained(str(model))(
      image=images[0], last_image=images[1], seed=3, steps=1, max_guidance=1.0
    )
    for model in (between, tmp_path / "x")
  ]
  assert clips[0].std() > 0
  np.testing.assert_allclose(*clips, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ([], "mode 'interpolation' needs an image: set --image=FILE"),
    (["--image=FIRST"], "mode 'interpolation' needs a last image: set --last_image=FILE"),
    (["--last_image=LAST"], "mode 'interpolation' needs an image: set --image=FILE"),
    (["--image=FIRST", "--last_image=no.png"], "--last_image=no.png: there is no such file"),
    (["--image=FIRST", "--last_image=LAST", "--num_frames=2"], "num_frames=2 must be at least 3"),
    (["--image=FIRST", "--last_image=LAST", "--height=32"], "height=32, width=24: what this model"),
    (["--image=FIRST", "--last_image=LAST", "--elevation=3"], "elevation: mode 'interpolation'"),
    (["--image=FIRST", "--last_image=LAST", "--image_noise=N"], "needs (1, 2, 2, 3, 8)"),
    (["--video=no.mp4"], "--video=no.mp4: there is no such file"),
    (["--video=x.mp4", "--last_image=LAST"], "--video and --last_image: give one of them"),
    (["--video=x.mp4", "--num_samples=2"], "--video: one clip is made of it, not 2"),
  ],
  ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_refused_in_one_line(between, frames, tmp_path, flags, message):
  np.save(tmp_path / "pixels.npy", np.zeros((H, W, 3), np.float32))
  names = {"FIRST": f"{frames}/first.png", "LAST": f"{frames}/last.png"}
  names["N"] = f"{tmp_path}/pixels.npy"
  given = []
  for flag in flags:
    name, _, value = flag.partition("=")
    given.append(f"{name}={names.get(value, value)}")
  done = run_vidjax("sample", f"--model={between}", f"--out={tmp_path}/x.mp4", *given, code=2)
  assert message in done.stderr
  assert "Traceback" not in done.stderr
  assert {path.name for path in tmp_path.iterdir()} == {"pixels.npy"}


# --- Orbits --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def orbits(tmp_path_factory):
  return drawn_model(tmp_path_factory.mktemp("orbits"), MULTI_VIEW)


@pytest.mark.slow
def test_an_orbit_is_made_as_the_guide_says(orbits, frames, tmp_path, repo_root, monkeypatch):
  monkeypatch.syspath_prepend(str(repo_root / "tests" / "repo"))
  monkeypatch.chdir(tmp_path)
  import documented_commands

  here = "tests/e2e/test_sample_modes.py::test_an_orbit_is_made_as_the_guide_says"
  (command,) = (c for c, where in documented_commands.RUN_BY.items() if where == here)
  (tmp_path / "ORBITS").symlink_to(orbits)
  (tmp_path / "IMAGE_FILE").symlink_to(frames / "first.png")
  run_vidjax(*shlex.split(command)[1:], f"--height={H}", f"--width={W}", "--steps=2")
  assert video.probe((tmp_path / "orbit.mp4").read_bytes()).num_frames == T
  assert json.loads((tmp_path / "orbit.json").read_text())["elevation"] == 10.0


@pytest.mark.slow
def test_the_elevation_counts_and_has_to_be_said(orbits):
  pipe = pipelines.Pipeline.from_pretrained(str(orbits))
  image = np.random.default_rng(0).uniform(0, 1, (H, W, 3)).astype(np.float32)
  common = {"height": H, "width": W, "steps": 2}
  clips = [pipe(image=image, elevation=degrees, **common) for degrees in (0.0, 20.0)]
  assert clips[0].shape == (T, H, W, 3)
  assert np.abs(clips[0] - clips[1]).max() > 1e-3
  both = pipe.generate(
    pipelines.Request(
      images_NHWC=np.stack([image] * 2), elevation=[0.0, 20.0], seeds=[0, 0], **common
    )
  )
  np.testing.assert_allclose(both, np.stack(clips), atol=2e-5)
  with pytest.raises(ValueError, match=r"needs the camera's elevation: set --elevation=DEGREES"):
    pipe(image=image, **common)
  with pytest.raises(ValueError, match=r"last_image: mode 'multi_view' reads no last image"):
    pipe(image=image, last_image=image, elevation=3.0, **common)


def test_a_model_of_another_mode_is_refused(orbits, frames, tmp_path):
  done = run_vidjax(
    "sample",
    f"--model={orbits}",
    f"--video={frames}/first.png",
    f"--out={tmp_path}/x.mp4",
    code=2,
  )
  assert "raising a frame rate takes a model of interpolation" in done.stderr
  config = pipelines.Pipeline.from_pretrained(str(orbits)).config
  other = dataclasses.replace(config.conditioning, mode="image_to_video")
  with pytest.raises(ValueError, match=r"reads 4 numbers, mode 'image_to_video' has 3"):
    pipelines.Pipeline(dataclasses.replace(config, conditioning=other), {}, "here")
