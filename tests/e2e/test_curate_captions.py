"""Captioners behind servers that are away, or that refuse, through the real command."""

import pytest

from tests import chat_server, media
from tests.curate_runs import FLAGS, assert_same_result, rows, run

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def videos(tmp_path):
  for seed, name in enumerate(NAMES):
    media.write(tmp_path / "videos" / f"{name}.mp4", media.shot(seed, 40))
  return tmp_path / "videos"


def flags(videos, out, **urls):
  given = [f"--videos={videos}", f"--out={out}", *FLAGS, "--config.look.text_area=False"]
  for name, url in urls.items():
    given += [f"--config.caption.{name}.model={name}-model"]
    given += [f"--config.caption.{name}.endpoint={url}"]
  return [*given, "--config.caption.retries=0", "--config.caption.num_frames=2"]


def texts(out):
  return {row["source"]: dict(row["captions"]) for row in rows(out)}


@pytest.mark.slow
def test_a_server_that_is_not_there_and_then_is(repo_root, tmp_path, videos):
  there, away = chat_server.Chat(), chat_server.Chat()
  away.close()
  out = tmp_path / "clips"
  command = flags(videos, out, image=there.url, video=away.url)
  code, text = run(repo_root, *command)
  assert code == 3, text
  assert f"the captioner at {away.url} does not answer (ConnectionError)" in text
  assert "run the same command again" in text
  assert "Traceback" not in text
  assert not (out / "clips.parquet").exists()
  asked = len(there.requests)
  assert asked > 0

  back = chat_server.Chat(away.port)
  code, text = run(repo_root, *command)
  assert code == 0, text
  assert [set(found) for found in texts(out).values()] == [{"image", "video"}] * len(NAMES)
  # What was told before the end is not asked for again, though no clip had all of its texts.
  assert (len(there.requests), len(back.requests)) == (len(NAMES), len(NAMES))

  fresh = tmp_path / "fresh"
  assert run(repo_root, *flags(videos, fresh, image=there.url, video=back.url))[0] == 0
  assert_same_result(out, fresh)
  there.close()
  back.close()


@pytest.mark.slow
def test_a_model_that_takes_one_picture_is_found_out(repo_root, tmp_path, videos):
  def one_picture(_, body):
    pictures = [p for p in body["messages"][0]["content"] if p["type"] == "image_url"]
    return (
      (400, b"At most 1 image(s) may be provided in one prompt.") if len(pictures) > 1 else None
    )

  server = chat_server.Chat()
  server.answer = one_picture
  out = tmp_path / "clips"
  command = flags(videos, out, image=server.url, video=server.url)
  code, text = run(repo_root, *command)
  assert code == 3, text
  assert f"the captioner at {server.url} takes no request for caption.video" in text
  assert "400 Bad Request: At most 1 image(s) may be provided in one prompt." in text
  assert "Traceback" not in text

  # One clip that is refused by a model that takes others is no reason to stop.
  refused = []

  def filtered(_, body):
    if body["model"] == "video-model" and not refused:
      refused.append(body)
      return 422, b"this video is not nice"
    return None

  server.answer = filtered
  code, text = run(repo_root, *command)
  assert code == 0, text
  assert "1 of 4 clips have no text of caption.video" in text
  assert "this video is not nice" in text
  assert sorted(len(found) for found in texts(out).values()) == [1, 2, 2, 2]
  assert server.models()["image-model"] == len(NAMES)
  server.close()
