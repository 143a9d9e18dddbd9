"""Which files count as media, which are broken, and what is written beside them."""

import json
import os

import pytest

from data_pipelines import ingest, signals
from tests import media, object_store
from vidjax import storage


def test_media_is_told_by_suffix_or_header(tmp_path):
  media.write(tmp_path / "a" / "deep" / "clip.mp4", media.shot(1, 3))
  (tmp_path / "no_suffix").write_bytes((tmp_path / "a" / "deep" / "clip.mp4").read_bytes())
  (tmp_path / "empty.webm").touch()
  (tmp_path / "song.mp3").write_bytes(b"ID3")
  (tmp_path / "photo.JPG").write_bytes(b"\xff\xd8\xff")
  (tmp_path / "picture").write_bytes(b"\x89PNG\r\n")
  (tmp_path / "a" / "clip.txt").write_text("caption")
  (tmp_path / "notes").write_text("GIFs are nice")
  found = ingest.list_media(tmp_path)
  assert found.media == ("a/deep/clip.mp4", "empty.webm", "no_suffix", "song.mp3")
  assert (found.images, found.others) == (2, 2)


def test_an_output_folder_inside_is_left_out(tmp_path):
  media.write(tmp_path / "in.mp4", media.shot(1, 3))
  media.write(tmp_path / "out" / "clip.mp4", media.shot(1, 3))
  assert ingest.list_media(tmp_path, skip=[tmp_path / "out"]).media == ("in.mp4",)


