"""How long the statistics of an evaluation take once the features are there.

  python -m benchmarks.statistics_speed

Seeded float32 features of as many real and generated videos as UCF-101 has, 400 numbers each as
I3D gives. Times all Fréchet statistics together (moments, value, jackknife over 20 groups,
extrapolation, floor; all with intervals) and their parts, then KID with its interval and JEDi's
statistic. Prints seconds of wall clock, the median and the extremes of the repeats, after one that
is not counted, and seconds of processor time. Threads of the linear algebra are as they come;
OPENBLAS_NUM_THREADS=1 in front makes one of them.
"""

from collections.abc import Callable
import os
import statistics
import time

from absl import app, flags
import numpy as np

from vidjax.metrics import distances, extrapolation, floor, intervals
from vidjax.metrics.groups import GroupStats
from vidjax.metrics.kid import jedi_mmd

_VIDEOS = flags.DEFINE_integer("videos", 13_320, "Real videos, and generated ones.")
_DIMS = flags.DEFINE_integer("dims", 400, "Features of a video.")
_DECAY = flags.DEFINE_float("decay", 0.0, "Scale i of the features falls as i to minus this.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timings of each.")


def features() -> tuple[np.ndarray, np.ndarray]:
  """Normal features through one random mixture; generated ones are shifted and wider."""
  n, dims = _VIDEOS.value, _DIMS.value
  rng = np.random.Generator(np.random.PCG64(0))
  scale_D = np.arange(1, dims + 1) ** -_DECAY.value
  mix_DD = scale_D[:, None] * rng.standard_normal((dims, dims)) / np.sqrt(dims)
  real, fake = (rng.standard_normal((n, dims)) @ mix_DD for _ in range(2))
  return real.astype(np.float32), (fake * 1.2 + 0.1).astype(np.float32)


def timed(what: str, run: Callable[[], object]) -> None:
  """Prints a line of the table."""
  run()
  wall, cpu = [], []
  for _ in range(_REPEATS.value):
    start, start_cpu = time.perf_counter(), time.process_time()
    run()
    wall.append(time.perf_counter() - start)
    cpu.append(time.process_time() - start_cpu)
  median, median_cpu = statistics.median(wall), statistics.median(cpu)
  print(
    f"| {what} | {median:.2f} | {min(wall):.2f}, {max(wall):.2f} | {median_cpu:.2f} |", flush=True
  )


def main(_: list[str]) -> None:
  real, fake = features()
  found = distances.frechet_distances(real, fake)
  print(f"{_VIDEOS.value} x {_DIMS.value}, decay {_DECAY.value}, {os.cpu_count()} cores")
  for name, value in {
    "plain": found.frechet,
    "extrapolated": found.infinity,
    "floor, plain": found.floor.frechet,
    "floor, extrapolated": found.floor.infinity,
  }.items():
    if value:
      print(f"{name}: {value.value:.3f}, {value.low:.3f} to {value.high:.3f}")
  print("\n| | seconds | fastest, slowest | processor seconds |\n|---|---|---|---|")
  timed("all Fréchet statistics", lambda: distances.frechet_distances(real, fake))

  cells = floor.half_groups(len(real))
  groups = cells // 2
  both = real.astype(np.float64), fake.astype(np.float64)

  def moments() -> list[GroupStats]:
    return [GroupStats.of(both[0], cells, 40), GroupStats.of(both[1], groups, 20)]

  halves, of_fake = moments()
  of_real = halves.joined(2)
  left_out = intervals.frechet_left_out(of_real, of_fake, 0)
  timed("moments of 40 and 20 groups", moments)
  timed("value and jackknife", lambda: intervals.frechet_left_out(of_real, of_fake, 0))
  timed(
    "extrapolation and its jackknife",
    lambda: extrapolation.infinity_of_groups(of_real, of_fake, 0, left_out),
  )
  timed("floor, as the three above", lambda: floor.floor_of_groups(halves, 0))
  timed("KID and its jackknife", lambda: distances.kid_with_interval(real, fake))
  timed("JEDi's statistic", lambda: jedi_mmd(real, fake))


if __name__ == "__main__":
  app.run(main)
