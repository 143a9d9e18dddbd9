"""Looking as a step: CLIP is given full batches, of many sources."""

import numpy as np
import pytest

from data_pipelines import clip_scores, config, isolation, looking
from data_pipelines.paths import Paths
from tests import curate_steps, media, scoring_models

SOURCES = 7


@pytest.fixture
def batches(monkeypatch, tmp_path):
  """How many pictures each call of CLIP's program really had."""
  batches = []
  embed = clip_scores.Scorer.embed_pictures

  def counted(self, pictures_NSSC):
    batches.append(len(pictures_NSSC))
    return embed(self, pictures_NSSC)

  monkeypatch.setattr(clip_scores.Scorer, "embed_pictures", counted)
  monkeypatch.setattr(
    isolation,
    "call",
    lambda function, *args, **limits: isolation.Outcome(function(*args), 0.5 * len(args[1])),
  )
  for seed in range(SOURCES):
    media.write(tmp_path / "videos" / f"{seed}.mp4", media.shot(seed, 6))
  scoring_models.save_clip(tmp_path / "CLIP")
  return batches


def bundle(tmp_path, memory, numbers):
  settings = config.CurateConfig(
    look=config.LookConfig(text_area=False, clip=str(tmp_path / "CLIP"), batch_size=9)
  )
  step = looking.Looking(Paths(str(tmp_path / "videos"), "", str(tmp_path / memory)), settings)
  rows, others = curate_steps.bundle(step, numbers)
  return {row.clip.clip_id: row for row in rows}, others["costs"]


def test_clips_of_many_sources_share_a_batch(tmp_path, batches):
  rows, costs = bundle(tmp_path, "a", range(SOURCES))
  assert batches == [9, 9, 3]
  assert len(rows) == len(costs) == SOURCES
  assert all(cost.cpu_s > 0.5 for cost in costs)  # CLIP's time is in it
  # Whatever they are batched with, clips look the same, to the bit.
  alone = {}
  for number in range(SOURCES):
    alone |= bundle(tmp_path, "b", [number])[0]
  assert batches == [9, 9, 3, *[3] * SOURCES]
  for name, row in rows.items():
    np.testing.assert_array_equal(row.embedding, alone[name].embedding)
  # And they are remembered.
  again, _ = bundle(tmp_path, "a", range(SOURCES))
  assert len(batches) == 3 + SOURCES
  for name, row in rows.items():
    np.testing.assert_array_equal(row.embedding, again[name].embedding)


def test_a_source_that_cannot_be_read_keeps_no_other_waiting(tmp_path, batches):
  (tmp_path / "videos" / "1.mp4").write_bytes(b"nothing")
  rows, _ = bundle(tmp_path, "a", range(3))
  assert rows["c1"].clip.drop_reasons == ("unreadable",)
  assert rows["c0"].embedding is not None
  assert batches == [6]
