"""Files on a local disk and in an object store: whole or absent, and one error for a full disk."""

import errno
import os

import object_store
import pytest

from vidjax import storage
from vidjax.errors import NoSpaceError


@pytest.fixture(params=["local", "gs"])
def root(request, tmp_path, monkeypatch):
  monkeypatch.setenv("VIDJAX_CACHE", str(tmp_path / "cache"))
  if request.param == "local":
    yield storage.Path(tmp_path / "root")
    return
  with object_store.serve() as store, store.environment():
    yield storage.Path("gs://bucket/root")


def _names(folder) -> list[str]:
  return [str(file.relative_to(folder)) for file in storage.list_files(folder)]


def test_read_what_was_written(root):
  storage.write_bytes(root / "a" / "b.bin", b"\x00\r\n\xff")
  storage.write_text(root / "t.txt", "Zürich\n")
  storage.write_json(root / "j.json", {"x": [1, None]})
  assert storage.read_bytes(root / "a" / "b.bin") == b"\x00\r\n\xff"
  assert storage.read_text(root / "t.txt") == "Zürich\n"
  assert storage.read_json(str(root / "j.json")) == {"x": [1, None]}
  assert _names(root) == ["a/b.bin", "j.json", "t.txt"]
  storage.write_text(root / "t.txt", "new")
  assert storage.read_text(root / "t.txt") == "new"


def test_paths_behave_like_pathlib(root):
  for name in ("a/1.txt", "a/2.txt", "b/3.txt"):
    storage.write_text(root / name, name)
  assert sorted(path.name for path in root.iterdir()) == ["a", "b"]
  assert sorted(path.name for path in root.glob("*/*.txt")) == ["1.txt", "2.txt", "3.txt"]
  (root / "a" / "1.txt").rename(root / "a" / "9.txt")
  assert _names(root / "a") == ["2.txt", "9.txt"]
  assert (root / "a").is_dir()
  assert not (root / "c").exists()
  storage.remove(root / "a")
  storage.remove(root / "b" / "3.txt")
  storage.remove(root / "never")
  assert not (root / "a").exists()


def test_states_tell_what_was_written_again(root):
  for name in ("b.txt", "a/2.txt", "a.txt"):
    storage.write_text(root / name, name)
  before = storage.file_states(root)
  assert [(state.name, state.size) for state in before] == [
    ("a.txt", 5),
    ("a/2.txt", 7),
    ("b.txt", 5),
  ]
  assert storage.file_states(root) == before
  storage.write_text(root / "a/2.txt", "7 bytes")
  changed = {state.name for state in storage.file_states(root)} - {
    new.name for new, old in zip(storage.file_states(root), before, strict=True) if new == old
  }
  assert changed == {"a/2.txt"}
  with pytest.raises(FileNotFoundError, match="nowhere"):
    storage.file_states(root / "nowhere")


def test_a_folder_marked_read_only(root):
  storage.write_text(root / "a.txt", "a")
  assert not storage.is_read_only(root)
  if storage.is_local(root):
    os.chmod(root, 0o555)
    assert storage.is_read_only(root)
    os.chmod(root, 0o755)


def test_large_file_and_seeking(root):
  content = os.urandom(7 << 20)
  storage.write_bytes(root / "x", content)
  with storage.open_read(root / "x") as file:
    file.seek(5 << 20)
    assert file.read(100) == content[5 << 20 : (5 << 20) + 100]
  assert storage.sha256(root / "x") == storage.hashlib.sha256(content).hexdigest()


def test_listing_shows_what_others_wrote(root):
  storage.write_text(root / "1", "")
  assert _names(root) == ["1"]
  if not storage.is_local(root):  # another host, with a client of its own
    fs = storage.fsspec.filesystem("gs", skip_instance_cache=True)
    fs.pipe_file(f"{root}/2", b"")
  else:
    (root / "2").touch()
  assert _names(root) == ["1", "2"]


def test_failed_block_leaves_the_old_file(root):
  storage.write_text(root / "x.txt", "old")

  def write_half():
    with storage.staged(root / "x.txt") as local:
      storage.write_text(local, "half")
      assert local.endswith(".txt")
      raise RuntimeError("power cut")

  with pytest.raises(RuntimeError, match="power cut"):
    write_half()
  assert storage.read_text(root / "x.txt") == "old"
  assert _names(root) == ["x.txt"]


def test_unfinished_files_are_not_listed(tmp_path):
  with storage.staged(tmp_path / "x.mp4") as local:
    storage.write_text(local, "half")
    assert storage.list_files(tmp_path) == []
  assert _names(tmp_path) == ["x.mp4"]
  assert list(tmp_path.iterdir()) == [tmp_path / "x.mp4"]


