"""What was fed is counted as the schedule deals it out: pictures and gaps included."""

import collections
import dataclasses

import pytest

from vidjax.data import schedule
from vidjax.data.config import DataConfig, ImagesConfig, SetConfig
from vidjax.data.gaps import Gap, stream_index
from vidjax.reporting import data_mix

SETS = (
  SetConfig(kind="procedural", weight=3.0),
  SetConfig(kind="procedural", weight=1.0, options={"num_clips": 50}),
  SetConfig(kind="procedural", weight=0.5, options={"num_clips": 70}),
)
BATCH = 6


def fed(config: DataConfig, samples: int, gaps: tuple[Gap, ...]) -> collections.Counter:
  """How many samples the schedule takes of each set, batch by batch, as training does."""
  made, found = schedule.open_schedule(config, seed=0), collections.Counter()
  for trained in range(0, samples, BATCH):
    for part in made.parts(stream_index(trained, gaps), BATCH):
      for row in range(part.rows):
        member, _ = made.stream(part).turns(part.first + row)
        found["pictures" if part.images else "videos", member] += 1
  return found


@pytest.mark.parametrize(
  "images",
  [ImagesConfig(), ImagesConfig(every_steps=4), ImagesConfig(rows=2, sets=SETS[:2])],
  ids=["none", "steps", "rows"],
)
@pytest.mark.parametrize("gaps", [(), (Gap(24, 12), Gap(60, 30), Gap(60, 6))])
def test_counts_are_those_of_the_schedule(images, gaps):
  config = DataConfig(sets=SETS, images=images, num_frames=2, height=8, width=8)
  values = {"batch_size": BATCH, "data": dataclasses.asdict(config)}
  left_out = [{"at_sample": gap.at, "samples": gap.samples} for gap in gaps]
  for samples in (0, 24, 54, 60, 300):
    mix = data_mix.describe(values, samples, gaps=left_out)
    want = fed(config, samples, tuple(gap for gap in gaps if gap.at < samples))
    numbers = collections.Counter()
    for one in mix.sets:
      assert one.samples == want[one.group, numbers[one.group]], (samples, one)
      numbers[one.group] += 1
    assert sum(one.samples or 0 for one in mix.sets) == samples


def test_shares_epochs_and_form():
  config = DataConfig(sets=SETS, num_frames=8, fps_choices=(4.0, 8.0), height=8, width=12)
  values = {"batch_size": BATCH, "data": dataclasses.asdict(config)}
  mix = data_mix.describe(
    values, 900, fingerprint={"usable_clips": 300, "sets[1].usable_clips": 50}
  )
  assert [round(one.share, 3) for one in mix.sets] == [0.667, 0.222, 0.111]
  assert [one.samples for one in mix.sets] == [600, 200, 100]
  assert [one.epochs for one in mix.sets] == [2.0, 4.0, None]
  assert mix.form == {"frames": "8", "frames per second": "4, 8", "height x width": "8 x 12"}


def test_views_by_shape_are_not_counted():
  config = DataConfig(sets=SETS, buckets=((8, 8), (8, 16)))
  values = {"batch_size": BATCH, "data": dataclasses.asdict(config)}
  assert [one.samples for one in data_mix.describe(values, 90).sets] == [None] * 3
