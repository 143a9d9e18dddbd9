"""Untrained models of a few kilobytes that look at clips, in the layout of transformers."""

import pathlib

import tokenizers
import torch
import transformers

from vidjax.encoders import tokenizers as our_tokenizers

CLIP_SIDE, CLIP_WIDTH = 32, 24
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<image>", "a", "cat", "sits", "on", "the", "mat"]
WORDS += ["user", ":", ".", "happens", "what"]


def save_clip(folder: pathlib.Path) -> pathlib.Path:
  """Both towers of a CLIP, with a tokenizer of bytes."""
  torch.manual_seed(0)
  tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
  tower |= {"num_attention_heads": 2, "projection_dim": CLIP_WIDTH}
  settings = transformers.CLIPConfig(
    text_config={**tower, "vocab_size": 259, "eos_token_id": 2, "max_position_embeddings": 64},
    vision_config={**tower, "image_size": CLIP_SIDE, "patch_size": 8},
    projection_dim=CLIP_WIDTH,
  )
  transformers.CLIPModel(settings).save_pretrained(folder)
  our_tokenizers.save(our_tokenizers.ByteTokenizer(), folder)
  return folder


def tokenizer(chat_template: str | None = None) -> transformers.PreTrainedTokenizerFast:
  """Of `WORDS`."""
  words = tokenizers.Tokenizer(
    tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
  )
  words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=words,
    chat_template=chat_template,
    **{"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "[CLS]", "eos_token": "[SEP]"},
  )


def save_blip(folder: pathlib.Path) -> pathlib.Path:
  """A plain captioner of single pictures."""
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


def save_llama(folder: pathlib.Path) -> pathlib.Path:
  """A language model that is talked to."""
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


def save_llava(folder: pathlib.Path) -> pathlib.Path:
  """A model that is talked to and shown pictures."""
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
