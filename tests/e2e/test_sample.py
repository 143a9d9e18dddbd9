"""`vidjax sample`: what it writes, how it goes on, what it refuses before anything is compiled."""

import json

from miniature_job import run_vidjax
import numpy as np
import PIL.Image
import pytest

from vidjax import render

SMALL = ("--height=16", "--width=24", "--num_frames=4", "--steps=2")


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
  """A picture of another shape than the clips."""
  path = tmp_path_factory.mktemp("photo") / "photo.png"
  render.write_png(path, np.random.default_rng(0).uniform(0, 1, (40, 40, 3)).astype(np.float32))
  return path


def size(path):
  with PIL.Image.open(path) as picture:
    return picture.size


@pytest.mark.slow
def test_a_batch_of_prompts_goes_on_where_it_was(job, tmp_path):
  prompts = tmp_path / "prompts.txt"
  prompts.write_text(f"a square\n\n{'a very long sentence ' * 9}about a wall\n")
  arguments = (
    "sample",
    f"--model={job}/video_lowres",
    f"--prompt_file={prompts}",
    "--negative_prompt=a circle",
    "--num_samples=2",
    "--batch_size=3",
    "--sampler=dpmpp_2m_sde",
    "--schedule=exponential",
    "--guidance_interval=0.1,100",
    "--guidance_rescale=0.5",
    "--temporal_guidance=1.2",
    f"--out={tmp_path}/out/x.webm",
    *SMALL,
  )
  done = run_vidjax(*arguments)
  assert "about a wall" in done.stdout.split("is not read")[1].splitlines()[0]
  out = tmp_path / "out"
  names = {f"x_{i:04d}{suffix}" for i in range(4) for suffix in (".webm", ".json", ".png")}
  assert {path.name for path in out.iterdir()} == names
  notes = [json.loads((out / f"x_{i:04d}.json").read_text()) for i in range(4)]
  assert [note["seed"] for note in notes] == [0, 1, 2, 3]
  assert [note["prompt"][:8] for note in notes] == ["a square"] * 2 + ["a very l"] * 2
  assert (notes[0]["sampler"], notes[0]["negative_prompt"]) == ("dpmpp_2m_sde", "a circle")
  assert notes[0]["temporal_guidance"] == 1.2

  before = (out / "x_0000.webm").read_bytes()
  (out / "x_0002.json").unlink()
  again = run_vidjax(*arguments)
  assert "3 of 4 clips are there already" in again.stdout
  assert (out / "x_0002.json").exists()
  assert (out / "x_0000.webm").read_bytes() == before


@pytest.mark.slow
def test_noise_belongs_to_its_clip_when_a_batch_goes_on(job, photo, tmp_path):
  noise = np.random.default_rng(0).normal(size=(2, 4, 2, 3, 8)).astype(np.float32)
  np.save(tmp_path / "noise.npy", noise)
  arguments = (
    "sample",
    f"--model={job}/video_highres",
    f"--image={photo}",
    f"--noise={tmp_path}/noise.npy",
    "--num_samples=2",
    f"--out={tmp_path}/x.mp4",
    *SMALL,
  )
  done = run_vidjax(*arguments)
  assert done.stdout.count("scaled to cover") == 1
  before = (tmp_path / "x_0001.mp4").read_bytes()
  (tmp_path / "x_0001.mp4").unlink()
  assert "1 of 2 clips are there already" in run_vidjax(*arguments).stdout
  assert (tmp_path / "x_0001.mp4").read_bytes() == before


def test_frames_and_the_rule_for_images_of_another_shape(job, photo, tmp_path):
  done = run_vidjax(
    "sample", f"--model={job}/video_highres", f"--image={photo}", f"--out={tmp_path}/f/", *SMALL
  )
  assert "photo.png is 40x40: scaled to cover 24x16, the middle 67% are kept" in done.stdout
  frames = sorted((tmp_path / "f").iterdir())
  assert [path.name for path in frames] == ["0000.png", "0001.png", "0002.png", "0003.png"]
  assert size(frames[0]) == (24, 16)
  assert (tmp_path / "f.json").exists()
  assert (tmp_path / "f.png").exists()


def test_an_image_model_writes_pictures(job, tmp_path):
  run_vidjax("sample", f"--model={job}/image", "--prompt=a wall", f"--out={tmp_path}/x.png", *SMALL)
  assert size(tmp_path / "x.png") == (24, 16)
  assert {path.name for path in tmp_path.iterdir()} == {"x.png", "x.json"}


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--sampler=eular"], "sampler='eular': choose from euler, ddim"),
    (["--schedule=trailing"], "knows continuous levels: choose from karras"),
    (["--mode=text_to_video"], "was trained for 'image_to_video'"),
    (["--image=nowhere.png"], "--image=nowhere.png: there is no such file"),
    (["--image=README.md"], "--image=README.md cannot be read as an image"),
    (["--width=25"], "width=25 is not a multiple of 8"),
    (["--num_frames=0"], "num_frames=0 must be at least 1"),
    (["--out=x.avi"], "--out=x.avi: end the name in .mp4"),
    (["--out=x.png"], "this model makes video"),
    (["--prompt=a", "--prompt_file=b"], "give one of them"),
    (["--negative_prompt=a"], "reads an image, not a text"),
    (["--guidance_interval=3,1"], "write LOW,HIGH"),
  ],
  ids=lambda value: value[0].partition("=")[0] + value[0][-4:] if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_refused_in_one_line(job, photo, tmp_path, flags, message):
  arguments = [f"--model={job}/video_highres", f"--image={photo}", f"--out={tmp_path}/x.mp4"]
  done = run_vidjax("sample", *arguments, *SMALL, *flags, code=2)
  assert message in done.stderr
  assert "Traceback" not in done.stderr
  assert not list(tmp_path.iterdir())
