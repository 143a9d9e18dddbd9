"""Captioning as a step: requests of many sources at once, texts kept as they come, refusals."""

import concurrent.futures
import threading
import time

import pytest

from data_pipelines import captioners, captioning, config, faults, isolation
from data_pipelines.paths import Paths
from tests import chat_server, curate_steps, media
from vidjax import storage

SOURCES = 9


@pytest.fixture
def server():
  server = chat_server.Chat()
  yield server
  server.close()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp("videos")
  for seed in range(SOURCES):
    media.write(folder / f"{seed}.mp4", media.shot(seed, 6))
  return folder


@pytest.fixture(autouse=True)
def here(monkeypatch):
  """Frames are read in this process, which is faster."""
  monkeypatch.setattr(
    isolation,
    "call",
    lambda function, *args, **limits: isolation.Outcome(function(*args), 0.5),
  )
  monkeypatch.setattr(captioners, "_MAX_BACKOFF_S", 0.05)


def settings(server, *, both=False, **changes):
  captioner = config.CaptionerConfig(model="m", endpoint=server.url)
  video = config.CaptionerConfig(model="v" if both else "", endpoint=server.url if both else "")
  changes = {"concurrency": 4, "retries": 0, "num_frames": 2, "short_side": 32, **changes}
  return config.CurateConfig(
    caption=config.CaptionConfig(image=captioner, video=video, **changes),
    look=config.LookConfig(text_area=False),
  )


def bundle(videos, tmp_path, settings, numbers):
  """Clips, and what else was said."""
  step = captioning.Captioning(Paths(str(videos), "", str(tmp_path)), settings)
  rows, others = curate_steps.bundle(step, numbers)
  return [row.clip for row in rows], others


def test_requests_of_many_sources_are_under_way_at_once(server, videos, tmp_path):
  """Two threads with sources of one clip each: together as many as allowed, and never more."""
  go_on = threading.Event()
  server.answer = lambda *_: None if go_on.wait(60) else (500, b"nobody let it go")
  pool = captioning.Pool.of(4)
  with concurrent.futures.ThreadPoolExecutor(2) as workers:
    bundles = [
      workers.submit(bundle, videos, tmp_path, settings(server), numbers)
      for numbers in (range(5), range(5, SOURCES))
    ]
    until_s = time.monotonic() + 50
    while len(server.requests) < 4 or pool._executor._work_queue.qsize() < SOURCES - 4:
      assert time.monotonic() < until_s, "so many were never under way"
      time.sleep(0.02)
    assert len(server.requests) == 4  # and the others wait, though all have been asked for
    go_on.set()
  assert server.most_at_once == 4
  clips = [clip for one in bundles for clip in one.result()[0]]
  assert server.most_at_once == 4
  assert {clip.clip_id for clip in clips} == {f"c{i}" for i in range(SOURCES)}
  assert all(clip.captions["image"].startswith("m sees") for clip in clips)


def test_texts_are_kept_when_the_server_goes_away(server, videos, tmp_path):
  """Each answer that came is remembered, whichever it was; none is asked for again."""
  asked = settings(server, both=True, concurrency=3)
  server.answer = lambda number, _: (503, b"gone") if number >= 7 else None
  pool = captioning.Pool.of(3)
  with pytest.raises(captioners.EndpointError, match="answers 503"):
    bundle(videos, tmp_path, asked, range(SOURCES))
  pool._executor.shutdown()  # as the end of the process does: what is under way comes to its end
  kept = [storage.read_json(path) for path in (tmp_path / "captions").iterdir()]
  assert sum(len(one["texts"]) for one in kept) == 7
  refused = len(server.requests) - 7
  assert refused <= 3  # those under way; for the rest a dead server is not asked
  server.answer = lambda *_: None
  rows, said = bundle(videos, tmp_path, asked, range(SOURCES))
  assert len(server.requests) == 7 + refused + 2 * SOURCES - 7
  assert [set(clip.captions) for clip in rows] == [{"image", "video"}] * SOURCES
  assert len(said["costs"]) == SOURCES
  assert all(cost.cpu_s >= 0.5 for cost in said["costs"])
  assert bundle(videos, tmp_path, asked, range(SOURCES))[0] == rows
  assert len(server.requests) == refused + 2 * SOURCES


