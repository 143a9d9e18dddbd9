"""Our safetensors files against the library of that name."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from vidjax.interop import safetensors as ours

ARRAYS = {
  "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
  "b": np.array(2.5, np.float32),
  "c": np.arange(5, dtype=np.int64),
}
SPECS = {name: (array.dtype, array.shape) for name, array in ARRAYS.items()}


def read(folder, stem="model"):
  return {name: tensor.read() for name, tensor in ours.tensors(folder, stem).items()}


def equal(left, right):
  assert left.keys() == right.keys()
  for name, array in left.items():
    assert array.dtype == right[name].dtype
    np.testing.assert_array_equal(array, right[name])


def test_the_library_reads_what_we_write(tmp_path):
  files = ours.write(tmp_path, "model", SPECS, ARRAYS.__getitem__)
  assert [file.name for file in files] == ["model.safetensors"]
  equal(safetensors.numpy.load_file(tmp_path / "model.safetensors"), ARRAYS)
  with safetensors.safe_open(tmp_path / "model.safetensors", "np") as file:
    assert file.metadata() == {"format": "pt"}  # transformers refuses files without


def test_we_read_what_the_library_writes(tmp_path):
  safetensors.numpy.save_file(ARRAYS, tmp_path / "model.safetensors")
  equal(read(tmp_path), ARRAYS)


def test_large_models_are_split(tmp_path):
  files = ours.write(tmp_path, "model", SPECS, ARRAYS.__getitem__, max_shard_bytes=50)
  names = [file.name for file in files]
  assert names == [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
  ]
  index = json.loads((tmp_path / names[-1]).read_text())
  assert index["metadata"]["total_size"] == 48 + 4 + 40
  assert set(index["weight_map"]) == set(ARRAYS)
  equal(read(tmp_path), ARRAYS)
  (tmp_path / names[1]).unlink()
  with pytest.raises(ValueError, match=names[1]):
    read(tmp_path)


def test_half_precision_is_read(tmp_path):
  values = np.array([1.5, -3.0], ml_dtypes.bfloat16)
  ours.write(tmp_path, "model", {"x": (values.dtype, values.shape)}, lambda name: values)
  (tmp_path / "model.safetensors").rename(tmp_path / "model.fp16.safetensors")
  equal(read(tmp_path), {"x": values})


def test_broken_files_are_named(tmp_path):
  with pytest.raises(ValueError, match=r"model.safetensors does not exist"):
    read(tmp_path)
  path = tmp_path / "model.safetensors"
  path.write_bytes(b"not a model")
  with pytest.raises(ValueError, match=r"model.safetensors is not a safetensors file"):
    read(tmp_path)
  ours.write(tmp_path, "model", SPECS, ARRAYS.__getitem__)
  path.write_bytes(path.read_bytes()[:-8])
  with pytest.raises(ValueError, match=r"shorter than its header says"):
    read(tmp_path)


def header(path, change):
  """Rewrites the header of a file."""
  content = path.read_bytes()
  length = struct.unpack("<Q", content[:8])[0]
  entries = json.loads(content[8 : 8 + length])
  text = json.dumps(change(entries)).encode()
  path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def replaced(name, **values):
  return lambda entries: {**entries, name: {**entries[name], **values}}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (replaced("b", data_offsets=[40, 44]), "tensors a.weight and b overlap"),
    (replaced("c", data_offsets=[400, 440]), "shorter than its header says.*c ends at"),
    (replaced("b", data_offsets=[-4, 0]), "tensor b has the bytes -4 to 0.*copy the file again"),
    (replaced("b", data_offsets=[52, 48]), "tensor b has the bytes 52 to 48"),
    (
      replaced("b", shape=[3]),
      r"tensor b has the bytes 48 to 52, but F32 of shape \(3,\) takes 12",
    ),
    (replaced("b", shape=[-1]), "the header is broken"),
    (replaced("b", data_offsets=[1]), "the header entry of tensor b is broken"),
    (replaced("b", dtype="F8_E4M3"), "tensor b has dtype F8_E4M3.*take the file with float32"),
    (lambda entries: {"b": 3}, "the header entry of tensor b is broken"),
    (lambda entries: ["b"], "is not a safetensors file"),
  ],
)
def test_headers_that_contradict_themselves_are_refused(tmp_path, change, message):
  ours.write(tmp_path, "model", SPECS, ARRAYS.__getitem__)
  path = tmp_path / "model.safetensors"
  header(path, change)
  with pytest.raises(ValueError, match=message) as error:
    ours.read_file(path)
  assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, struct.pack("<Q", 9) + b"{}"])
def test_garbage_is_refused_without_reading_it(tmp_path, content):
  path = tmp_path / "model.safetensors"
  path.write_bytes(content)
  with pytest.raises(ValueError, match="is not a safetensors file, or only its beginning"):
    ours.read_file(path)


def test_rows_of_a_tensor(tmp_path):
  ours.write(tmp_path, "model", SPECS, ARRAYS.__getitem__, metadata={"note": "text"})
  found, metadata = ours.read_file(tmp_path / "model.safetensors")
  np.testing.assert_array_equal(found["a.weight"].rows(1, 3), ARRAYS["a.weight"][1:3])
  assert metadata == {"format": "pt", "note": "text"}


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
  ours.write(tmp_path, "model", SPECS, ARRAYS.__getitem__)

  def fail(name):
    if name == "c":
      raise RuntimeError("stop")
    return ARRAYS[name] + 1

  with pytest.raises(RuntimeError, match="stop"):
    ours.write(tmp_path, "model", SPECS, fail)
  equal(read(tmp_path), ARRAYS)
  assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
