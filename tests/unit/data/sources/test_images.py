import io
import json
import math
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest

from vidjax import errors
from vidjax.data import pictures, sources, transforms
from vidjax.data.config import SetConfig

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
SMOOTH = np.stack(np.meshgrid(np.arange(0, 240, 8), np.arange(0, 160, 8)), -1).astype(np.uint8)
SMOOTH = np.concatenate([SMOOTH, SMOOTH[..., :1] // 2], -1)  # 20 x 30, kind to JPEG


def open_images(path, split="train", **options):
  return sources.open_source(SetConfig(str(path), "images", split, options=options))


def encode(image: PIL.Image.Image, format: str, **options) -> bytes:
  stream = io.BytesIO()
  image.save(stream, format, **options)
  return stream.getvalue()


def test_a_folder_of_pictures(tmp_path, png):
  for name in ("b.png", "a/c.PNG", "a/b.bmp", "notes.txt", "film.mp4"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(png(PICTURE, "BMP" if name.endswith("bmp") else "PNG"))
  (tmp_path / "b.txt").write_text("A picture of noise.")
  source = open_images(tmp_path)
  assert [source.name(i) for i in range(len(source.listing))] == ["a/b.bmp", "a/c.PNG", "b.png"]
  assert (source.listing.durations_s == math.inf).all()
  assert (source.listing.fps == math.inf).all()
  np.testing.assert_array_equal(source.listing.sizes, [[20, 30]] * 3)
  clip = source[2]
  assert (clip.duration_s, clip.captions) == (math.inf, {"sidecar": "A picture of noise."})
  np.testing.assert_array_equal(clip.times_s(), [0.0])
  np.testing.assert_array_equal(clip.read(np.array([0.0, 7.5]), (20, 30)), [PICTURE, PICTURE])
  np.testing.assert_array_equal(
    clip.read(np.zeros(1), (10, 10)), transforms.cover(PICTURE[None], (10, 10))
  )


def test_listing_reads_headers_alone(tmp_path, png, monkeypatch):
  (tmp_path / "a.png").write_bytes(png(PICTURE))
  monkeypatch.setattr(PIL.Image.Image, "load", lambda *_: pytest.fail("decoded"))
  assert open_images(tmp_path).listing.sizes.tolist() == [[20, 30]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
  image = PIL.Image.fromarray(PICTURE)
  exif = PIL.Image.Exif()
  exif[0x0112] = orientation
  content = encode(image, "PNG", exif=exif)
  upright = {
    1: PICTURE,
    2: PICTURE[:, ::-1],
    3: PICTURE[::-1, ::-1],
    4: PICTURE[::-1],
    5: PICTURE.transpose(1, 0, 2),
    6: PICTURE[::-1].transpose(1, 0, 2),
    7: PICTURE[::-1, ::-1].transpose(1, 0, 2),
    8: PICTURE[:, ::-1].transpose(1, 0, 2),
  }[orientation]
  np.testing.assert_array_equal(pictures.read(content), upright)
  assert pictures.probe(content) == upright.shape[:2]


def test_exif_of_jpeg_and_broken_exif():
  image = PIL.Image.fromarray(SMOOTH)
  exif = PIL.Image.Exif()
  exif[0x0112] = 6
  assert pictures.read(encode(image, "JPEG", exif=exif)).shape == (30, 20, 3)
  broken = encode(image, "JPEG", exif=b"Exif\x00\x00XX*\x00broken")
  assert pictures.probe(broken) == (20, 30)
  assert pictures.read(broken).shape == (20, 30, 3)


def test_colours():
  grey = PICTURE[..., 0]
  expected = np.repeat(grey[..., None], 3, -1)
  np.testing.assert_array_equal(pictures.read(encode(PIL.Image.fromarray(grey), "PNG")), expected)
  wide = grey.astype(np.uint16) * 257
  np.testing.assert_array_equal(pictures.read(encode(PIL.Image.fromarray(wide), "PNG")), expected)
  np.testing.assert_array_equal(pictures.read(encode(PIL.Image.fromarray(wide), "TIFF")), expected)
  bits = PIL.Image.fromarray(grey).convert("1")
  np.testing.assert_array_equal(
    pictures.read(encode(bits, "PNG"))[..., 1], np.asarray(bits) * np.uint8(255)
  )
  palette = PIL.Image.fromarray(PICTURE).quantize(16)
  np.testing.assert_array_equal(
    pictures.read(encode(palette, "PNG")), np.asarray(palette.convert("RGB"))
  )
  cmyk = pictures.read(encode(PIL.Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=98))
  assert np.abs(cmyk.astype(int) - SMOOTH).max() < 16


def test_what_is_transparent_is_white():
  rgba = np.dstack([PICTURE, np.full((20, 30), 255, np.uint8)])
  rgba[:10, :, 3] = 0
  rgba[10, :, 3] = 128
  for format, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
    read = pictures.read(encode(PIL.Image.fromarray(rgba), format, **options))
    assert (read[:10] == 255).all(), format
    np.testing.assert_array_equal(read[11:], PICTURE[11:])
    half = np.rint(PICTURE[10] * (128 / 255) + 255 * (127 / 255))
    assert np.abs(read[10] - half).max() <= 1
  palette = PIL.Image.fromarray(PICTURE).quantize(4)
  keyed = pictures.read(encode(palette, "PNG", transparency=0))
  assert (keyed[np.asarray(palette) == 0] == 255).all()
  with_alpha = encode(palette, "PNG", transparency=bytes([0, 255, 255, 255]))
  np.testing.assert_array_equal(pictures.read(with_alpha), keyed)
  grey = PIL.Image.fromarray(rgba[..., 2:])  # two channels: grey and alpha
  assert grey.mode == "LA"
  assert (pictures.read(encode(grey, "PNG"))[:10] == 255).all()


def test_first_frame_of_an_animation(tmp_path):
  frames = [PIL.Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
  frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
  source = open_images(tmp_path)
  assert source[0].read(np.zeros(1), (6, 8))[0, 0, 0].tolist() == [255, 0, 0]
  assert source.listing.durations_s[0] == math.inf


def png_header(width: int, height: int) -> bytes:
  """A PNG that says it is of this size and holds next to nothing."""

  def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

  header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
  body = chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
  return b"\x89PNG\r\n\x1a\n" + header + body


def test_damaged_pictures(tmp_path, png, caplog):
  jpeg = encode(PIL.Image.fromarray(np.tile(SMOOTH, (9, 9, 1))), "JPEG")
  content = {
    "bomb.png": png_header(60_000, 60_000),
    "empty.png": b"",
    "good.png": png(PICTURE),
    "short.jpg": jpeg[: len(jpeg) // 2],
    "text.jpg": b"<html>404 not found</html>",
    "tiny.png": png_header(30, 20),
  }
  for name, data in content.items():
    (tmp_path / name).write_bytes(data)
  source = open_images(tmp_path)
  finite = dict(zip(content, np.isinf(source.listing.durations_s), strict=True))
  # Headers do not tell what is cut short; reading does.
  assert [name for name, fine in finite.items() if not fine] == [
    "bomb.png",
    "empty.png",
    "text.jpg",
  ]
  assert "3 of 6 clips cannot be read" in caplog.text
  for number, name in enumerate(content):
    if name == "good.png":
      continue
    with pytest.raises(errors.DataError):
      source[number].read(np.zeros(1), (8, 8))


def test_damage_is_one_error_wherever_a_file_is_cut(png):
  whole = {
    "PNG": png(PICTURE),
    "JPEG": encode(PIL.Image.fromarray(np.tile(SMOOTH, (4, 4, 1))), "JPEG"),
    "GIF": encode(PIL.Image.fromarray(PICTURE), "GIF"),
    "WEBP": encode(PIL.Image.fromarray(PICTURE), "WEBP"),
    "TIFF": encode(PIL.Image.fromarray(PICTURE), "TIFF"),
    "BMP": encode(PIL.Image.fromarray(PICTURE), "BMP"),
  }
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for format, content in whole.items():
      for length in np.linspace(0, len(content) * 0.9, 25).astype(int):
        try:
          pictures.read(content[:length])
        except errors.DataError:
          continue
        except Exception as error:
          raise AssertionError(f"{format} cut at {length}") from error


def test_no_pictures(tmp_path):
  (tmp_path / "a.mp4").touch()
  with pytest.raises(errors.DataError, match=r"no images in there or below.*\.webp"):
    open_images(tmp_path)
  with pytest.raises(ValueError, match="'images' has no option 'size'"):
    open_images(tmp_path, size=3)


def test_real_pictures(shared_data):
  source = open_images(shared_data / "images")
  known = {
    file["file"]: (file["height"], file["width"])
    for file in json.loads((shared_data / "MANIFEST.json").read_text())["files"]
    if file["kind"] == "image"
  }
  for number, (height, width) in enumerate(source.listing.sizes):
    name = source.name(number)
    if f"images/{name}" in known:
      assert {height, width} == set(known[f"images/{name}"]), name
    if name == "truncated.jpg":
      with pytest.raises(errors.DataError, match="truncated"):
        source[number].read(np.zeros(1), (32, 32))
    elif number % 6 == 0:
      read = source[number].read(np.zeros(1), (32, 32))
      assert read.shape[1:3] == transforms.cover_size((height, width), (32, 32))