def test_local_names(root):
  storage.write_text(root / "d" / "x.txt", "1")
  with storage.local_copy(root / "d" / "x.txt") as file, storage.local_copy(root / "d") as folder:
    assert storage.is_local(file)
    assert file.endswith("x.txt")
    assert storage.read_text(file) == "1"
    assert storage.read_text(f"{folder}/x.txt") == "1"
  assert storage.Path(file).exists() == storage.is_local(root)


def test_cached_copy_follows_changes(root):
  storage.write_text(root / "d" / "x.txt", "1")
  first = storage.cached_copy(root / "d")
  assert storage.read_text(f"{first}/x.txt") == "1"
  assert storage.cached_copy(root / "d") == first
  storage.write_text(root / "d" / "x.txt", "22")
  assert storage.read_text(f"{storage.cached_copy(root / 'd')}/x.txt") == "22"


def test_publish_file_and_folder(root, tmp_path):
  local = tmp_path / "made"
  storage.write_text(local / "sub" / "x.txt", "1")
  storage.publish(local, root)
  storage.publish(local / "sub" / "x.txt", root / "y.txt")
  assert _names(root) == ["sub/x.txt", "y.txt"]
  assert (local / "sub" / "x.txt").exists()


def test_upload_survives_a_busy_store():
  with object_store.serve() as store, store.environment():
    store.fail_next(1)
    storage.write_text("gs://bucket/x", "1")
    assert storage.read_text("gs://bucket/x") == "1"


def test_an_upload_in_several_pieces(tmp_path):
  content = os.urandom((50 << 20) + 17)  # a piece has 50 MiB
  (tmp_path / "x").write_bytes(content)
  with object_store.serve() as store, store.environment():
    storage.publish(tmp_path / "x", "gs://bucket/x")
    assert storage.read_bytes("gs://bucket/x") == content


def test_large_upload_that_fails_leaves_nothing(monkeypatch):
  from gcsfs import core

  def lost(*_args, **_kwargs):
    raise RuntimeError("the line is cut")

  monkeypatch.setattr(core, "upload_chunk", lost)
  with object_store.serve() as store, store.environment():
    with pytest.raises(Exception, match=r"the line is cut|499"):
      storage.write_bytes("gs://bucket/x", bytes(6 << 20))
    assert store.names("bucket") == []


def test_missing(root):
  with pytest.raises(FileNotFoundError):
    storage.read_bytes(root / "none")
  with pytest.raises(FileNotFoundError):
    storage.list_files(root / "none")


def test_broken_json_is_named(tmp_path):
  storage.write_text(tmp_path / "x.json", "{")
  with pytest.raises(ValueError, match=r"x\.json is not valid JSON"):
    storage.read_json(tmp_path / "x.json")


def test_free_space(root):
  free = storage.free_space(root / "not" / "yet")
  assert free is None if not storage.is_local(root) else free > 0


@pytest.mark.parametrize(
  "error",
  [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    ValueError("RESOURCE_EXHAUSTED: Error writing local file: No space left on device"),
  ],
)
def test_full_disk_is_one_error(tmp_path, monkeypatch, error):
  storage.write_text(tmp_path / "x", "old")

  def full(_):
    raise error

  monkeypatch.setattr(storage.os, "fsync", full)
  with pytest.raises(NoSpaceError, match="no space left to write"):
    storage.write_text(tmp_path / "x", "new")
  assert storage.read_text(tmp_path / "x") == "old"
  assert os.listdir(tmp_path) == ["x"]


def test_what_is_staged_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
  done = []
  flush, rename = os.fsync, os.replace

  def fsync(fd):
    done.append(("fsync", os.fstat(fd).st_ino, os.fstat(fd).st_size))
    flush(fd)

  def replace(source, target):
    done.append(("replace", os.stat(source).st_ino, os.stat(source).st_size))
    rename(source, target)

  monkeypatch.setattr(storage.os, "fsync", fsync)
  monkeypatch.setattr(storage.os, "replace", replace)
  with storage.staged(tmp_path / "x") as local, open(local, "wb") as file:
    file.write(b"as a library does")
  storage.write_text(tmp_path / "y", "as we do")
  for name, size, (first, second) in (("x", 17, done[:2]), ("y", 8, done[2:])):
    inode = os.stat(tmp_path / name).st_ino
    assert (first, second) == (("fsync", inode, size), ("replace", inode, size))


def test_other_errors_stay_what_they_are(tmp_path):
  with pytest.raises(PermissionError), storage.writing(tmp_path):
    raise PermissionError("no")
