"""Curation of unusual pixels, from and to an object store, and into what TFDS opens."""

import io
import pathlib
import sys

import av
import numpy as np
import object_store
import pytest

from tests import media
from tests.curate_runs import FLAGS, payloads, rows, run
from vidjax import storage
from vidjax.data import schema


def write_with_alpha(path: pathlib.Path, video_THWC: np.ndarray) -> None:
  """QuickTime Animation with all colours, of which the right half is transparent."""
  path.parent.mkdir(parents=True, exist_ok=True)
  alpha_HW1 = np.full((*video_THWC.shape[1:3], 1), 255, np.uint8)
  alpha_HW1[:, video_THWC.shape[2] // 2 :] = 0
  with av.open(str(path), "w") as container:
    stream = container.add_stream("qtrle", rate=24)
    stream.height, stream.width, stream.pix_fmt = *video_THWC.shape[1:3], "argb"
    for number, frame_HWC in enumerate(video_THWC):
      argb_HWC = np.concatenate([alpha_HW1, frame_HWC], -1)
      picture = av.VideoFrame.from_ndarray(argb_HWC, "argb")
      picture.pts = number
      container.mux(stream.encode(picture))
    container.mux(stream.encode(None))


def frames(record) -> np.ndarray:
  """The pictures of a stored clip, (T, H, W, 3) uint8, and that they are plain H.264."""
  with av.open(io.BytesIO(record.video)) as container:
    context = container.streams.video[0].codec_context
    assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.slow
def test_alpha_and_ten_bits(repo_root, tmp_path):
  """Alpha is dropped: a clip shows the colours that the file holds. Ten bits become eight."""
  shots = {
    name: media.shot(seed, 40, speed=1.0) for seed, name in enumerate(("alpha", "ten", "hdr"))
  }
  write_with_alpha(tmp_path / "videos" / "alpha.mov", shots["alpha"])
  media.write(tmp_path / "videos" / "ten.mp4", shots["ten"], pix_fmt="yuv420p10le")
  media.write(tmp_path / "videos" / "hdr.mkv", shots["hdr"], codec="libx265", pix_fmt="yuv420p10le")
  for name, wanted in (
    ("alpha.mov", "argb"),
    ("ten.mp4", "yuv420p10le"),
    ("hdr.mkv", "yuv420p10le"),
  ):
    with av.open(str(tmp_path / "videos" / name)) as container:
      assert container.streams.video[0].pix_fmt == wanted  # they are what they are meant to be
  out = tmp_path / "clips"
  flags = [f"--videos={tmp_path / 'videos'}", f"--out={out}", FLAGS[0]]
  code, text = run(repo_root, *flags)
  assert code == 0, text
  assert all(row["kept"] for row in rows(out))
  records = [schema.parse_record(data) for found in payloads(out).values() for data in found]
  assert {record.source for record in records} == {"alpha.mov", "ten.mp4", "hdr.mkv"}
  for record in records:
    given, stored = shots[record.source.partition(".")[0]], frames(record)
    assert stored.shape == given.shape
    off = np.abs(stored.astype(int) - given).mean((0, 1, 3))  # of each column
    # On black, the right half of the first one would be off by more than a hundred.
    assert off.max() < 20, record.source
    assert off.mean() < 8, record.source


@pytest.mark.slow
def test_from_and_to_s3(repo_root, tmp_path):
  pytest.importorskip("moto", reason="moto[server] emulates S3")
  for seed, name in enumerate(("a", "b", "c")):
    media.write(tmp_path / "videos" / f"{name}.mp4", media.shot(seed, 40))
  (tmp_path / "videos" / "broken.mp4").write_bytes(b"nothing")
  (tmp_path / "videos" / "b.json").write_text('{"captions": {"by_hand": "a wall"}}')
  code, text = run(
    repo_root, f"--videos={tmp_path / 'videos'}", f"--out={tmp_path / 'here'}", *FLAGS
  )
  assert code == 0, text
  with object_store.serve_s3() as bucket:
    for path in (tmp_path / "videos").iterdir():
      storage.write_bytes(f"{bucket}/videos/{path.name}", path.read_bytes())
    flags = [f"--videos={bucket}/videos", f"--out={bucket}/clips", *FLAGS]
    code, text = run(repo_root, *flags)
    assert code == 0, text
    assert "4 files (1 rejected)" in text
    with storage.local_copy(f"{bucket}/clips") as local:
      there, here = pathlib.Path(local), tmp_path / "here"
      assert rows(there) == rows(here)
      assert payloads(there) == payloads(here)
      assert (there / "report.html").exists()
    code, text = run(repo_root, *flags)
    assert code == 0, text
    assert "already done" in text


@pytest.mark.slow
@pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")
def test_tfds_opens_what_the_command_wrote(repo_root, tmp_path):
  """With the index files of ours beside the shards, and each size in its own folder."""
  import tensorflow_datasets as tfds

  for seed in range(6):
    media.write(tmp_path / "videos" / f"{seed}.mp4", media.shot(seed, 40))
  (tmp_path / "videos" / "3.json").write_text('{"captions": {"by_hand": "a wall"}}')
  out = tmp_path / "clips"
  flags = [f"--videos={tmp_path / 'videos'}", f"--out={out}", *FLAGS]
  flags += ["--config.shard.megabytes=0.01", "--config.encode.rungs=(64,)"]
  code, text = run(repo_root, *flags)
  assert code == 0, text
  kept = {row["clip_id"]: row for row in rows(out) if row["kept"]}
  assert len(kept) == 6
  for folder, side in (("shards", 48), ("shards-64", 64)):
    others = {path.name for path in (out / folder).iterdir() if "array_record" not in path.name}
    assert {"dataset_info.json", "features.json"} < others  # and the index is there, too
    found = {}
    builder = tfds.builder_from_directory(str(out / folder))
    for split in schema.SPLITS:
      source = builder.as_data_source(split)
      for row in source:
        found[row["clip_id"].decode()] = row
    assert found.keys() == kept.keys()
    assert len(builder.info.splits["train"].filenames) > 1
    for clip_id, row in found.items():
      assert row["source"].decode() == kept[clip_id]["source"]
      assert row["motion_score"] == pytest.approx(kept[clip_id]["motion_score"])
      with av.open(io.BytesIO(row["video"])) as container:
        assert container.streams.video[0].codec_context.height == side
  assert "tensorflow" not in sys.modules
