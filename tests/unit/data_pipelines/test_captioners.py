"""Captioners behind a server: what is asked, what is repeated, and what ends a run."""

import shutil
import threading
import time

import numpy as np
import pytest

from data_pipelines import captioners, config
from tests import chat_server


@pytest.fixture
def server():
  server = chat_server.Chat()
  yield server
  server.close()


@pytest.fixture(autouse=True)
def fast_backoff(monkeypatch):
  monkeypatch.setattr(captioners, "_MAX_BACKOFF_S", 0.05)
  captioners._session.cache_clear()
  yield
  captioners._session.cache_clear()


def settings(server, **changes):
  captioner = config.CaptionerConfig(model="m", endpoint=server.url, prompt="Say.", max_tokens=7)
  return config.CaptionConfig(image=captioner, llm=captioner, **{"retries": 2, **changes})


JPEG = chat_server.cv2.imencode(".jpg", chat_server.np.full((8, 8, 3), 200, "uint8"))[1].tobytes()


def test_a_request_says_everything(server, monkeypatch):
  monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
  text = captioners.load(settings(server), "image")([JPEG, JPEG], "Say.")
  assert text == "m sees  [200, 200] and is told 'Say.'"
  (body,) = server.requests
  assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 7, 0.0)
  assert [part["type"] for part in body["messages"][0]["content"]] == [
    *("image_url", "image_url", "text")
  ]
  assert server.headers[0]["Authorization"] == "Bearer sk-test"


def test_without_a_key_none_is_sent(server, monkeypatch):
  monkeypatch.delenv("OPENAI_API_KEY", raising=False)
  captioners.load(settings(server), "image")([JPEG], "Say.")
  assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_fails_in_passing_is_repeated(server, status):
  server.answer = lambda number, _: (status, b"busy") if number < 2 else None
  assert captioners.load(settings(server), "image")([JPEG], "Say.")
  assert len(server.requests) == 3


@pytest.mark.parametrize(
  ("status", "body", "message", "times"),
  [
    (503, b"busy", "answers 503", 3),
    (404, b"", "answers 404", 1),
    (401, b"", r"answers 401 .*is the key in \$OPENAI_API_KEY", 1),
    (200, b"<html>", "does not speak OpenAI's protocol", 1),
    (200, b'{"choices": []}', "does not speak OpenAI's protocol", 1),
  ],
)
def test_what_stays_wrong_ends_the_run(server, status, body, message, times):
  server.answer = lambda *_: (status, body)
  with pytest.raises(captioners.EndpointError, match=message):
    captioners.load(settings(server), "image")([JPEG], "Say.")
  assert len(server.requests) == times


@pytest.mark.parametrize("status", [400, 413, 422])
def test_an_input_that_is_not_taken_has_no_text(server, status):
  server.answer = lambda *_: (status, b"too\nlong" * 200)
  with pytest.raises(captioners.RefusedError, match=rf"^{status} [\w ]+: too long") as caught:
    captioners.load(settings(server), "image")([JPEG], "Say.")
  assert len(str(caught.value)) < 400
  assert len(server.requests) == 1


def test_a_model_that_takes_nothing_ends_the_run(server):
  """Say, one that takes one picture and is sent eight."""
  server.answer = lambda *_: (400, b'{"error": "At most 1 image(s) may be provided"}')
  ask = captioners.load(settings(server), "image")
  for _ in range(captioners.FIRST_REQUESTS - 1):
    with pytest.raises(captioners.RefusedError):
      ask([JPEG, JPEG], "Say.")
  message = (
    rf"{server.url} takes no request for caption\.image \(m\): 400 .*At most 1 image.*run the same"
  )
  with pytest.raises(captioners.EndpointError, match=message):
    ask([JPEG, JPEG], "Say.")
  # The server is mended: the first text shows that the model takes some.
  server.answer = lambda *_: None
  assert ask([JPEG], "Say.")
  server.answer = lambda *_: (400, b"")
  for _ in range(captioners.FIRST_REQUESTS + 1):
    with pytest.raises(captioners.RefusedError, match=r"^400 "):
      ask([JPEG], "Say.")


def test_weights_are_known_by_what_is_in_them(tmp_path):
  folder = tmp_path / "model"
  folder.mkdir()
  (folder / "config.json").write_text("{}")
  content = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8)
  (folder / "model.safetensors").write_bytes(content.tobytes())
  known = captioners.weights(str(folder))
  shutil.copytree(folder, tmp_path / "copy")  # elsewhere and later
  assert captioners.weights(str(tmp_path / "copy")) == known
  (folder / "model.safetensors").write_bytes((content ^ 1).tobytes())  # trained on: same size
  trained = captioners.weights(str(folder))
  (folder / "config.json").write_text("[]")
  assert len({known, trained, captioners.weights(str(folder))}) == 3
  assert captioners.weights(str(tmp_path / "none")) == ""


def test_nobody_there(server):
  server.close()
  with pytest.raises(captioners.EndpointError, match=r"does not answer \(ConnectionError\)"):
    captioners.load(settings(server), "image")([JPEG], "Say.")
  server.close = lambda: None


def test_a_server_that_says_nothing_is_given_up(server):
  quiet = threading.Event()
  server.answer = lambda *_: quiet.wait(30) and None
  began = time.monotonic()
  with pytest.raises(captioners.EndpointError, match="does not answer"):
    captioners.load(settings(server, timeout_s=0.2), "image")([JPEG], "Say.")
  assert time.monotonic() - began < 20
  quiet.set()


def test_a_key_is_in_no_message(server, monkeypatch):
  monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123456")
  server.answer = lambda *_: (403, b"")
  with pytest.raises(captioners.EndpointError) as caught:
    captioners.load(settings(server), "image")([JPEG], "Say.")
  assert "sk-secret" not in str(caught.value)
