"""Small pictures and videos whose pixels say which they are."""

import io
import pathlib

import media
import numpy as np
import PIL.Image
import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
  """A cache folder of the test's own."""
  folder = tmp_path_factory.mktemp("cache")
  monkeypatch.setenv("VIDJAX_CACHE", str(folder))
  return folder


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> pathlib.Path:
  """a.mp4 (2 s, 12 fps, several key frames) and b/c.webm (1 s at a variable rate); only to read."""
  folder = tmp_path_factory.mktemp("videos")
  media.write(folder / "a.mp4", media.shot(1, 24), fps=12, gop=6)
  times_s = [0.0, 0.1, 0.2, 0.5, 0.6, 0.9]
  media.write(
    folder / "b" / "c.webm", media.shot(2, 6, height=64, width=48), times_s=times_s, codec="libvpx"
  )
  return folder


def encode(picture_HWC: np.ndarray, format: str = "PNG", **options) -> bytes:
  stream = io.BytesIO()
  PIL.Image.fromarray(picture_HWC).save(stream, format, **options)
  return stream.getvalue()


@pytest.fixture(scope="session")
def png():
  """Encodes a picture losslessly."""
  return encode
