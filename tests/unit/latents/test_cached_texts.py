"""Texts that are embedded once, with the latents: training on them is training on the texts."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from tests.unit.latents.test_latent_training import batch_of, change, on, one_step
from vidjax import cache_latents, denoising, errors, latent_sets, program
from vidjax.data import latents
from vidjax.data.config import SetConfig
from vidjax.encoders import frozen, tokenizers
from vidjax.parallel import mesh as meshes


@pytest.fixture(scope="module")
def with_text(clips, view, tmp_path_factory):
  """Latents and what the text encoder makes of the texts; only to be read."""
  out = tmp_path_factory.mktemp("with_text")
  cache_latents.cache(view(clips), str(out), chunk=8, text=True)
  return out


def test_cached_texts_are_those_of_the_encoder(clips, with_text, view):
  pixels = view(clips)
  latent_sets.check(on(pixels, with_text))
  plain, cached = batch_of(pixels), batch_of(on(pixels, with_text))
  assert cached["captions"] == plain["captions"]
  assert len(set(plain["captions"])) > 2
  assert "tokens_BL" not in cached
  assert cached["text_BLX"].dtype == np.float16
  of = frozen.load_text(pixels.encoders.text)
  embedded = jax.jit(lambda params, tokens: of.network.bind(params)(tokens))(
    of.params, plain["tokens_BL"]
  )
  np.testing.assert_allclose(cached["text_BLX"], embedded, atol=2e-3)


def test_no_text_is_cached_too(clips, with_text, view):
  """Clips of which no text is wanted are shown with none."""
  pixels = change(view(clips), data={"captions": {"absent": 1.0}})
  plain, cached = batch_of(pixels), batch_of(on(pixels, with_text))
  assert set(cached["captions"]) == {""}
  of = frozen.load_text(pixels.encoders.text)
  embedded = jax.jit(lambda params, tokens: of.network.bind(params)(tokens))(
    of.params, plain["tokens_BL"]
  )
  np.testing.assert_allclose(cached["text_BLX"], embedded, atol=2e-3)


@pytest.mark.slow
def test_a_step_on_cached_texts_is_that_on_pixels(clips, with_text, view):
  pixels = dataclasses.replace(view(clips), batch_size=8)
  loss, norm, _ = one_step(pixels)
  cached_loss, cached_norm, batch = one_step(on(pixels, with_text))
  assert "text_BLX" in batch
  np.testing.assert_allclose(cached_loss, loss, rtol=1e-2)
  np.testing.assert_allclose(cached_norm, norm, rtol=2e-2)


def test_no_encoder_is_on_the_devices_where_both_are_cached(clips, with_text, view):
  assert denoising.make_task(on(view(clips), with_text)).frozen.encoders == {}


def test_a_program_takes_cached_texts(clips, with_text, view):
  config = dataclasses.replace(on(view(clips), with_text), batch_size=8)
  mesh = meshes.make_mesh(meshes.MeshConfig(), jax.devices()[:1])
  expected = {k: v for k, v in batch_of(config).items() if isinstance(v, np.ndarray)}
  described = program.make(config, mesh)._rows(8, 4, (32, 48))
  assert {k: (v.shape, v.dtype) for k, v in described.items()} == {
    k: (v.shape, v.dtype) for k, v in expected.items()
  }


def test_a_run_is_planned_before_its_latents_are_there_and_not_started(clips, view, tmp_path):
  config = on(view(clips), tmp_path / "to_come")
  assert latent_sets.text_shape(config.data) is None
  assert set(denoising.make_task(config).frozen.encoders) == {"text"}
  with pytest.raises(FileNotFoundError, match="to_come does not exist; write it with"):
    latent_sets.check(config)


def test_texts_of_another_encoder_or_form_are_refused(clips, cached, with_text, view, monkeypatch):
  config = on(view(clips), with_text)
  with pytest.raises(ValueError, match=r"template='a video: {caption}' would change them"):
    latent_sets.check(change(config, data={"template": "a video: {caption}"}))
  both = (
    SetConfig(path=str(cached), kind="latents"),
    SetConfig(path=str(with_text), kind="latents"),
  )
  with pytest.raises(ValueError, match="have cached texts and others have none"):
    latent_sets.check(change(config, data={"path": "", "kind": "shards", "sets": both}))
  text = frozen.load_text("random:tiny")
  name = next(iter(text.params))
  values = dict(text.params) | {name: np.asarray(text.params[name]) + 1e-3}
  monkeypatch.setattr(frozen, "load_text", lambda _: dataclasses.replace(text, params=values))
  with pytest.raises(ValueError, match=r"do not fit the encoders .*: text.sha256 is '\w+', not '"):
    latent_sets.check(config)


def test_another_tokenizer_is_refused(clips, with_text, view, monkeypatch):
  config = on(view(clips), with_text)
  monkeypatch.setattr(tokenizers, "load", lambda _: tokenizers.ByteTokenizer(length=32))
  with pytest.raises(ValueError, match=r"text.length is 64, not 32; text.tokenizer is"):
    latent_sets.check(config)


def test_a_folder_of_latents_without_texts_is_not_gone_on_with(clips, cached, view):
  with pytest.raises(ValueError, match=r"latents of other settings: text.config is None"):
    cache_latents.cache(view(clips), str(cached), chunk=8, text=True)


def test_what_is_cut_off_is_said(clips, with_text, view, tmp_path):
  copy = tmp_path / "copy"
  shutil.copytree(with_text, copy)
  (copy / latents.NO_TEXT).unlink()
  latents.read_no_text.cache_clear()
  config = on(view(clips), copy)
  with pytest.raises(errors.DataError, match=r"no_text\.npy is missing"):
    batch_of(config)
  np.save(copy / latents.NO_TEXT, np.zeros((2, 2), np.float16))
  with pytest.raises(errors.DataError, match=r"float16 \(2, 2\) is not float16 \(64, 64\)"):
    batch_of(config)
  latents.read_no_text.cache_clear()
