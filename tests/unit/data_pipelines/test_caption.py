"""Three texts for a clip: which are written, of what, and in which order."""

import dataclasses

import numpy as np
import pytest

from data_pipelines import analyse, caption, captioners, config
from tests import media
from vidjax.data import video

ALL = config.CaptionConfig(
  image=config.CaptionerConfig(model="i", prompt="one picture"),
  video=config.CaptionerConfig(model="v", prompt="all pictures"),
  llm=config.CaptionerConfig(model="l", prompt="first {image} then {video}"),
  num_frames=3,
  short_side=48,
)


@pytest.fixture
def asked(monkeypatch):
  """Captioners that answer with what they were asked."""
  asked = []

  def load(_, name):
    def captioner(jpegs, prompt):
      asked.append((name, len(jpegs), prompt))
      if prompt == "refuse":
        raise captioners.RefusedError("400 too long")
      return f"  {name}\n of {len(jpegs)} "

    return captioner

  monkeypatch.setattr(captioners, "load", load)
  return asked


SHOWN = caption.Shown("a", b"middle", (b"1", b"2", b"3"))


def write(known, settings, told=caption.Told(), save=lambda told: None):  # noqa: B008
  return caption.write(SHOWN, known, told, settings, save)


def test_the_summary_is_made_of_the_other_two(asked):
  told = write({}, ALL)
  assert told.texts == {"image": "image of 1", "video": "video of 3", "llm": "llm of 0"}
  assert asked == [
    ("image", 1, "one picture"),
    ("video", 3, "all pictures"),
    ("llm", 0, "first image of 1 then video of 3"),
  ]
  assert caption.missing({}, told, ALL) == []


def test_texts_that_are_there_are_not_written_again(asked):
  told = write({"image": "a {video} by hand", "sidecar": "x"}, ALL)
  assert told.texts == {"video": "video of 3", "llm": "llm of 0"}
  # A text is never taken for a part of the prompt's form.
  assert asked[-1] == ("llm", 0, "first a {video} by hand then video of 3")


def test_each_text_is_saved_and_gone_on_from(asked):
  saved = []
  write({}, ALL, save=saved.append)
  assert [list(told.texts) for told in saved] == [
    ["image"],
    ["image", "video"],
    ["image", "video", "llm"],
  ]
  first = caption.Told(**saved[0].to_json())
  asked.clear()
  assert write({}, ALL, first) == saved[-1]
  assert [name for name, *_ in asked] == ["video", "llm"]


def test_a_captioner_that_does_not_take_a_clip_leaves_its_text_out(asked):
  refusing = dataclasses.replace(ALL, image=config.CaptionerConfig(model="i", prompt="refuse"))
  told = write({}, refusing)
  assert set(told.texts) == {"video", "llm"}
  assert told.refused == {"image": "400 too long"}
  assert asked[-1] == ("llm", 0, "first  then video of 3")
  assert caption.missing({}, told, refusing) == []
  both = dataclasses.replace(refusing, video=config.CaptionerConfig(model="v", prompt="refuse"))
  told = write({}, both)
  assert (told.texts, set(told.refused)) == ({}, {"image", "video"})
  assert asked[-1][0] == "video"
  assert caption.missing({}, told, both) == []  # nothing to make a summary of


def test_refusals_last_once_their_model_has_taken_something(asked):
  server = "http://127.0.0.1:1/v1"
  image = config.CaptionerConfig(model="i", prompt="refuse", endpoint=server)
  refusing = dataclasses.replace(ALL, image=image)
  told = write({}, refusing)
  kept = caption.lasting(told, refusing)
  assert kept == caption.Told({"video": "video of 3"})
  assert caption.missing({}, kept, refusing) == ["image", "llm"]
  captioners.tally(image).taken += 1
  assert caption.lasting(told, refusing) == told


def test_order_of_texts():
  assert caption.ordered({"z": "", "llm": "", "sidecar": "", "image": ""}) == [
    *("image", "llm", "sidecar", "z")
  ]


def test_the_key_follows_what_texts_depend_on():
  key = caption.key(ALL, {}, {})
  assert key == caption.key(dataclasses.replace(ALL, concurrency=3, retries=1), {}, {})
  assert key != caption.key(dataclasses.replace(ALL, num_frames=4), {}, {})
  assert key != caption.key(ALL, {}, {"image": "by hand"})


def test_the_key_follows_weights_not_paths(tmp_path):
  def settings(name, content):
    (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / name / "model.safetensors").write_bytes(content)
    return dataclasses.replace(ALL, image=config.CaptionerConfig(model=str(tmp_path / name)))

  def key(settings):
    return caption.key(settings, caption.weights(settings), {})

  here = settings("here", b"weights")
  before = key(here)
  assert key(settings("there", b"weights")) == before
  assert key(settings("here", b"trained")) != before
  served = dataclasses.replace(ALL, image=config.CaptionerConfig(model="i", endpoint="http://x/v1"))
  assert "image" not in caption.weights(served)


def test_frames_are_those_of_the_clip(tmp_path):
  path = media.write(tmp_path / "v.mp4", np.concatenate([media.shot(1, 48), media.shot(2, 60)]))
  clips = analyse.analyse(tmp_path, path.name, tmp_path / "cache", config.CurateConfig()).clips
  _, second = caption.read(str(path), clips, ALL)
  moments_s = [2.0 + 2.5 * share for share in (1 / 6, 0.5, 5 / 6)]
  expected = video.read_frames_at(str(path), moments_s, (48, 48))
  assert len(second.frames) == 3
  for jpeg, frame in zip((*second.frames, second.middle), expected[[0, 1, 2, 1]], strict=True):
    found = media.cv2.imdecode(np.frombuffer(jpeg, np.uint8), media.cv2.IMREAD_COLOR)[..., ::-1]
    assert found.shape == frame.shape
    assert np.abs(found.astype(int) - frame).mean() < 6  # another frame: above 20
  (path.parent / "half.mp4").write_bytes(path.read_bytes()[:2000])
  assert caption.read(str(path.parent / "half.mp4"), clips, ALL) == []
  alone = dataclasses.replace(ALL, video=config.CaptionerConfig())
  assert caption.read(str(path), clips, alone)[0].frames == ()
