"""Captioners from folders of transformers: untrained ones of a few kilobytes, made here."""

import cv2
import numpy as np
import pytest
import torch
import transformers

from data_pipelines import captioners, config
from tests import scoring_models
from tests.scoring_models import WORDS, tokenizer

PALE, DARK = (
  cv2.imencode(".jpg", np.full((48, 64, 3), value, np.uint8))[1].tobytes() for value in (220, 30)
)


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
  return scoring_models.save_blip(tmp_path_factory.mktemp("blip"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
  return scoring_models.save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
  return scoring_models.save_llava(tmp_path_factory.mktemp("llava"))


def load(name, folder, max_tokens=6):
  captioner = config.CaptionerConfig(model=str(folder), max_tokens=max_tokens)
  return captioners.load(config.CaptionConfig(**{name: captioner}), name)


def test_a_plain_captioner_sees_the_picture(blip):
  captioner = load("image", blip)
  text = captioner([PALE], "not used")
  assert text
  assert set(text.split()) <= set(WORDS)
  assert text == captioner([PALE], "")  # the likeliest text, not a drawn one
  model = transformers.BlipForConditionalGeneration.from_pretrained(blip).eval()
  processor = transformers.BlipProcessor.from_pretrained(blip)
  image = cv2.imdecode(np.frombuffer(PALE, np.uint8), cv2.IMREAD_COLOR)
  inputs = processor(images=image, return_tensors="pt")
  tokens = model.generate(**inputs, max_new_tokens=6, do_sample=False)
  assert text == processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()


def test_a_plain_captioner_takes_no_video(blip):
  with pytest.raises(ValueError, match="takes one picture, not the frames of a video"):
    load("video", blip)([PALE, DARK], "")


def test_a_model_that_is_talked_to_sees_all_frames(llava):
  captioner = load("video", llava, max_tokens=4)
  text = captioner([PALE, DARK, PALE], "what happens")
  assert text == captioner([PALE, DARK, PALE], "what happens")
  assert set(text.split()) <= set(WORDS)
  assert len(text.split()) <= 4  # what was asked is not in it
  shown = {captioner(frames, "what happens") for frames in ([PALE], [DARK, PALE], [DARK, DARK])}
  told = {captioner([PALE], prompt) for prompt in ("what", "a cat sits", "on the mat")}
  assert len(shown | told) > 1


def test_a_language_model_goes_on_from_the_prompt(llama):
  captioner = load("llm", llama)
  text = captioner([], "a cat sits")
  assert set(text.split()) <= set(WORDS)
  assert "user" not in text.split()[:1]
  model = transformers.LlamaForCausalLM.from_pretrained(llama).eval()
  ids = tokenizer()("user : a cat sits", return_tensors="pt")["input_ids"]
  tokens = model.generate(
    input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False
  )
  expected = tokenizer().batch_decode(tokens[:, ids.shape[1] :], skip_special_tokens=True)[0]
  assert text == expected.strip()
  assert len(load("llm", llama, max_tokens=2)([], "a cat sits").split()) <= 2


def test_what_is_no_model_is_said(tmp_path):
  with pytest.raises(ValueError, match=r"the captioner .*nothing cannot be opened"):
    load("image", tmp_path / "nothing")([PALE], "")
