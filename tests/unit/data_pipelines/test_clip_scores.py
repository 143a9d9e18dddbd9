"""Scores agree with transformers' CLIP and LAION's heads in PyTorch, read from their files."""

import json

import numpy as np
from PIL import Image
import pytest
import torch
import transformers

from data_pipelines import clip_scores, config, look
from tests import media, scoring_models
from tests.scoring_models import CLIP_SIDE as SIDE
from tests.scoring_models import CLIP_WIDTH as SHARED
from vidjax.encoders import tokenizers


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  folder = scoring_models.save_clip(tmp_path_factory.mktemp("clip"))
  return folder, transformers.CLIPModel.from_pretrained(folder).eval()


def settings(folder, **changes):
  return config.LookConfig(clip=str(folder), batch_size=4, **changes)


def frames(count, height=90, width=160):
  return list(media.shot(3, count, height=height, width=width))


@pytest.mark.parametrize("size", [(90, 160), (120, 72), (33, 32), (64, 64)])
def test_pictures_are_prepared_as_the_reference_does(size):
  (frame,) = frames(1, *size)
  processor = transformers.CLIPImageProcessorPil(
    size={"shortest_edge": SIDE},
    crop_size={"height": SIDE, "width": SIDE},
    **{"do_normalize": False, "do_rescale": False},
  )
  (expected,) = processor(Image.fromarray(frame), return_tensors="np")["pixel_values"]
  found = look.clip_picture(frame, SIDE)
  assert found.shape == (SIDE, SIDE, 3)
  assert np.abs(found.astype(int) - expected.transpose(1, 2, 0).astype(int)).max() <= 1


def test_embeddings_agree_with_transformers(model):
  folder, reference = model
  scorer = clip_scores.Scorer(str(folder), None, 4)
  pictures = np.stack([look.clip_picture(f, scorer.side) for f in frames(6)])
  texts = ["a wall", "a camera pans over a wall, from left to right", "x"]
  from vidjax.encoders import clip

  pixels = (pictures / 255 - np.array(clip.PIXEL_MEAN)) / np.array(clip.PIXEL_STD)
  tokens = np.stack([tokenizers.ByteTokenizer()(t) for t in texts])
  with torch.no_grad():
    image = reference.get_image_features(
      pixel_values=torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32)
    )
    text = reference.get_text_features(input_ids=torch.tensor(tokens, dtype=torch.long))
  image, text = (
    torch.nn.functional.normalize(getattr(x, "pooler_output", x)) for x in (image, text)
  )
  np.testing.assert_allclose(scorer.embed_pictures(pictures).vectors_NX, image.numpy(), atol=2e-5)
  np.testing.assert_allclose(scorer.embed_texts(texts).vectors_NX, text.numpy(), atol=2e-5)


def test_results_do_not_depend_on_what_is_beside(model):
  """To the bit: a run that goes on after an interruption batches other clips together."""
  scorer = clip_scores.Scorer(str(model[0]), None, 4)
  pictures = np.stack([look.clip_picture(f, scorer.side) for f in frames(7)])
  together = scorer.embed_pictures(pictures)
  alone = np.concatenate([scorer.embed_pictures(p[None]).vectors_NX for p in pictures])
  np.testing.assert_array_equal(together.vectors_NX, alone)
  assert scorer.embed_pictures(pictures[:0]).vectors_NX.shape == (0, SHARED)
  texts = [f"text {i}" for i in range(6)]
  alone = np.concatenate([scorer.embed_texts([text]).vectors_NX for text in texts])
  np.testing.assert_array_equal(scorer.embed_texts(texts).vectors_NX, alone)
  assert len(scorer._compiled) == 2  # one program for each tower


