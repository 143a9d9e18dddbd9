"""T5's tokenizer: ids, length, files, and which tokenizer belongs to which encoder."""

import io
import json
import pickle

from caption_corpus import captions
import numpy as np
import pytest
import sentencepiece

from vidjax.encoders import clip, sentencepiece_tokenizer, t5, tokenizers
from vidjax.interop import configs


@pytest.fixture(scope="module")
def tokenizer():
  return sentencepiece_tokenizer.learn(captions(), 60)


def settings(folder, **changes):
  path = folder / "tokenizer_config.json"
  path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_pieces_then_the_end_then_padding(tokenizer):
  ids = tokenizer("a dog  runs\n")
  assert ids.dtype == np.int32
  assert ids.shape == (128,)
  pieces = tokenizer.pieces("a dog runs")
  assert ids[: len(pieces) + 2].tolist() == [*pieces, 1, 0]
  assert not ids[len(pieces) + 1 :].any()
  assert (tokenizer.begin, tokenizer.end, tokenizer.pad) == (None, 1, 0)
  assert tokenizer("").tolist() == [1] + [0] * 127
  assert 2 in tokenizer("Ж")  # unknown
  assert tokenizer.vocab_size == 60


def test_long_text_is_cut_before_the_end_token(tokenizer):
  ids = tokenizer("dog " * 200)
  assert ids[-1] == 1
  assert 1 not in ids[:-1]
  assert 0 not in ids


def test_special_tokens_in_a_caption_are_text(tokenizer):
  ids = tokenizer("<pad> a </s> dog")
  assert ids.tolist().index(1) > len(tokenizer.pieces("a dog"))


def test_files_come_back(tokenizer, tmp_path):
  tokenizers.save(tokenizer, tmp_path / "tokenizer")
  back = tokenizers.load(str(tmp_path / "text_encoder"))  # in the folder beside it
  assert back == tokenizer
  np.testing.assert_array_equal(back("a dog runs"), tokenizer("a dog runs"))
  tokenizers.save(back, tmp_path / "again")
  assert tokenizers.load(str(tmp_path / "again")) == tokenizer
  assert (tmp_path / "again" / "spiece.model").read_bytes() == tokenizer.model


@pytest.mark.parametrize(
  ("stated", "length"), [(77, 77), (300, 300), (512, 128), (10**30, 128), (None, 128)]
)
def test_the_length_is_that_of_the_settings_below_what_t5_was_trained_on(
  tokenizer, tmp_path, stated, length
):
  tokenizers.save(tokenizer, tmp_path)
  if stated is None:
    (tmp_path / "tokenizer_config.json").unlink()
  else:
    settings(tmp_path, model_max_length=stated)
  assert tokenizers.load(str(tmp_path)).length == length


def test_the_tokenizer_is_the_encoders(tokenizer, tmp_path):
  """A T5 takes none of CLIP that lies beside it, and the other way round."""
  root = tmp_path / "text_encoder"
  root.mkdir()
  config = root / "config.json"
  config.write_text(json.dumps(configs.text_to_json(t5.PRESETS["tiny"])))
  (tmp_path / "tokenizer").mkdir()
  for name in ("vocab.json", "merges.txt"):
    (tmp_path / "tokenizer" / name).write_text("{}")
  with pytest.raises(ValueError, match=r"text_encoder': no spiece.model \(T5\) there or in \.\./"):
    tokenizers.load(str(root))
  tokenizers.save(tokenizer, root)
  assert tokenizers.load(str(root)) == tokenizer

  config.write_text(json.dumps(configs.text_to_json(clip.TINY_TEXT)))
  for name in ("vocab.json", "merges.txt"):
    (tmp_path / "tokenizer" / name).unlink()
  with pytest.raises(ValueError, match=r": no vocab.json and merges.txt \(CLIP\) there or in"):
    tokenizers.load(str(root))


def test_broken_and_foreign_models_are_named(tokenizer, tmp_path):
  path = tmp_path / "spiece.model"
  for content in (tokenizer.model[:1000], b"version https://git-lfs", b""):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"spiece.model is not a SentencePiece model: copy it"):
      tokenizers.load(str(tmp_path))
  foreign = io.BytesIO()
  sentencepiece.SentencePieceTrainer.Train(
    sentence_iterator=iter(captions()), model_writer=foreign, vocab_size=60, minloglevel=2
  )
  path.write_bytes(foreign.getvalue())
  with pytest.raises(ValueError, match=r"spiece.model has no padding or no end token: is it T5's"):
    tokenizers.load(str(tmp_path))


def test_tokenizers_travel_to_decoding_processes(tokenizer):
  tokenizer("a dog")
  copy = pickle.loads(pickle.dumps(tokenizer))
  assert len(pickle.dumps(tokenizer)) < len(tokenizer.model) + 1000
  np.testing.assert_array_equal(copy("a cat"), tokenizer("a cat"))


def test_the_same_captions_give_the_same_model(tokenizer):
  assert sentencepiece_tokenizer.learn(captions(), 60) == tokenizer
