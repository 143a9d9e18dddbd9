"""Captioners from folders of transformers: untrained ones of a few kilobytes, made here."""

import cv2
import numpy as np
import pytest
import tokenizers
import torch
import transformers

from data_pipelines import captioners, config

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<image>", "a", "cat", "sits", "on", "the", "mat"]
WORDS += ["user", ":", ".", "happens", "what"]
PALE, DARK = (
  cv2.imencode(".jpg", np.full((48, 64, 3), value, np.uint8))[1].tobytes() for value in (220, 30)
)


def tokenizer(chat_template=None):
  words = tokenizers.Tokenizer(
    tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
  )
  words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=words,
    chat_template=chat_template,
    **{"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "[CLS]", "eos_token": "[SEP]"},
  )


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
  folder = tmp_path_factory.mktemp("blip")
  torch.manual_seed(0)
  tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
  tower |= {"num_attention_heads": 2}
  text = {**tower, "vocab_size": len(WORDS), "encoder_hidden_size": 16, "projection_dim": 16}
  text |= {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
  settings = transformers.BlipConfig(
    text_config=text, vision_config={**tower, "image_size": 32, "patch_size": 16}
  )
  model = transformers.BlipForConditionalGeneration(settings)
  model.save_pretrained(folder)
  images = transformers.BlipImageProcessorPil(size={"height": 32, "width": 32})
  transformers.BlipProcessor(images, tokenizer()).save_pretrained(folder)
  return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
  folder = tmp_path_factory.mktemp("llama")
  torch.manual_seed(0)
  settings = transformers.LlamaConfig(
    vocab_size=len(WORDS),
    **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1},
    **{"num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0},
    **{"bos_token_id": 2, "eos_token_id": 3},
  )
  transformers.LlamaForCausalLM(settings).save_pretrained(folder)
  template = "{% for m in messages %}{{ m['role'] + ' : ' + m['content'] }}{% endfor %}"
  tokenizer(template).save_pretrained(folder)
  return folder


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
  """A model that is talked to and shown pictures."""
  folder = tmp_path_factory.mktemp("llava")
  torch.manual_seed(0)
  tower = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
  settings = transformers.LlavaConfig(
    vision_config=transformers.CLIPVisionConfig(
      **tower, num_hidden_layers=2, image_size=32, patch_size=16
    ),
    text_config=transformers.LlamaConfig(
      **tower, num_hidden_layers=1, num_key_value_heads=2, vocab_size=len(WORDS), pad_token_id=0
    ),
    image_token_index=WORDS.index("<image>"),
    vision_feature_select_strategy="default",
  )
  model = transformers.LlavaForConditionalGeneration(settings)
  model.generation_config.eos_token_id = 3
  model.save_pretrained(folder)
  template = (
    "{% for m in messages %}{{ m['role'] + ' : ' }}{% for c in m['content'] %}"
    "{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}{% endfor %}"
  )
  words = tokenizer()
  words.add_special_tokens({"additional_special_tokens": ["<image>"]})
  transformers.LlavaProcessor(
    transformers.CLIPImageProcessorPil(
      size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ),
    words,
    patch_size=16,
    **{"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
    **{"chat_template": template, "image_token": "<image>"},
  ).save_pretrained(folder)
  return folder


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
