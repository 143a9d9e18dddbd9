import pathlib

from miniature_job import moving_square, run_job
import pytest

from vidjax.data import mp4


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> pathlib.Path:
  """Four videos of six seconds with captions, and two files that no decoder reads."""
  folder = tmp_path_factory.mktemp("videos")
  for i in range(4):
    mp4.write_mp4(str(folder / "nested" / f"square{i}.mp4"), moving_square(i), 25.0)
    (folder / "nested" / f"square{i}.txt").write_text(f"square number {i} crosses a wall")
  (folder / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 20)
  (folder / "empty.webm").write_bytes(b"")
  return folder


@pytest.fixture(scope="session")
def job(videos: pathlib.Path, tmp_path_factory) -> pathlib.Path:
  """The demo's commands in miniature: clips, autoencoder, three stages. Folder of the results."""
  root = tmp_path_factory.mktemp("job")
  run_job(videos, str(root))
  return root
