"""Files that lie or fail in the middle, and work on files that is slow, as functions see them."""

import errno
import time
import types

import av
import numpy as np
import pytest

from data_pipelines import (
  analyse,
  config,
  cut,
  faults,
  flow,
  gradual,
  isolation,
  signals,
  stream_copy,
)
from tests import media
from vidjax import storage

CURATE = config.CurateConfig(select=config.SelectConfig(min_seconds=0.1))
STALL_SECONDS = 2.0
SLOWNESS_S = 0.1  # of one of many small steps
STEPS = 60


def test_a_bad_sector_costs_the_file_and_a_store_that_is_gone_the_run(tmp_path, monkeypatch):
  media.write(tmp_path / "v.mp4", media.shot(1, 10))

  def failing(error):
    def sha256(_):
      raise error

    monkeypatch.setattr(storage, "sha256", sha256)
    return analyse.analyse(tmp_path, "v.mp4", tmp_path / "cache", CURATE)

  reject = failing(OSError(errno.EIO, "Input/output error")).reject
  assert reject is not None
  assert (reject.stage, reject.error) == ("ingest", "OSError: Input/output error")
  for error in (TimeoutError("no answer"), OSError(errno.EMFILE, "Too many open files")):
    with pytest.raises(type(error)):
      failing(error)


def test_a_cache_that_cannot_be_written_is_no_files_fault(tmp_path, monkeypatch):
  media.write(tmp_path / "v.mp4", media.shot(1, 10))

  def refused(*_):
    raise PermissionError(errno.EACCES, "Permission denied")

  monkeypatch.setattr(storage, "write_json", refused)
  with pytest.raises(faults.MachineFaultError, match="Permission denied"):
    analyse.analyse(tmp_path, "v.mp4", tmp_path / "cache", CURATE)


def test_memory_is_bounded_by_the_config(tmp_path):
  path = media.write(tmp_path / "v.mkv", media.shot(1, 200))
  small = config.CurateConfig(ingest=config.IngestConfig(max_gigabytes=0.01))
  reject = analyse.analyse(tmp_path, path.name, tmp_path / "cache", small).reject
  assert reject is not None
  assert "emory" in reject.error or "crashed" in reject.error, reject.error


@pytest.mark.parametrize("name", ["v.mkv", "v.mp4"])
def test_what_comes_before_a_jump_in_time_is_intact(tmp_path, name):
  times_s = np.arange(60) / 24
  times_s[40:] += 5000
  path = media.write(tmp_path / name, media.shot(1, 60), times_s=times_s)
  keep = config.CurateConfig(ingest=config.IngestConfig(keep_intact_part=True))
  found = analyse.analyse(tmp_path, path.name, tmp_path / "cache", keep)
  assert found.reject is not None
  assert found.reject.frames_decoded in (39, 40)  # mp4 says how long the frame before is shown
  assert "time stamps jump by 5000 s at frame" in found.reject.error
  (clip,) = found.clips
  assert clip.end_frame == found.reject.frames_decoded
  assert clip.end_time_s == pytest.approx(clip.end_frame / 24, abs=2e-3)
  assert found.seconds == clip.end_time_s
  patient = config.CurateConfig(ingest=config.IngestConfig(max_gap_seconds=6000))
  assert analyse.analyse(tmp_path, path.name, tmp_path / "cache", patient).reject is None


def test_absurd_shapes_are_refused_before_they_are_scaled(tmp_path):
  path = media.write(tmp_path / "v.mp4", media.shot(1, 3, height=4, width=2048))
  with pytest.raises(signals.video.NoVideoError, match="2048x4: one side is more than 500 times"):
    signals.read_signals(str(path))
  path = media.write(tmp_path / "v.mp4", media.shot(1, 3, height=4, width=1600, speed=90))
  assert signals.read_signals(str(path)).num_frames == 3


def slow_cuts(alive):
  """Runs in a process of its own, so what is replaced here is not put back."""

  def slowly(*_):
    time.sleep(SLOWNESS_S)

  gradual._test_blend = slowly
  times_s = np.arange(250) / 10
  black = np.zeros((250, 16, 16, 3), np.uint8)
  zeros = np.zeros(250, np.float32)
  found = signals.Signals(
    *(times_s, 25.0, zeros, zeros, {}, black, [], 16, 16, 0, 10.0, [], False, [], [], None)
  )
  return len(cut.find_shots(found, config.CutConfig(gradual_spans_s=(2.0,)), alive))


class _Slow:
  """A container whose packets come slowly."""

  def __init__(self, container):
    self._container = container

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._container.close()

  def __getattr__(self, name):
    return getattr(self._container, name)

  def demux(self, stream):
    for packet in self._container.demux(stream):
      time.sleep(SLOWNESS_S)
      yield packet


def slow_copy(path, rows, alive):
  def open_slowly(name, *args, **how):
    opened = av.open(name, *args, **how)
    return opened if args else _Slow(opened)  # what is written is written

  stream_copy.av = types.SimpleNamespace(open=open_slowly)
  return [len(data or b"") for _, data in stream_copy.copy_source(path, rows, alive)]


def nothing(alive):
  pass


@pytest.fixture
def _processes_of_their_own():
  isolation.close()
  isolation.call(nothing, stall_seconds=120)  # what it imports takes seconds
  yield
  isolation.close()


@pytest.mark.usefixtures("_processes_of_their_own")
def test_a_slow_search_for_cuts_is_no_hang():
  assert isolation.call(slow_cuts, stall_seconds=STALL_SECONDS).value == 2


def test_each_step_of_the_flow_is_a_sign_of_life():
  signs = []
  tiny = media.shot(1, 48, height=16, width=28)
  flow.motion_scores(tiny, np.arange(48) / 4, 0.0, 12.0, lambda: signs.append(0))
  assert len(signs) == 23


@pytest.mark.usefixtures("_processes_of_their_own")
def test_a_slow_copy_is_no_hang(tmp_path):
  path = media.write(tmp_path / "v.mp4", media.shot(1, STEPS), gop=10)
  copy = config.CurateConfig(encode=config.EncodeConfig(copy=True))
  (clip,) = analyse.analyse(tmp_path, path.name, tmp_path / "cache", copy).clips
  (size,) = isolation.call(slow_copy, str(path), [clip], stall_seconds=STALL_SECONDS).value
  assert size > 0