def test_a_failure_is_the_end_for_all_bundles_of_a_process(server, videos, tmp_path):
  """One that only waited says why, too; and a runner that tries again gets another pool."""
  pool = captioning.Pool(1)
  begun, go_on = threading.Event(), threading.Event()

  def fail():
    begun.set()
    go_on.wait(30)
    raise captioners.EndpointError("gone")

  first, second = pool.submit(fail), pool.submit(str)
  begun.wait(30)
  go_on.set()
  for future in (first, second):
    with pytest.raises(captioners.EndpointError, match="gone"):
      pool.result(future)
  with pytest.raises(captioners.EndpointError, match="gone"):
    pool.submit(str)
  of_process = captioning.Pool.of(2)
  assert captioning.Pool.of(2) is of_process
  with pytest.raises(ZeroDivisionError):
    of_process.result(of_process.submit(lambda: 1 / 0))
  assert captioning.Pool.of(2) is not of_process


def test_a_clip_that_is_refused_is_counted_and_not_asked_again(server, videos, tmp_path):
  asked = settings(server, concurrency=1)
  server.answer = lambda number, _: (422, b"filtered") if number == 3 else None
  rows, said = bundle(videos, tmp_path, asked, range(SOURCES))
  assert [bool(clip.captions) for clip in rows].count(False) == 1
  assert all(clip.kept or not clip.drop_reasons for clip in rows)
  answers = captioning.Answers.all_of(answer for _, answer in said["answers"])
  assert (answers.texts, answers.refused, answers.takes) == (SOURCES - 1, 1, True)
  assert answers.example.startswith("422 ")
  captioners._tally.cache_clear()  # as in another process, which has seen no other answer
  again, said = bundle(videos, tmp_path, asked, [3])
  assert again[0].captions == {}
  ((_, answer),) = said["answers"]
  assert answer.takes
  assert len(server.requests) == SOURCES


def test_refusals_by_a_model_that_takes_nothing_are_not_remembered(server, videos, tmp_path):
  asked = settings(server, both=True)
  server.answer = lambda _, body: (400, b"one picture only") if body["model"] == "v" else None
  rows, said = bundle(videos, tmp_path, asked, range(3))
  assert [set(clip.captions) for clip in rows] == [{"image"}] * 3
  answers = {
    name: captioning.Answers.all_of(answer for of, answer in said["answers"] if of == name)
    for name in ("image", "video")
  }
  with pytest.raises(
    captioners.EndpointError, match=r"caption\.video \(v\): 400 .*one picture only"
  ):
    captioning._show(("video", answers["video"]), asked.caption.captioners)
  captioning._show(("image", answers["image"]), asked.caption.captioners)
  server.answer = lambda *_: None
  before = len(server.requests)
  rows, _ = bundle(videos, tmp_path, asked, range(3))
  assert [set(clip.captions) for clip in rows] == [{"image", "video"}] * 3
  assert len(server.requests) == before + 3


def test_many_refusals_from_the_start_end_the_run(server, videos, tmp_path):
  server.answer = lambda *_: (400, b"At most 1 image(s) may be provided")
  with pytest.raises(captioners.EndpointError, match=r"takes no request.*At most 1 image"):
    bundle(videos, tmp_path, settings(server), range(SOURCES))
  assert not (tmp_path / "captions").exists()


def test_a_clip_that_cannot_be_read_is_dropped(server, videos, tmp_path, monkeypatch):
  def crash(*_, **limits):
    raise faults.FileFaultError("it hung")

  monkeypatch.setattr(isolation, "call", crash)
  rows, _ = bundle(videos, tmp_path, settings(server), range(2))
  assert [clip.drop_reasons for clip in rows] == [("unreadable",)] * 2
  assert server.requests == []