@pytest.mark.parametrize(
  ("pattern", "expected"),
  [
    ("*.mp4", ["a.mp4"]),
    ("**/*.mp4", ["a.mp4", "b/c.mp4", "b/d/e.mp4"]),
    ("b/**", ["b/c.mp4", "b/c2.webm", "b/d/e.mp4"]),
    ("b/c?.*", ["b/c2.webm"]),
    ("*/d/*.mp4", ["b/d/e.mp4"]),
  ],
)
def test_patterns(tmp_path, pattern, expected):
  for name in ("a.mp4", "b/c.mp4", "b/c2.webm", "b/d/e.mp4", "b/x.txt"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
  found = ingest.find(f"{tmp_path}/{pattern}")
  assert [f"{found.root}/{name}" for name in found.media] == [f"{tmp_path}/{n}" for n in expected]
  assert found.signature != ingest.find(str(tmp_path)).signature


def test_a_folder_may_be_called_like_a_pattern(tmp_path):
  (tmp_path / "what?").mkdir()
  (tmp_path / "what?" / "a.mp4").touch()
  assert ingest.find(f"{tmp_path}/what?").media == ("a.mp4",)


def test_the_signature_follows_the_files(tmp_path):
  path = media.write(tmp_path / "in.mp4", media.shot(1, 3))
  before = ingest.list_media(tmp_path).signature
  assert ingest.list_media(tmp_path).signature == before
  (tmp_path / "in.txt").write_text("a caption")
  with_caption = ingest.list_media(tmp_path).signature
  path.write_bytes(path.read_bytes() + b"x")
  assert len({before, with_caption, ingest.list_media(tmp_path).signature}) == 3


def test_the_signature_of_a_list_follows_what_is_beside_its_files(tmp_path):
  (tmp_path / "a" / "b").mkdir(parents=True)
  (tmp_path / "a" / "b" / "in.mp4").write_bytes(b"video")
  (tmp_path / "list.csv").write_text("file_name\na/b/in.mp4\na/absent.mp4")
  signatures = [ingest.find(f"{tmp_path}/list.csv").signature]
  (tmp_path / "a" / "b" / "in.mp4.json").write_text('"a caption"')
  signatures.append(ingest.find(f"{tmp_path}/list.csv").signature)
  (tmp_path / "a" / "b" / "in.mp4.json").write_text('"another caption"')
  signatures.append(ingest.find(f"{tmp_path}/list.csv").signature)
  (tmp_path / "a" / "other.txt").write_text("of nobody")
  assert ingest.find(f"{tmp_path}/list.csv").signature == signatures[-1]
  (tmp_path / "a" / "absent.mp4").write_bytes(b"there")
  signatures.append(ingest.find(f"{tmp_path}/list.csv").signature)
  assert len(set(signatures)) == 4


def test_files_that_cannot_be_read_are_listed(tmp_path):
  (tmp_path / "a.mp4").write_bytes(b"video")
  (tmp_path / "gone.mp4").symlink_to("nowhere.mp4")
  os.mkfifo(tmp_path / "pipe")
  (tmp_path / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"video")
  found = ingest.find(str(tmp_path))
  assert found.media == ("a.mp4", "gone.mp4")
  assert found.sizes["gone.mp4"] == -1
  assert [reject.source for reject in found.refused] == [r"caf\udce9.mp4"]
  assert (found.num_files, found.others) == (3, 1)
  (tmp_path / "list.jsonl").write_text('{"file_name": "caf\\udce9.mp4"}\n{"file_name": "a.mp4"}')
  listed = ingest.find(f"{tmp_path}/list.jsonl")
  assert (listed.media, listed.refused) == (("a.mp4",), found.refused)


@pytest.mark.parametrize("what", ["", "/list.csv"])
def test_a_store_is_not_asked_file_by_file(what):
  asked = []
  with object_store.serve() as store, store.environment():
    for count in (2, 20):
      root = f"gs://raw/{count}"
      names = [f"day/{i}.mp4" for i in range(count)]
      for name in names:
        storage.write_text(f"{root}/{name}", f"video {name}")
        storage.write_text(f"{root}/{name}.txt", "a caption")
      if what:
        storage.write_text(f"{root}{what}", "\n".join(["file_name", *names]))
      before = store.requests
      found = ingest.find(f"{root}{what}")
      asked.append(store.requests - before)
      assert found.media == tuple(sorted(names))
      assert found.sizes[names[0]] == len("video day/0.mp4")
      assert len(found.signature) >= 2 * count
      storage.write_text(f"{root}/{names[0]}.txt", "a changed caption")
      assert ingest.find(f"{root}{what}").signature != found.signature
  assert max(asked) < 15


def test_folders_that_are_not_there(tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(FileNotFoundError, match="no such folder"):
    ingest.list_media(tmp_path / "absent")
  with pytest.raises(NotADirectoryError, match="is a file"):
    ingest.list_media(tmp_path / "file")


@pytest.mark.parametrize(
  ("name", "text", "expected"),
  [
    ("v.txt", " A dog runs. \n", {"sidecar": "A dog runs."}),
    ("v.mp4.txt", "A cat.", {"sidecar": "A cat."}),
    ("v.json", json.dumps("A bird."), {"sidecar": "A bird."}),
    ("v.json", json.dumps({"caption": "A fish.", "fps": 3}), {"sidecar": "A fish."}),
    (
      "v.json",
      json.dumps({"captions": ["One.", "Two."]}),
      {"sidecar": "One.", "sidecar_1": "Two."},
    ),
    ("v.json", json.dumps({"captions": {"human": "Three."}}), {"human": "Three."}),
    (
      "v.json",
      json.dumps({"short": "Four.", "long": "Five."}),
      {"short": "Four.", "long": "Five."},
    ),
    ("v.json", json.dumps({"url": "Six.", "views": 6}), {}),
    ("v.json", "{broken", {}),
    ("v.txt", "", {}),
  ],
)
def test_captions_beside_a_video(tmp_path, name, text, expected):
  (tmp_path / name).write_text(text)
  assert ingest.sidecar_captions(tmp_path, "v.mp4") == expected


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "gif"])
@pytest.mark.parametrize("whole", [True, False])
def test_truncated_files_are_told_from_whole_ones(tmp_path, suffix, whole):
  codec = {"avi": "mpeg4", "gif": "gif"}.get(suffix, "libx264")
  pix_fmt = "rgb8" if suffix == "gif" else "yuv420p"
  path = media.write(
    tmp_path / f"x.{suffix}", media.shot(2, 60), fps=10, codec=codec, pix_fmt=pix_fmt
  )
  data = path.read_bytes()
  if suffix == "mp4":  # index first, so that it survives
    from vidjax.data import mp4

    data = mp4.encode_mp4(media.shot(2, 60), [i / 10 for i in range(60)])
  path.write_bytes(data if whole else data[: len(data) // 2])
  found = signals.read_signals(str(path))
  assert bool(found.errors) is not whole, found.errors
  if not whole:
    assert 1 <= found.num_frames < 55


def test_a_header_that_lies_about_the_count_is_no_error(shared_data):
  found = signals.read_signals(str(shared_data / "videos" / "tree.avi"))
  assert (found.num_frames, found.frames_expected, found.errors) == (68, 444, [])


def test_titles_in_odd_encodings_do_not_stop_reading(tmp_path):
  path = media.write(tmp_path / "v.mp4", media.shot(1, 5))
  path.write_bytes(path.read_bytes().replace(b"Lavf", b"\xe9\xff\xfe!"))
  assert signals.read_signals(str(path)).num_frames == 5


def test_damaged_frames_are_counted(tmp_path):
  path = media.write(tmp_path / "v.mkv", media.shot(2, 60), gop=10)
  data = bytearray(path.read_bytes())
  assert signals.read_signals(str(path)).damaged == []
  data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
  path.write_bytes(data)
  found = signals.read_signals(str(path))
  assert found.damaged or found.errors
