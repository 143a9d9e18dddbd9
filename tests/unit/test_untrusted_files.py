"""Files of others: names in them stay below their folder, sizes in them are bounded."""

import gzip
import io
import json
import struct
import zipfile
import zlib

import numpy as np
import object_store
import pytest

from vidjax import errors, packed, storage
from vidjax.data.sources import folder, image_text, images, index, tfds
from vidjax.interop import safetensors

OUTSIDE = [
  "/etc/passwd",
  "../secret.png",
  "a/../../secret.png",
  "..",
  "",
  "a\\..\\secret.png",
  "C:/secret.png",
  "~/secret.png",
  "file:///etc/passwd",
  "http://169.254.169.254/latest",
  "gs://other/bucket.png",
  "a\0.png",
  None,
  7,
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_are_refused(name):
  with pytest.raises(ValueError, match=r"index\.json names the file .*below its own folder"):
    storage.below("gs://bucket/model", name, "index.json")


@pytest.mark.parametrize(
  "name", ["a.png", "a/b/c.png", "..a/b..png", "a b~c@d.png", ".hidden", "é:x"]
)
def test_names_below_pass(tmp_path, name):
  assert storage.below(tmp_path, name, "index.json") == storage.Path(tmp_path) / name
  assert str(storage.below("gs://bucket/m", name, "x")) == f"gs://bucket/m/{name}"


def test_index_of_weights_cannot_name_other_files(tmp_path):
  (tmp_path / "m").mkdir()
  safetensors.write(
    tmp_path, "secret", {"w": (np.dtype("f4"), (1,))}, lambda _: np.zeros(1, np.float32)
  )
  listing = tmp_path / "m" / "model.safetensors.index.json"
  listing.write_text(json.dumps({"weight_map": {"w": "../secret.safetensors"}}))
  with pytest.raises(ValueError, match=r"index\.json names the file '\.\./secret\.safetensors'"):
    safetensors.tensors(tmp_path / "m", "model")
  for broken in ({}, [], {"weight_map": ["x"]}, {"weight_map": {}}):
    listing.write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="has no `weight_map`"):
      safetensors.tensors(tmp_path / "m", "model")


def test_table_of_captions_cannot_name_other_files(tmp_path):
  (tmp_path / "metadata.jsonl").write_text('{"file_name": "../x.png", "text": "a"}\n')
  with pytest.raises(errors.DataError, match=r"metadata\.jsonl, row 0, names the file '\.\./x"):
    image_text.open_source(str(tmp_path), "train", {})


def test_index_of_a_data_set_cannot_name_other_files(tmp_path):
  """The index lies beside the data, and so comes with data that others made."""
  row = index.Row("a.png", "../../x.png", 3, True, folder.media.Facts(1.0, 1.0, 8, 8))
  source = folder.open_index(
    str(tmp_path), tmp_path, "index-images.npz", [index.Unit("a.png", "1")], lambda _: [row]
  )
  with pytest.raises(
    errors.DataError, match=r"index-images\.npz names the file '\.\./\.\./x\.png'"
  ):
    source[0]


@pytest.mark.parametrize(
  ("field", "value"),
  [("name", "../x"), ("filepathTemplate", "/etc/{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}")],
)
def test_tfds_metadata_cannot_name_other_files(tmp_path, field, value):
  split = {"name": "train", "shardLengths": ["1"], "numBytes": "1"}
  info = {"name": "x", "version": "1.0.0", "fileFormat": "array_record", "splits": [split]}
  (split if field == "filepathTemplate" else info)[field] = value
  with pytest.raises(errors.DataError, match=r"dataset_info\.json names the file"):
    tfds.find_shards(str(tmp_path), info, "train")


def test_keys_of_an_object_store_cannot_leave_the_download(tmp_path, monkeypatch):
  monkeypatch.setenv("VIDJAX_CACHE", str(tmp_path / "cache"))
  with object_store.serve() as store, store.environment():
    store.put("bucket", "model/a.txt", b"a")
    store.put("bucket", "model/../../../b.txt", b"b")
    with pytest.raises(ValueError, match=r"names the file '\.\./\.\./\.\./b\.txt'"):
      storage.cached_copy("gs://bucket/model")
  assert not list(tmp_path.rglob("b.txt"))


def test_json_is_bounded(tmp_path, monkeypatch):
  path = tmp_path / "config.json"
  path.write_text("[" * 100_000)
  with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
    storage.read_json(path)
  monkeypatch.setattr(storage, "MAX_JSON_BYTES", 10)
  path.write_text(json.dumps("x" * 9))
  with pytest.raises(ValueError, match=r"config\.json is larger than 10 bytes"):
    storage.read_json(path)
  path.write_text(json.dumps("x" * 8))
  assert storage.read_json(path) == "x" * 8


