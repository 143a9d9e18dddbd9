import fcntl
import os
import pathlib
import shutil

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
  """The demo's commands in miniature: clips, autoencoder, three stages. Folder of the results.

  Made once, for all processes of pytest-xdist.
  """
  alone = "PYTEST_XDIST_WORKER" not in os.environ
  base = tmp_path_factory.getbasetemp() if alone else tmp_path_factory.getbasetemp().parent
  root, done = base / "job", base / "job_done"
  with (base / "job_lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not done.exists():
      shutil.rmtree(root, ignore_errors=True)  # of a process that failed
      run_job(videos, str(root))
      done.touch()
  return root
