"""Pickles made to do harm: to run something, to reach other files, to fill memory or disk."""

import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from vidjax import storage
from vidjax.interop import pickles, safetensors

torch = pytest.importorskip("torch", reason="needs the extra `torch`")


class Call:
  """Pickles as a call of a global by its name, with arguments."""

  def __init__(self, function, *args, state=None):
    self.made = (function, args) if state is None else (function, args, state)

  def __reduce__(self):
    return self.made


def read(path):
  with pickles.as_safetensors(path) as converted:
    return {name: t.read() for name, t in safetensors.read_file(converted)[0].items()}


def saved(tmp_path, content, **options):
  path = tmp_path / "model.ckpt"
  torch.save(content, path, **options)
  return path


class _Stateful:
  def __setstate__(self, state):
    os.mkdir(state)


def hostile(tmp_path):
  mark = str(tmp_path / "ran")
  other = tmp_path / "other.bin"
  other.write_bytes(np.arange(4, dtype=np.float32).tobytes())
  tensor = torch.ones(2)
  return {
    "call": Call(os.mkdir, mark),
    "builtin": Call(eval, f"__import__('os').mkdir({mark!r})"),
    "getattr": Call(getattr, "text", "upper"),
    "inside a map": {"state_dict": {"w": tensor, "hyper": Call(os.mkdir, mark)}},
    "state of an object": Call(_Stateful, state=mark),
    "numpy object array": {"w": np.array([Call(os.mkdir, mark)], object)},
    "bytes as another pickle": Call(
      torch.storage._load_from_bytes, pickle.dumps(Call(os.mkdir, mark))
    ),
    "storage of another file": {"w": Call(torch.UntypedStorage.from_file, str(other), False, 16)},
    "as a class of tensors": Call(
      torch._tensor._rebuild_from_type_v2, os.mkdir, torch.Tensor, (mark,), {}
    ),
    "an argument that is called": Call(collections.Counter, [Call(os.mkdir, mark)]),
    "hooks": Call(torch._utils._rebuild_parameter, tensor, False, Call(os.mkdir, mark)),
  }


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_runs_and_no_other_file_is_read(tmp_path, zipped):
  for name, content in hostile(tmp_path).items():
    path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="is not a file of plain tensors") as refused:
      read(path)
    assert "weights_only" not in str(refused.value), "no advice to read it in the unsafe way"
    assert not (tmp_path / "ran").exists(), name


def raw(*operations):
  """A legacy pickle by its opcodes, which no pickler would write."""
  return b"\x80\x02" + b"".join(operations) + b"."


@pytest.mark.parametrize(
  "content",
  [
    raw(b"cos\nsystem\n", b"X\x04\x00\x00\x00true", b"\x85R"),
    raw(b"ctorch\nserialization.os.system\n", b"X\x04\x00\x00\x00true", b"\x85R"),
    raw(b"cbuiltins\ngetattr\n", b"ctorch\n_utils\n", b"X\x02\x00\x00\x00os", b"\x86R"),
    b"\x80\x04" + b"\x8c\x02os\x8c\x06system\x93" + b"\x8c\x04true\x85R.",  # STACK_GLOBAL
    raw(b"ctorch\nfrom_file\n", b"X\x04\x00\x00\x00true", b"\x85R"),
    raw(b"ctorch.storage\nUntypedStorage.from_file\n", b"X\x04\x00\x00\x00true", b"\x85R"),
    raw(b"(X\x04\x00\x00\x00trueios\nsystem\n"),  # INST
    raw(b"\x82\x01"),  # a global by a number
  ],
)
def test_globals_by_dotted_names_and_rare_opcodes_are_refused(tmp_path, content, monkeypatch):
  monkeypatch.setattr(os, "system", lambda _: pytest.fail("it ran"))
  path = tmp_path / "model.ckpt"
  path.write_bytes(content)
  with pytest.raises(ValueError, match="is not a file of plain tensors"):
    read(path)
  archive = tmp_path / "model.pt"
  with zipfile.ZipFile(archive, "w") as file:
    file.writestr("model/data.pkl", content)
    file.writestr("model/version", "3")
  with pytest.raises(ValueError, match="is not a file of plain tensors"):
    read(archive)


def test_the_environment_cannot_lift_the_restriction(tmp_path, monkeypatch):
  monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
  path = saved(tmp_path, {"w": torch.ones(2), "x": Call(os.mkdir, str(tmp_path / "ran"))})
  with pytest.raises(ValueError, match="is not a file of plain tensors"):
    read(path)
  assert not (tmp_path / "ran").exists()


def test_an_old_torch_is_refused(tmp_path, monkeypatch):
  path = saved(tmp_path, {"w": torch.ones(2)})
  monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
  with pytest.raises(ValueError, match=r"torch 2\.5\.1\+cpu.*install torch 2\.6 or newer"):
    read(path)


def test_numbers_that_are_repeated_do_not_fill_the_disk(tmp_path):
  path = saved(tmp_path, {"w": torch.ones(1).expand(1 << 20, 1 << 20)})
  with pytest.raises(ValueError, match=r"bytes, and its tensors say that they have 4398046511104"):
    read(path)


def test_members_that_are_compressed_do_not_fill_the_memory(tmp_path):
  plain = saved(tmp_path, {"w": torch.zeros(1 << 20)})
  packed = tmp_path / "packed.ckpt"
  with zipfile.ZipFile(plain) as source:
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
      for member in source.namelist():
        target.writestr(member, source.read(member))
  with pytest.raises(ValueError, match=r"unpacks to \d+ bytes, more than it has"):
    read(packed)


def test_attributes_do_not_stand_in_for_methods(tmp_path):
  weight = torch.ones(3)
  weight.is_floating_point = weight.numel = torch.FloatStorage
  weight.mark = "left out"
  found = read(saved(tmp_path, {"w": weight, "tied": torch.nn.Parameter(weight[:2])}))
  np.testing.assert_array_equal(found["w"], np.ones(3))
  np.testing.assert_array_equal(found["tied"], np.ones(2))


def test_tied_weights_pass(tmp_path):
  weight = torch.arange(6.0).reshape(2, 3)
  found = read(saved(tmp_path, {"a": weight, "b": weight}))
  np.testing.assert_array_equal(found["a"], found["b"])


def test_other_files_in_a_zip_are_not_opened(tmp_path):
  """Storages are members of this file: a name of another one is none."""
  path = saved(tmp_path, {"w": torch.ones(2)})
  stream = io.BytesIO()
  with zipfile.ZipFile(path) as source, zipfile.ZipFile(stream, "w") as target:
    for member in source.namelist():
      content = source.read(member)
      if member.endswith("data.pkl"):
        assert b"X\x01\x00\x00\x000" in content
        content = content.replace(b"X\x01\x00\x00\x000", b"X\x0c\x00\x00\x00../../../etc")
      target.writestr(member, content)
  storage.write_bytes(path, stream.getvalue())
  with pytest.raises(ValueError, match="is not a file of plain tensors"):
    read(path)