def test_texts_beside_pictures_are_bounded(tmp_path, monkeypatch):
  monkeypatch.setattr(folder.sidecar, "MAX_BYTES", 10)
  (tmp_path / "a.png").write_bytes(b"")
  (tmp_path / "a.txt").write_text("x" * 11)
  with pytest.raises(errors.DataError, match=r"side-car .*a\.txt is larger than 10 bytes"):
    images.open_source(str(tmp_path), "train", {})


def test_arrays_that_unpack_to_absurdly_much_are_refused(tmp_path, monkeypatch):
  path = tmp_path / "index.npz"
  np.savez_compressed(path, zeros=np.zeros(1_000_000))
  with packed.load_arrays(path) as stored:
    assert stored["zeros"].shape == (1_000_000,)
  monkeypatch.setattr(packed, "FREE_BYTES", 1 << 20)
  with pytest.raises(ValueError, match=r"index\.npz unpacks from \d+ to 8\d+ bytes"):
    packed.load_arrays(path)
  np.savez(path, numbers=np.random.default_rng(0).random(1_000_000))
  packed.load_arrays(path).close()
  path.write_bytes(b"PK nothing")
  with pytest.raises(errors.DataError, match=r"index\.npz is not an \.npz file"):
    packed.load_arrays(path, errors.DataError)


def test_arrays_of_objects_are_not_read(tmp_path):
  np.savez(tmp_path / "x.npz", objects=np.array([{}], object))
  with packed.load_arrays(tmp_path / "x.npz") as stored:
    with pytest.raises(ValueError, match="allow_pickle=False"):
      stored["objects"]


def test_gzip_is_bounded(tmp_path):
  path = tmp_path / "x.gz"
  path.write_bytes(gzip.compress(b"0" * 100_000))
  assert packed.gunzip(path) == b"0" * 100_000
  with pytest.raises(ValueError, match=r"x\.gz is cut short, or unpacks to more than 1000 bytes"):
    packed.gunzip(path, limit=1000)
  path.write_bytes(b"no gzip")
  with pytest.raises(ValueError, match=r"x\.gz is not a gzip file"):
    packed.gunzip(path)


def header_only(tmp_path, entries):
  text = json.dumps(entries).encode() if not isinstance(entries, bytes) else entries
  path = tmp_path / "model.safetensors"
  path.write_bytes(struct.pack("<Q", len(text)) + text)
  return path


@pytest.mark.parametrize(
  "shape", [[2**32, 2**32], [2**63, 2], [0, 2**70], [1] * 100, [-1, -1], [2**64]]
)
def test_shapes_that_overflow_are_refused(tmp_path, shape):
  entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
  if shape == [1] * 100:
    entry["data_offsets"] = [0, 4]
  with pytest.raises(ValueError, match="header is broken"):
    safetensors.read_file(header_only(tmp_path, {"w": entry}))


@pytest.mark.parametrize("header", [b"[" * 100_000, b'{"__metadata__": 3}', b"[]", b"7"])
def test_headers_that_are_no_headers_are_refused(tmp_path, header):
  with pytest.raises(ValueError, match="is not a safetensors file"):
    safetensors.read_file(header_only(tmp_path, header))


def test_a_header_that_says_an_absurd_length_is_not_read(tmp_path):
  path = tmp_path / "model.safetensors"
  for length in (2**63, 2**64 - 1, 10**9):
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(ValueError, match="is not a safetensors file"):
      safetensors.read_file(path)


def test_raw_pixels_in_a_record_are_bounded(monkeypatch):
  monkeypatch.setattr(tfds.tfds_features, "MAX_RAW_BYTES", 1000)
  assert tfds.tfds_features._unpacked(zlib.compress(bytes(1000))) == bytes(1000)
  with pytest.raises(errors.DataError, match="more than 1000 bytes"):
    tfds.tfds_features._unpacked(zlib.compress(bytes(1001)))
  with pytest.raises(zlib.error):
    tfds.tfds_features._unpacked(zlib.compress(bytes(1000))[:-3])


def test_archives_within_archives_count(tmp_path, monkeypatch):
  """Members that share their bytes (David Fifield's bomb) are counted each."""
  monkeypatch.setattr(packed, "FREE_BYTES", 1000)
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
    for number in range(10):
      archive.writestr(f"{number}.npy", bytes(50_000))
  (tmp_path / "x.npz").write_bytes(stream.getvalue())
  with pytest.raises(ValueError, match="unpacks from"):
    packed.load_arrays(tmp_path / "x.npz")
