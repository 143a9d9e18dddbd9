"""Says what a training run will cost on TPUs that are not here: does it fit, how fast, how long.

  vidjax plan --config=configs/svd/video_lowres.py --topology=v5p:4x4x4 [--slices=2] [--quick]
  vidjax plan --config=configs/svd/video_lowres.py --topology=v5e:16x16 --search

Compiles the true training step for the topology, ahead of time (extra `tpu`); `--quick` compiles
its distinct blocks alone and does the rest by arithmetic. Neither needs data, encoders or a TPU.
What was compiled once is found again in the cache. `--json=FILE` writes all figures.
Exit codes: 0 done; 2 bad flag or config, or the run does not fit; 7 disk full; 130 interrupted.
"""

import os

from absl import flags
import jax

from vidjax import command, compiling, storage
from vidjax.observe import console
from vidjax.planning import planner, search
from vidjax.planning import topology as topologies
from vidjax.planning.compilation import Cache
from vidjax.planning.figures import Plan


@compiling.without_cache()
def main() -> None:
  """The verb: see the module's text."""
  given = flags.FLAGS
  # Nothing runs here, so no accelerator of this machine is to be taken.
  jax.config.update("jax_platforms", "cpu")
  topology = topologies.parse(given.topology, given.slices)
  config, notes = planner.load(given.config, command.config_overrides())
  for note in notes:
    console.line(note)
  site = planner.site_of(topology)
  cache = Cache(given.cache or storage.cache_folder() / "plan")
  jobs = given.jobs or os.cpu_count() or 1
  estimator = search.Estimator(given.config, site, cache, jobs)
  if given.search:
    found = search.search(config, estimator)
    console.table("candidates, the fastest that fits first", search.HEADER, search.rows(found))
    plan = found[0].plan
  elif given.quick:
    plan = estimator(config)
  else:
    program = planner.describe(config, site)
    console.line(
      "compiling the whole step: minutes for a small model, 50 minutes of CPU and 14 GiB for SVD;"
      " --quick compiles its distinct blocks"
    )
    plan = planner.plan_whole(given.config, program, site, cache)
  console.table("plan", None, plan.rows())
  console.line(plan.method)
  if given.json:
    storage.write_json(given.json, plan.to_json())
    console.line(given.json)
  if not plan.hbm.fits:
    raise ValueError(refusal(plan, search.largest_batch(config, estimator)))


def refusal(plan: Plan, largest: int) -> str:
  """What to do about a run that does not fit; `largest` is the batch that would, or 0."""
  need, limit = plan.hbm.total / 2**30, plan.hbm.limit / 2**30
  fits = (
    f"by a quick estimate batch_size={largest} is the largest that fits"
    if largest
    else "by a quick estimate no batch fits"
  )
  return (
    f"batch_size={plan.batch_size} on {plan.devices} devices of {plan.topology} does not fit:"
    f" it needs {need:.2f} GiB of {limit:.2f}; {fits}. Less is stored with"
    " model.overrides.remat=('block',) or ('offload',), and on more devices (mesh.fsdp shards the"
    " state); --search compares these"
  )


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  flags.DEFINE_string("config", None, "Training config, FILE.py[:variants].", required=True)
  flags.DEFINE_string("topology", None, "A slice, as v5p:4x4x4 or v5e:16x16.", required=True)
  flags.DEFINE_integer("slices", 1, "Slices, joined by the data centre's network.")
  flags.DEFINE_bool("quick", False, "From the step's distinct blocks; minutes, and an estimate.")
  flags.DEFINE_bool("search", False, "Quick plans of batches, remat policies and meshes; the best.")
  flags.DEFINE_string("json", None, "Also write all figures to this file.")
  flags.DEFINE_string(
    "cache", None, "Folder of compiled programs; ~/.cache/vidjax/plan by default."
  )
  flags.DEFINE_integer("jobs", 0, "Programs compiled side by side; as many as cores by default.")


if __name__ == "__main__":
  define_flags()
  command.run(main)
