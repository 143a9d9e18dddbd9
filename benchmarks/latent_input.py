"""How fast cached latents become batches: windows per second of one core.

  python -m benchmarks.latent_input --dir=DIR

Writes records of random moments to DIR, opens them as training does and times three ways, in turns:
the source alone (`vidjax.data.sources.latents`) with `np.stack`; whole batches in this thread
(`vidjax.data.batches`: order, window, caption, notes); and the loader in this process, with the
thread that it prefetches in. Prints windows per second, by wall clock and by CPU time of all
threads of the process, medians of the repeats.
"""

from collections.abc import Callable
import dataclasses
import itertools
import statistics
import time

from absl import app, flags
import numpy as np

from vidjax import storage
from vidjax.data import batches, latents, loader, schedule, shard_writer, sources, windows
from vidjax.data.config import DataConfig

_DIR = flags.DEFINE_string("dir", None, "Folder for the records.", required=True)
_CLIPS = flags.DEFINE_integer("clips", 512, "Records.")
_SECONDS = flags.DEFINE_float("seconds", 12.0, "Length of a clip.")
_BATCH = flags.DEFINE_integer("batch", 8, "Windows of a batch.")
_STEPS = flags.DEFINE_integer("steps", 128, "Batches that are timed at once.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timings.")

# SVD's low-resolution stage: 16 frames at 4 per second of 256 x 384 pixels, 4 latent channels.
_VIEW = DataConfig(kind="latents", num_frames=16, fps=4.0, height=256, width=384, num_workers=0)
_LATENT = (32, 48, 8)  # height, width, mean and log-variance


@dataclasses.dataclass
class Row:
  """One line of the table: windows per second of each repeat."""

  what: str
  wall: list[float] = dataclasses.field(default_factory=list)
  cpu: list[float] = dataclasses.field(default_factory=list)

  def time(self, run: Callable[[], None]) -> None:
    """Notes the speed of one repeat."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    count = _STEPS.value * _BATCH.value
    self.wall.append(count / (time.perf_counter() - wall))
    self.cpu.append(count / (time.process_time() - cpu))


def write(folder: str) -> None:
  """Random records, as `vidjax cache_latents` writes them."""
  manifest = latents.Manifest("0" * 64, {}, 0.18215, _VIEW.height, _VIEW.width, _VIEW.fps)
  rows = latents.num_rows(_SECONDS.value, _VIEW.fps)
  rng = np.random.default_rng(0)

  def record(number: int) -> bytes:
    moments = rng.standard_normal((rows, *_LATENT), np.float32).astype("<f2")
    made = latents.LatentRecord(
      clip_id=f"clip{number:06d}",
      source=f"folder/video{number}.mp4",
      moments=moments.tobytes(),
      num_frames=rows,
      latent_height=_LATENT[0],
      latent_width=_LATENT[1],
      moment_channels=_LATENT[2],
      fps=_VIEW.fps,
      height=_VIEW.height,
      width=_VIEW.width,
      duration_s=_SECONDS.value,
      motion_score=1.0,
      captions_json='{"llm":"a sentence of a dozen words about what is to be seen here"}',
      scores_json='{"aesthetic":5.0,"text_area":0.01}',
      made_by=manifest.digest,
    )
    return latents.serialize_record(made)

  path = storage.Path(folder) / latents.shard_name("train", 0, 1)
  count, size, _ = shard_writer.write_shard(
    path, map(record, range(_CLIPS.value)), compressed=False
  )
  latents.write_manifest(folder, manifest)
  index = latents.Index(
    shards=(path.name,),
    sizes=(int(path.stat().length),),
    counts=(count,),
    num_bytes=(size,),
    durations_s=np.full(count, _SECONDS.value),
    digest="d",
    origin="o",
    made_by=manifest.digest,
  )
  latents.write_index(folder, "train", index)
  print(f"{count} records of {rows} frames, {size / count / 1e6:.2f} MB each")


def main(_: list[str]) -> None:
  write(_DIR.value)
  view = dataclasses.replace(_VIEW, path=_DIR.value)
  (member,) = view.members
  source, grid = sources.open_source(member), windows.WindowGrid(view.num_frames, view.fps)
  make = batches.MakeBatch(
    schedule.open_schedule(view, 0, _BATCH.value), None, 0, _BATCH.value, 0, 1
  )
  rng, size, numbers = np.random.default_rng(1), (view.height, view.width), itertools.count()

  def window() -> np.ndarray:
    clip = source[int(rng.integers(_CLIPS.value))]
    return clip.read(grid.place(clip, rng.uniform())[0], size)

  def by_source() -> None:
    for _ in range(_STEPS.value):
      np.stack([window() for _ in range(_BATCH.value)])

  def by_batches() -> None:
    for _ in range(_STEPS.value):
      batch = make(next(numbers))
    shape, dtype = batch["latents_BTHWC"].shape, batch["latents_BTHWC"].dtype
    assert (shape, dtype) == ((_BATCH.value, 16, *_LATENT), np.float16), (shape, dtype)

  rows = [Row("source and stack"), Row("whole batches"), Row("loader, data.num_workers=0")]
  arguments = {"global_batch": _BATCH.value, "start_sample": 0, "seed": 0, "tokenizer": None}
  with loader.make_loader(view, **arguments) as stream:

    def by_loader() -> None:
      for _ in range(_STEPS.value):
        next(stream)

    ways = (by_source, by_batches, by_loader)
    for repeat in range(_REPEATS.value + 1):
      for row, way in zip(rows, ways, strict=True):
        time.sleep(0.5)  # the loader has filled what it prefetches, and is idle
        (Row("warm-up") if repeat == 0 else row).time(way)
  print("\n| | windows/s | slowest, fastest | windows per CPU second |\n|---|---|---|---|")
  for row in rows:
    median, cpu = statistics.median(row.wall), statistics.median(row.cpu)
    print(
      f"| {row.what} | {median:,.0f} | {min(row.wall):,.0f}, {max(row.wall):,.0f} | {cpu:,.0f} |"
    )


if __name__ == "__main__":
  app.run(main)
