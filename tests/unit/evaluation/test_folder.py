import dataclasses
import io
import json
import pathlib
import zipfile

import media
import numpy as np
import object_store
import PIL.Image
import pytest

from vidjax import errors, storage
from vidjax.evaluation.datasets import Caption, ClipRule, open_dataset, read_clip

RULE = ClipRule(frames=4)


def opened(path, split=None, **options):
  return open_dataset("folder", str(path), split, **options)


def shot(seed, frames=5, size=(16, 24)):
  return media.shot(seed, frames, height=size[0], width=size[1])


def pictures(folder, frames, names):
  folder.mkdir(parents=True)
  for frame, name in zip(frames, names, strict=True):
    PIL.Image.fromarray(frame).save(folder / name)


def save(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  np.save(path, array)


def test_all_kinds_with_classes(tmp_path):
  media.write(tmp_path / "Dogs" / "a.mp4", shot(0))
  media.write(tmp_path / "Dogs" / "b.webm", shot(1), codec="libvpx")
  media.write(tmp_path / "Cats" / "c.gif", shot(2), codec="gif", pix_fmt="rgb8")
  pictures(tmp_path / "Cats" / "d", shot(3), [f"f{i}.png" for i in (8, 9, 10, 11, 100)])
  save(tmp_path / "e.npy", shot(4))
  save(tmp_path / "Cats" / "f.npy", np.stack([shot(5), shot(6)]))
  np.savez(tmp_path / "Dogs" / "g.npz", video=shot(7))
  (tmp_path / "Dogs" / ".hidden.mp4").touch()
  (tmp_path / "notes.md").touch()
  found = opened(tmp_path)
  assert [(item.id, item.label) for item in found.items] == [
    ("Cats/c", "Cats"),
    ("Cats/d", "Cats"),
    ("Cats/f[0]", "Cats"),
    ("Cats/f[1]", "Cats"),
    ("Dogs/a", "Dogs"),
    ("Dogs/b", "Dogs"),
    ("Dogs/g", "Dogs"),
    ("e", None),
  ]
  assert found.histogram == {"Cats": 4, "Dogs": 3}
  assert (found.name, found.expected, found.classes) == ("folder", 8, ("Cats", "Dogs"))
  clips = {item.id: read_clip(item, RULE) for item in found.items}
  for name, seed in (("Cats/d", 3), ("e", 4), ("Cats/f[0]", 5), ("Cats/f[1]", 6), ("Dogs/g", 7)):
    np.testing.assert_array_equal(clips[name].frames_THWC, shot(seed)[:4])
    assert clips[name].fps is None
  assert clips["Dogs/a"].fps == 24
  assert opened(tmp_path, "Dogs").histogram == {}
  assert [item.id for item in opened(tmp_path, "Dogs").items] == ["a", "b", "g"]


def test_rates_are_given_or_in_a_file(tmp_path):
  save(tmp_path / "a.npy", shot(0))
  save(tmp_path / "b.npy", shot(0)[None])
  media.write(tmp_path / "c.mp4", shot(0), fps=30)
  pictures(tmp_path / "d", shot(0), [f"{i}.jpg" for i in range(5)])

  def rates(**options):
    return [read_clip(item, ClipRule(frames=2)).fps for item in opened(tmp_path, **options).items]

  assert rates() == [None, None, 30, None]
  assert rates(fps=8) == [8, 8, 30, 8]
  (tmp_path / "fps.json").write_text("12.5")
  assert rates() == [12.5, 12.5, 30, 12.5]
  assert rates(fps=8) == [8, 8, 30, 8]
  (tmp_path / "fps.json").write_text('{"a": 5, "b": 6}')
  assert rates() == [5, 6, 30, None]
  for content, message in (("0", "frame rate is 0, not a"), ('{"a": "x"}', "of 'a' is 'x', not a")):
    (tmp_path / "fps.json").write_text(content)
    with pytest.raises(errors.DataError, match=rf"fps.json: the .*{message} positive number"):
      rates()
  with pytest.raises(ValueError, match="fps=-1: a frame rate is positive"):
    rates(fps=-1)


@pytest.mark.parametrize(
  ("file", "content"),
  [
    ("captions.json", json.dumps({"x/a": ["one", " two "], "b.npy": "three"})),
    ("captions.csv", "caption,id\none,x/a\n two ,x/a\nthree,b\n"),
    ("captions.csv", '\ufeffid,caption,more\nx/a,"one",1\nx/a,two,\nb,three,\n'),
    ("captions.txt", "x/a\tone\nx/a\t two\nb\tthree\n\n"),
  ],
)
def test_captions_beside_the_videos(tmp_path, file, content):
  for name in ("x/a", "b", "c"):
    save(tmp_path / f"{name}.npy", shot(0))
  (tmp_path / file).write_text(content, encoding="utf-8")
  captions = {item.id: item.captions for item in opened(tmp_path).items}
  assert captions == {
    "x/a": (Caption("one", 0), Caption("two", 1)),
    "b": (Caption("three", 0),),
    "c": (),
  }


def test_captions_name_what_is_missing(tmp_path):
  save(tmp_path / "a.npy", shot(0))
  (tmp_path / "captions.txt").write_text("a\tone\nb10\ttwo\nb9\tthree\n")
  with pytest.raises(
    errors.DataError, match=r"2 videos \(b9, b10\) of 3 are missing that its capt"
  ):
    opened(tmp_path)
  found = opened(tmp_path, allow_missing=True)
  assert (found.expected, found.missing) == (3, ("b9", "b10"))


@pytest.mark.parametrize(
  ("file", "content", "message"),
  [
    ("captions.json", b"[1]", r"captions.json holds a list: write an object of id -> text"),
    ("captions.json", b'{"a": 1}', r"the caption of 'a' is neither a text nor a list of texts"),
    ("captions.json", b'{"a"', r"captions.json cannot be read: "),
    ("captions.txt", b"\xff\xfe", r"captions.txt cannot be read: .*utf-8"),
    ("captions.txt", b"a\tone\nb two", r"captions.txt:2: no tabulator between .*: 'b two'"),
    ("captions.csv", b"name,text\na,b", r"its first line names name, text, not id and caption"),
    ("captions.csv", b"id,caption\na", r"captions.csv:2: has fewer columns"),
    ("captions.csv", b'id,caption\na,"b', r"captions.csv cannot be read: line \d+: "),
  ],
)
def test_captions_that_are_none(tmp_path, file, content, message):
  save(tmp_path / "a.npy", shot(0))
  (tmp_path / file).write_bytes(content)
  with pytest.raises(errors.DataError, match=message):
    opened(tmp_path)


@pytest.mark.parametrize(
  ("array", "message"),
  [
    (
      np.zeros((4, 8, 8, 3), np.float32),
      r"holds float32 of the shape \(4, 8, 8, 3\); videos are u",
    ),
    (np.zeros((4, 8, 8, 3), np.int64), r"holds int64 .* convert them, \[0, 1\] by round\(255 x\)"),
    (np.zeros((4, 3, 8, 8), np.uint8), r"holds uint8 of the shape \(4, 3, 8, 8\); videos are"),
    (np.zeros((8, 8, 3), np.uint8), r"holds uint8 of the shape \(8, 8, 3\); videos are"),
    (np.zeros((0, 8, 8, 3), np.uint8), r"holds uint8 of the shape \(0, 8, 8, 3\); videos are"),
    (np.zeros((4, 8, 8, 3), np.uint8, order="F"), "is stored in Fortran order"),
    (np.array([None]), r"holds object of the shape \(1,\)"),
  ],
)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_arrays_of_another_kind(tmp_path, array, message, kind):
  if kind == "npy":
    np.save(tmp_path / "a.npy", array)
  else:
    np.savez(tmp_path / "a.npz", array)
  with pytest.raises(errors.DataError, match=rf"a.{kind} {message}"):
    opened(tmp_path)


def test_files_that_hold_no_array(tmp_path):
  (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00")
  with pytest.raises(errors.DataError, match=r"a.npy is not a file of NumPy arrays"):
    opened(tmp_path)
  (tmp_path / "a.npy").unlink()
  (tmp_path / "a.npz").write_bytes(b"no archive")
  with pytest.raises(errors.DataError, match=r"a.npz is not an .npz file"):
    opened(tmp_path)
  np.savez(tmp_path / "a.npz", one=shot(0), two=shot(1))
  with pytest.raises(errors.DataError, match=r"a.npz holds 2 arrays \(one, two\): keep the one of"):
    opened(tmp_path)


def test_an_array_that_breaks_off_is_read_up_to_there(tmp_path):
  save(tmp_path / "a.npy", shot(0))
  content = (tmp_path / "a.npy").read_bytes()
  (tmp_path / "a.npy").write_bytes(content[:-1])
  (item,) = opened(tmp_path).items
  np.testing.assert_array_equal(read_clip(item, RULE).frames_THWC, shot(0)[:4])
  with pytest.raises(errors.DataError, match=r"a.npy ends before frame 4: it is cut short"):
    read_clip(item, ClipRule(frames=5))


def test_a_header_of_more_than_there_is_costs_nothing(tmp_path):
  """A petabyte by its header: no memory is asked for beyond the frames that are taken."""
  header = io.BytesIO()
  shape = (1000, 1000, 8000, 8000, 3)
  np.lib.format.write_array_header_1_0(
    header, {"descr": "|u1", "fortran_order": False, "shape": (1, *shape[1:])}
  )
  (tmp_path / "a.npy").write_bytes(header.getvalue())
  (item,) = opened(tmp_path).items
  with pytest.raises(errors.DataError, match="ends before frame 0"):
    read_clip(item, RULE)


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr("vidjax.packed.FREE_BYTES", 1000)
  np.savez_compressed(tmp_path / "a.npz", np.zeros((50, 64, 64, 3), np.uint8))
  with pytest.raises(errors.DataError, match=r"a.npz unpacks from \d+ to \d+ bytes, as only decom"):
    opened(tmp_path)


def test_a_damaged_archive_is_named(tmp_path):
  np.savez(tmp_path / "a.npz", shot(0))
  np.savez_compressed(tmp_path / "b.npz", shot(0))
  for item in opened(tmp_path).items:
    with zipfile.ZipFile(item.source.place) as archive:
      start = archive.infolist()[0].header_offset
    for place in (start, start + 1500):  # of the header, of the pixels
      content = bytearray(pathlib.Path(item.source.place).read_bytes())
      content[place : place + 40] = b"X" * 40
      (tmp_path / "damaged.npz").write_bytes(content)
      damaged = dataclasses.replace(item.source, path=str(tmp_path / "damaged.npz"))
      if place == start or item.id == "b":
        with pytest.raises(errors.DataError, match=r"damaged.npz cannot be read: "):
          damaged.read(ClipRule(frames=5), item.id)


def test_folders_that_hold_no_videos(tmp_path):
  with pytest.raises(FileNotFoundError, match="no such folder"):
    opened(tmp_path / "nowhere")
  with pytest.raises(errors.DataError, match=r"no video in there or below \(\.avi, .*, \.webm\)"):
    opened(tmp_path)
  pictures(tmp_path / "v", shot(0), [f"{i}.png" for i in range(5)])
  with pytest.raises(errors.DataError, match=r"v holds pictures itself \(0.png\): .* folder above"):
    opened(tmp_path / "v")
  (tmp_path / "v" / "5.jpg").touch()
  with pytest.raises(errors.DataError, match=r"v mixes .jpg and .png: keep the frames of one kind"):
    opened(tmp_path)
  (tmp_path / "v" / "5.jpg").unlink()
  (tmp_path / "v.mp4").touch()
  with pytest.raises(errors.DataError, match=r"holds v twice: .*; remove one"):
    opened(tmp_path)


def test_unknown_names_and_options(tmp_path):
  with pytest.raises(ValueError, match="'ucf' is not known: choose from ucf101, msrvtt, folder"):
    open_dataset("ucf", str(tmp_path))
  with pytest.raises(ValueError, match="'msrvtt' has no option 'fps': it knows annotations"):
    open_dataset("msrvtt", str(tmp_path), fps=3)


def test_an_object_store(tmp_path, shared_data):
  media.write(tmp_path / "set" / "c" / "a.mp4", shot(0))
  pictures(tmp_path / "set" / "c" / "b", shot(1), [f"{i}.png" for i in range(5)])
  save(tmp_path / "set" / "d.npy", np.stack([shot(2), shot(3)]))
  np.savez_compressed(tmp_path / "set" / "e.npz", shot(4))
  (tmp_path / "set" / "fps.json").write_text("8")
  local = opened(tmp_path / "set")
  with object_store.serve() as store, store.environment():
    storage.publish(str(tmp_path / "set"), "gs://bucket/set")
    remote = opened("gs://bucket/set")
    assert [item.id for item in remote.items] == [item.id for item in local.items]
    for here, there in zip(local.items, remote.items, strict=True):
      assert there.source.place.startswith("gs://bucket/set/")
      one, two = read_clip(here, RULE), read_clip(there, RULE)
      np.testing.assert_array_equal(one.frames_THWC, two.frames_THWC)
      assert (one.fps, one.decoder) == (two.fps, two.decoder)
    video = shared_data / "videos" / "v_BaseballPitch_g01_c01.avi"
    for name in ("testlist01.txt", "trainlist01.txt"):
      storage.publish(str(shared_data / "ucf101" / name), f"gs://bucket/ucfTrainTestlist/{name}")
    storage.publish(str(video), f"gs://bucket/UCF-101/BaseballPitch/{video.name}")
    ucf = open_dataset("ucf101", "gs://bucket/UCF-101", "test", allow_missing=True)
    assert (len(ucf.items), ucf.expected) == (1, 3783)
    assert read_clip(ucf.items[0], RULE).frames_THWC.shape == (4, 240, 320, 3)