def test_what_clip_takes_is_counted(model):
  scorer = clip_scores.Scorer(str(model[0]), None, 4)
  pictures = np.stack([look.clip_picture(f, scorer.side) for f in frames(12)])
  embedded = scorer.embed_pictures(pictures)
  assert embedded.cpu_s > 0
  looks = [look.Look(f"c{i}", pictures=pictures[3 * i : 3 * i + 3]) for i in range(4)]
  looks.append(look.Look("unreadable", error="broken"))
  seen = look.seen(looks, scorer, [1.0, 2.0, 3.0, 4.0, 5.0])
  extra = [one.cpu_s - took for one, took in zip(seen, range(1, 6), strict=True)]
  assert min(extra[:4]) > 0
  assert extra[4] == 0  # nothing of it was shown to CLIP
  np.testing.assert_array_equal(seen[1].embedding, embedded.vectors_NX[3:6])


def linear_head(layers):
  torch.manual_seed(1)
  if layers == 1:
    return torch.nn.Linear(SHARED, 1)

  class Mlp(torch.nn.Module):  # LAION's, with its gaps in the numbering
    def __init__(self):
      super().__init__()
      self.layers = torch.nn.Sequential(
        torch.nn.Linear(SHARED, 20),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(20, 12),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(12, 6),
        torch.nn.Linear(6, 1),
      )

    def forward(self, x):
      return self.layers(x)

  return Mlp()


@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_heads_agree_with_pytorch(model, tmp_path, layers, suffix):
  head = linear_head(layers).eval()
  path = tmp_path / f"head{suffix}"
  if suffix == ".pth":
    torch.save(head.state_dict(), path)
  else:
    from safetensors.torch import save_file

    save_file(head.state_dict(), path)
  scorer = clip_scores.Scorer(str(model[0]), clip_scores.load_head(str(path)), 4)
  pictures = np.stack([look.clip_picture(f, scorer.side) for f in frames(3)])
  embeddings = scorer.embed_pictures(pictures).vectors_NX
  with torch.no_grad():
    expected = head(torch.tensor(embeddings))[:, 0].numpy()
  np.testing.assert_allclose(scorer.aesthetics(embeddings), expected, atol=1e-5)


def test_what_does_not_fit_is_said(model, tmp_path):
  from safetensors.torch import save_file

  def refused(message, **changes):
    with pytest.raises(ValueError, match=message):
      clip_scores.check(settings(model[0], **changes))

  refused("there is no such file", aesthetic=str(tmp_path / "none.safetensors"))
  save_file({"weight": torch.zeros(3, 4), "bias": torch.zeros(3)}, tmp_path / "wide.safetensors")
  refused("no linear layers that end in one score", aesthetic=str(tmp_path / "wide.safetensors"))
  save_file({"weight": torch.zeros(1, 4)}, tmp_path / "bare.safetensors")
  refused("no linear layer with a bias", aesthetic=str(tmp_path / "bare.safetensors"))
  save_file({"weight": torch.zeros(1, 4), "bias": torch.zeros(1)}, tmp_path / "x.safetensors")
  refused("a head on 4 dimensions", aesthetic=str(tmp_path / "x.safetensors"))
  with pytest.raises(ValueError, match="nowhere"):
    clip_scores.check(config.LookConfig(clip="nowhere"))
  with pytest.raises(ValueError, match=r"set look\.clip"):
    config.CurateConfig(look=config.LookConfig(aesthetic="x"))


def test_other_weights_are_noticed(model, tmp_path):
  import shutil

  copy = tmp_path / "clip"
  shutil.copytree(model[0], copy)
  before = clip_scores.check(settings(copy))
  assert before == clip_scores.check(settings(copy))
  path = copy / "config.json"
  path.write_text(json.dumps(json.loads(path.read_text())) + "\n")
  assert before != clip_scores.check(settings(copy))


def test_what_was_seen_survives_json():
  embedding = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
  for seen in (
    look.Seen("a", text_area=0.25, aesthetic=5.5, embedding=embedding, cpu_s=0.1),
    look.Seen("b", error="broken"),
  ):
    back = look.Seen.from_json(json.loads(json.dumps(seen.to_json())))
    assert {**vars(back), "embedding": None} == {**vars(seen), "embedding": None}
    if seen.embedding is not None:
      np.testing.assert_array_equal(back.embedding, seen.embedding)
