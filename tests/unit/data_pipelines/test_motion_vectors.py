"""What the codec's motion vectors say of a file before it is decoded."""

import numpy as np
import pytest

from data_pipelines import analyse, config, motion_vectors
from tests import media


@pytest.mark.parametrize("speed", [0.0, 3.0, 6.0])
def test_speed_of_a_pan(tmp_path, speed):
  frames = media.still(1, 48) if not speed else media.shot(1, 48, speed=speed)
  found = motion_vectors.speed(str(media.write(tmp_path / "x.mp4", frames)))
  assert found == pytest.approx(24 * speed * 16 / 72, rel=0.3, abs=0.05)


def test_what_moves_anywhere_is_found(tmp_path):
  parts = [media.still(1, 24 * 6), media.shot(2, 24 * 4, speed=4), media.still(3, 24 * 6)]
  path = media.write(tmp_path / "x.mp4", np.concatenate(parts))
  found = motion_vectors.speed(str(path))
  assert found is not None
  assert found > 10


def test_codecs_without_vectors_say_nothing(tmp_path):
  path = media.write(tmp_path / "x.webm", media.still(1, 30), codec="libvpx-vp9")
  assert motion_vectors.speed(str(path)) is None


def test_slow_files_are_turned_away_unread(tmp_path):
  media.write(tmp_path / "still.mp4", media.still(1, 60))
  media.write(tmp_path / "pan.mp4", media.shot(2, 60))
  settings = config.CurateConfig(ingest=config.IngestConfig(min_vector_speed=0.05))
  whole = (tmp_path / "pan.mp4").read_bytes()
  (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
  still, pan, half = (
    analyse.analyse(tmp_path, name, tmp_path / "cache", settings)
    for name in ("still.mp4", "pan.mp4", "half.mp4")
  )
  assert half.reject is not None
  assert half.reject.stage != "prefilter"
  assert still.reject is not None
  assert (still.reject.stage, still.reject.frames_decoded) == ("prefilter", 0)
  assert "nothing moves" in still.reject.error
  assert pan.reject is None
  assert len(pan.clips) == 1
  whole = analyse.analyse(tmp_path, "still.mp4", tmp_path / "cache", config.CurateConfig())
  assert whole.reject is None
