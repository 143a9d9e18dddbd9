"""A local object store: the part of Google Cloud Storage's JSON API that gcsfs and tensorstore use.

It keeps what makes an object store different from a disk: no folders, no renames, no appends,
whole-object writes, generations with preconditions. Objects live in memory of the process that
runs the server; other processes reach it through the environment.

    with object_store.serve() as store:
      with store.environment():
        storage.write_text("gs://bucket/a.txt", "hello")   # any bucket name exists

Faults can be injected: `store.fail_next(n)` answers the next `n` writes with 503, and requests
whose address matches `store.silent`, a regular expression, are never answered.
"""

import base64
from collections.abc import Iterator
import contextlib
import dataclasses
import email.parser
import email.policy
import hashlib
import http.server
import json
import logging
import os
import re
import sys
import threading
import time
from typing import Any
import unittest.mock
import urllib.parse
import uuid


@dataclasses.dataclass(frozen=True)
class Blob:
  content: bytes
  generation: int


@dataclasses.dataclass
class Store:
  """What the server holds, and where it listens."""

  url: str = ""
  blobs: dict[tuple[str, str], Blob] = dataclasses.field(default_factory=dict)
  uploads: dict[str, tuple[str, str, bytes]] = dataclasses.field(default_factory=dict)
  lock: threading.RLock = dataclasses.field(default_factory=threading.RLock)
  # As the service's: microseconds, so that no two stores have the same for different contents, and
  # copies that an earlier one left in a cache are not taken for those of this one.
  generation: int = dataclasses.field(default_factory=lambda: time.time_ns() // 1000)
  failures: int = 0
  writes: int = 0
  requests: int = 0
  silent: str = ""

  def variables(self) -> dict[str, str]:
    """Environment that leads gcsfs, Orbax and tensorstore to this server without credentials."""
    return {
      "STORAGE_EMULATOR_HOST": self.url,
      "TENSORSTORE_GCS_HTTP_URL": self.url,
      "GOOGLE_AUTH_TOKEN_FOR_TESTING": "nobody",
      "GOOGLE_CLOUD_PROJECT": "test",
      "NO_GCE_CHECK": "true",
      "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # would ask the real service for bucket types
    }

  @contextlib.contextmanager
  def environment(self) -> Iterator[None]:
    """Leads this process (and those that it starts) to the server."""
    with unittest.mock.patch.dict(os.environ, self.variables()):
      forget_clients()
      yield
    forget_clients()

  def fail_next(self, count: int) -> None:
    self.failures = count

  def names(self, bucket: str) -> list[str]:
    with self.lock:
      return sorted(name for b, name in self.blobs if b == bucket)

  def put(self, bucket: str, name: str, content: bytes) -> Blob:
    with self.lock:
      self.generation += 1
      self.writes += 1
      blob = self.blobs[bucket, name] = Blob(content, self.generation)
      return blob


def forget_clients() -> None:
  """Drops clients that remember an address."""
  from etils.epath import backend
  import gcsfs

  gcsfs.GCSFileSystem.clear_instance_cache()
  backend._FileSystemSpecBackend._get_filesystem.cache_clear()


@contextlib.contextmanager
def serve() -> Iterator[Store]:
  """Runs the object store on a free local port for the length of the block."""
  store = Store()
  handler = type("Handler", (_Handler,), {"store": store})
  server = _Server(("127.0.0.1", 0), handler)
  store.url = f"http://127.0.0.1:{server.server_address[1]}"
  thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
  thread.start()
  try:
    yield store
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


class _Refused(Exception):  # noqa: N818
  def __init__(self, status: int):
    self.status = status


class _Server(http.server.ThreadingHTTPServer):
  daemon_threads = True

  def handle_error(self, request, client_address):
    if not isinstance(sys.exception(), ConnectionError):  # clients hang up when they are done
      super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  wbufsize = 1 << 16  # head and body in one packet, or the client waits 40 ms for the second
  store: Store

  def do_GET(self):
    self._answer()

  do_POST = do_PUT = do_DELETE = do_GET

  def log_message(self, format, *args):
    pass

  def _answer(self):
    url = urllib.parse.urlsplit(self.path)
    query = {k: v[-1] for k, v in urllib.parse.parse_qs(url.query, True).items()}
    body = self._body()
    while self.store.silent and re.search(self.store.silent, _unquote(self.path)):
      time.sleep(0.1)  # until the server ends, or the client does
    try:
      with self.store.lock:
        self.store.requests += 1
        status, content, headers = self._route(url.path, query, body)
    except _Refused as refused:
      status, headers = refused.status, {}
      content = json.dumps({"error": {"code": status, "message": f"refused: {self.path}"}}).encode()
    with contextlib.suppress(ConnectionError):  # readers hang up when they have enough
      self.send_response(status)
      for name, value in headers.items():
        self.send_header(name, value)
      if status != 304:
        self.send_header("Content-Length", str(len(content)))
      self.end_headers()
      self.wfile.write(content if status != 304 else b"")
      self.wfile.flush()

  def _body(self) -> bytes:
    if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
      return self.rfile.read(int(self.headers.get("Content-Length") or 0))
    chunks = []
    while size := int(self.rfile.readline().strip() or b"0", 16):
      chunks.append(self.rfile.read(size))
      self.rfile.readline()
    self.rfile.readline()
    return b"".join(chunks)

  def _route(self, path: str, query: dict[str, str], body: bytes):
    if self.command in ("POST", "PUT") and self.store.failures > 0:
      self.store.failures -= 1
      raise _Refused(503)
    if path.startswith("/batch/"):
      return self._batch(body)
    path = path.removeprefix("/download").removeprefix("/storage/v1")
    if match := re.fullmatch(r"/upload/(?:storage/v1/)?b/([^/]+)/o", path):
      return self._upload(match[1], query, body)
    if match := re.fullmatch(r"/b/([^/]+)", path):
      return _json({"kind": "storage#bucket", "id": match[1], "name": match[1]})
    if match := re.fullmatch(r"/b/([^/]+)/o", path):
      return self._list(match[1], query)
    if match := re.fullmatch(r"/b/([^/]+)/o/([^/]+)/(?:copy|rewrite)To/b/([^/]+)/o/([^/]+)", path):
      blob = self._blob(match[1], _unquote(match[2]))
      new = self.store.put(match[3], _unquote(match[4]), blob.content)
      resource = _resource(match[3], _unquote(match[4]), new)
      return _json({"done": True, "resource": resource} if "/rewriteTo/" in path else resource)
    if match := re.fullmatch(r"/b/([^/]+)/o/([^/]+)/moveTo/o/([^/]+)", path):
      old, new = _unquote(match[2]), _unquote(match[3])
      moved = self.store.put(match[1], new, self._blob(match[1], old).content)
      del self.store.blobs[match[1], old]
      return _json(_resource(match[1], new, moved))
    if match := re.fullmatch(r"/b/([^/]+)/o/([^/]+)", path):
      return self._object(match[1], _unquote(match[2]), query)
    raise _Refused(404)

  def _blob(self, bucket: str, name: str) -> Blob:
    if (bucket, name) not in self.store.blobs:
      raise _Refused(404)
    return self.store.blobs[bucket, name]

  def _check(self, bucket: str, name: str, query: dict[str, str]) -> None:
    blob = self.store.blobs.get((bucket, name))
    generation = blob.generation if blob else 0
    if "ifGenerationMatch" in query and generation != int(query["ifGenerationMatch"]):
      raise _Refused(412)
    if "ifGenerationNotMatch" in query and generation == int(query["ifGenerationNotMatch"]):
      raise _Refused(304)

  def _object(self, bucket: str, name: str, query: dict[str, str]):
    blob = self._blob(bucket, name)
    self._check(bucket, name, query)
    if self.command == "DELETE":
      del self.store.blobs[bucket, name]
      return 204, b"", {}
    if query.get("alt") != "media":
      return _json(_resource(bucket, name, blob))
    headers = {
      "Content-Type": "application/octet-stream",
      "X-Goog-Generation": str(blob.generation),
      "ETag": str(blob.generation),
    }
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
    if wanted is None:
      return 200, blob.content, headers
    size = len(blob.content)
    if not wanted[1]:
      start, end = max(0, size - int(wanted[2])), size
    else:
      start, end = int(wanted[1]), min(size, int(wanted[2] or size) + 1)
    if start >= size:
      raise _Refused(416)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return 206, blob.content[start:end], headers

  def _list(self, bucket: str, query: dict[str, str]):
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    first, last = query.get("startOffset", ""), query.get("endOffset")
    limit, after = int(query.get("maxResults", 1000)), query.get("pageToken", "")
    items, folders, token = [], [], None
    for name in self.store.names(bucket):
      if not name.startswith(prefix) or name < first or (last and name >= last):
        continue
      rest = name[len(prefix) :]
      is_folder = bool(delimiter) and delimiter in rest
      shown = prefix + rest.split(delimiter)[0] + delimiter if is_folder else name
      if shown <= after or shown in folders:
        continue
      if len(items) + len(folders) == limit:
        token = max([item["name"] for item in items] + folders)
        break
      if is_folder:
        folders.append(shown)
      else:
        items.append(_resource(bucket, name, self.store.blobs[bucket, name]))
    found: dict[str, Any] = {"kind": "storage#objects", "items": items, "prefixes": folders}
    return _json(found | ({"nextPageToken": token} if token else {}))

  def _upload(self, bucket: str, query: dict[str, str], body: bytes):
    kind = query.get("uploadType")
    if kind == "multipart":
      head, content = _parts(self.headers["Content-Type"], body)
      return self._finish(bucket, json.loads(head)["name"], content, query)
    if kind == "media":
      return self._finish(bucket, query["name"], body, query)
    if "upload_id" not in query:
      name = query.get("name") or json.loads(body)["name"]
      upload = uuid.uuid4().hex
      self.store.uploads[upload] = (bucket, name, b"")
      location = f"{self.store.url}{self.path}&upload_id={upload}"
      return 200, b"", {"Location": location}
    upload = query["upload_id"]
    bucket, name, content = self.store.uploads[upload]
    if self.command == "DELETE":  # given up: no object comes of it
      del self.store.uploads[upload]
      raise _Refused(499)
    # "bytes 0-4/9", "bytes 5-8/*", "bytes */9": what is sent again takes the place of the first.
    span = self.headers.get("Content-Range", "")
    start = re.match(r"bytes (\d+)-", span)
    content = content[: int(start[1]) if start else None] + body
    self.store.uploads[upload] = (bucket, name, content)
    total = span.rpartition("/")[2]
    if total == "*" or (total and len(content) < int(total)):
      return 308, b"", {"Range": f"bytes=0-{len(content) - 1}"}
    del self.store.uploads[upload]
    return self._finish(bucket, name, content, query)

  def _finish(self, bucket: str, name: str, content: bytes, query: dict[str, str]):
    self._check(bucket, name, query)
    return _json(_resource(bucket, name, self.store.put(bucket, name, content)))

  def _batch(self, body: bytes):
    """Several requests in one, of which clients send only deletions."""
    boundary = "batch_answers"
    answers = []
    for part in _messages(self.headers["Content-Type"], body):
      request = part.get_payload()
      assert isinstance(request, str)
      match = re.match(r"DELETE (?:https?://[^/]+)?/(?:storage/v1/)?b/([^/]+)/o/(\S+)", request)
      assert match, f"only deletions come in batches: {request}"
      name = _unquote(match[2].split("?")[0])
      gone = self.store.blobs.pop((match[1], name), None)
      status = "204 No Content" if gone else "404 Not Found"
      identity = part["Content-ID"] or ""
      answers.append(
        f"--{boundary}\r\nContent-Type: application/http\r\n"
        f"Content-ID: <response-{identity.strip('<>')}>\r\n\r\n"
        f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n\r\n"
      )
    content = "".join(answers) + f"--{boundary}--\r\n"
    return 200, content.encode(), {"Content-Type": f"multipart/mixed; boundary={boundary}"}


def _json(value: Any):
  return 200, json.dumps(value).encode(), {"Content-Type": "application/json"}


def _unquote(name: str) -> str:
  return urllib.parse.unquote(name)


def _resource(bucket: str, name: str, blob: Blob) -> dict[str, str]:
  moment = "2024-01-01T00:00:00.000Z"
  return {
    "kind": "storage#object",
    "bucket": bucket,
    "name": name,
    "size": str(len(blob.content)),
    "generation": str(blob.generation),
    "metageneration": "1",
    "etag": str(blob.generation),
    "md5Hash": base64.b64encode(hashlib.md5(blob.content).digest()).decode(),
    "timeCreated": moment,
    "updated": moment,
  }


def _parts(content_type: str, body: bytes) -> list[bytes]:
  """Bodies of a multipart message, byte for byte (`email` would touch line ends)."""
  match = re.search(r'boundary="?([^";]+)', content_type)
  assert match, content_type
  mark = b"--" + match[1].encode()
  newline = b"\r\n" if body.startswith(mark + b"\r\n") else b"\n"
  pieces = (newline + body).split(newline + mark)[1:-1]
  return [piece.split(2 * newline, maxsplit=1)[1] for piece in pieces]


def _messages(content_type: str, body: bytes):
  head = f"Content-Type: {content_type}\r\n\r\n".encode()
  message = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(head + body)
  return message.get_payload()


@contextlib.contextmanager
def serve_s3() -> Iterator[str]:
  """Runs moto's S3 (an optional test dependency) and gives the URL of an empty bucket."""
  from moto.server import ThreadedMotoServer
  import s3fs

  logging.getLogger("werkzeug").setLevel(logging.ERROR)
  server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
  server.start()
  host, port = server.get_host_and_port()
  variables = {
    "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
  }
  try:
    with unittest.mock.patch.dict(os.environ, variables):
      s3fs.S3FileSystem.clear_instance_cache()
      forget_clients()
      s3fs.S3FileSystem().mkdir("bucket")
      yield "s3://bucket"
  finally:
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
