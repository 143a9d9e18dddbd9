"""A server of OpenAI's protocol that describes pictures by their brightness, for tests."""

import base64
import collections
from collections.abc import Callable
import contextlib
import http.server
import json
import threading
from typing import Any

import cv2
import numpy as np


class Chat:
  """Serves on a port, by default a free one, until it is closed.

  Attributes:
    requests: Bodies of all requests so far.
    headers: Their headers.
    answer: Called with the number of the request and its body for (status, body) instead of a text;
      None goes on.
  """

  def __init__(self, port: int = 0):
    self.requests: list[dict[str, Any]] = []
    self.headers: list[dict[str, str]] = []
    self.answer: Callable[[int, dict[str, Any]], tuple[int, bytes] | None] = lambda _, __: None
    self.most_at_once = 0
    self._running = 0
    self._lock = threading.Lock()
    outer = self

    class Handler(http.server.BaseHTTPRequestHandler):
      def do_POST(self):
        outer._serve(self)

      def log_message(self, *_):
        pass

    self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
    self._thread.start()

  @property
  def url(self) -> str:
    return f"http://127.0.0.1:{self.port}/v1"

  @property
  def port(self) -> int:
    return self._server.server_port

  def close(self) -> None:
    self._server.shutdown()
    self._server.server_close()
    self._thread.join()

  def models(self) -> collections.Counter[str]:
    """How often each model was asked."""
    return collections.Counter(body["model"] for body in self.requests)

  def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
    assert handler.path == "/v1/chat/completions"
    body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
    with self._lock:
      self._running += 1
      self.most_at_once = max(self.most_at_once, self._running)
      number = len(self.requests)
      self.requests.append(body)
      self.headers.append(dict(handler.headers))
    refusal = self.answer(number, body)
    message = {"role": "assistant", "content": describe(body)}
    status, data = refusal or (200, json.dumps({"choices": [{"message": message}]}).encode())
    with self._lock:
      self._running -= 1
    with contextlib.suppress(BrokenPipeError):  # whoever asked may have gone
      handler.send_response(status)
      handler.send_header("Content-Type", "application/json")
      handler.send_header("Content-Length", str(len(data)))
      handler.end_headers()
      handler.wfile.write(data)


def describe(body: dict[str, Any]) -> str:
  """The text that the server answers with: a function of everything that was asked."""
  (message,) = body["messages"]
  parts = message["content"]
  prompt = " ".join(part["text"] for part in parts if part["type"] == "text")
  lights = []
  for part in parts:
    if part["type"] == "image_url":
      data = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
      lights.append(int(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).mean()))
  return f"{body['model']} sees  {lights} and is told {prompt!r}\n"
