"""Measures how far generated video, or features of it, is from real.

  vidjax evaluate --protocol=svd-ucf101 --data=UCF-101 --model=DIR --weights=DIR --out=DIR
  vidjax evaluate --protocol=svd-ucf101 --data=UCF-101 --fake=DIR --weights=DIR --out=DIR
  vidjax evaluate --protocol=... --limit=256 --model=WORKDIR --watch ...   every checkpoint
  vidjax evaluate --table=DIR,DIR                         results side by side
  vidjax evaluate --list_protocols | --list_weights
  vidjax evaluate --real_features=a.npz --fake_features=b.npz --out=DIR [--ddof=0]
  vidjax evaluate --protocol=demo --data=SHARDS (--model=DIR | --fake=DIR_OF_MP4) --out=DIR

A protocol says everything that a number depends on (docs/evaluation.md). `result.json` has every
metric with a 95 % interval (grouped jackknife), the protocol and its hash, and the hashes of the
weights; never put results of different hashes into one column. What was interrupted goes on with
the same command. Feature files hold one array `features`, (N, D). Exit codes: 0 done; 2 bad flag,
features, weights or model; 3 data; 4 checkpoint; 5 NaN in samples; 6 a process did not come; 7 disk
full; 130 interrupted.
"""

from typing import Any

from absl import flags

from vidjax import command, storage
from vidjax.evaluation import feature_files, result_files
from vidjax.metrics import results
from vidjax.observe import console
from vidjax.parallel import distributed

_DEMO = "demo"
_OF_RUN = (
  *("data", "model", "fake", "weights", "lists", "sentences", "real", "samples", "limit"),
  *("watch", "allow_missing", "sampler", "steps", "guidance", "batch_size"),
)


def main() -> None:
  """The verb: see the module's text."""
  given = flags.FLAGS
  if given.table:
    from vidjax.evaluation import table

    console.line(table.render([table.read(folder) for folder in given.table]))
    return
  if given.list_protocols or given.list_weights:
    from vidjax.evaluation import listing

    console.line(listing.protocols() if given.list_protocols else listing.weights())
    return
  if not given.out:
    raise ValueError("--out is missing: the folder for the result")
  if given.real_features or given.fake_features:
    _done(_features())
  elif given.protocol == _DEMO:
    _done(_demo())
  elif given.protocol:
    with distributed.joined():
      _protocol()
  else:
    raise ValueError(
      "give --protocol=NAME (--list_protocols lists them), or --real_features and --fake_features"
    )


def _features() -> results.Result:
  given = flags.FLAGS
  _refuse("--real_features", "protocol", *_OF_RUN)
  for name in ("real_features", "fake_features"):
    if not given[name].value:
      raise ValueError(f"--{name} is missing: both feature files are needed")
  return feature_files.evaluate(given.real_features, given.fake_features, given.ddof)


def _demo() -> results.Result | None:
  from vidjax import heldout  # brings in the models, which feature files do not need

  given = flags.FLAGS
  _refuse("--protocol=demo", *(n for n in _OF_RUN if n not in ("data", "model", "fake", "samples")))
  if not given.data or bool(given.model) == bool(given.fake):
    raise ValueError(f"--protocol={_DEMO} needs --data, and one of --model and --fake")
  if given.fake:
    _refuse("--fake", "samples")
    return heldout.evaluate_given(given.data, given.fake, given.out)
  return heldout.evaluate_model(given.data, given.model, given.params, given.out, given.samples)


def _protocol() -> None:
  from vidjax.evaluation import fakes, generate, named, run, watch

  given = flags.FLAGS
  protocol = named.load(given.protocol, given.limit)
  for name, why in (("data", "the real videos"), ("weights", "of `vidjax convert_weights`")):
    if not given[name].value:
      raise ValueError(f"--{name}=DIR is missing: {why}")
  if bool(given.model) == bool(given.fake):
    raise ValueError(f"--protocol={given.protocol} needs one of --model and --fake")
  if given.fake:
    _refuse("--fake", "watch", "samples", "sampler", "steps", "guidance", "batch_size")
  chosen: dict[str, Any] = {
    name: given[name].value
    for name in ("sampler", "steps", "guidance", "batch_size")
    if given[name].value is not None
  }
  job = run.Job(
    protocol=protocol,
    data=given.data,
    weights=given.weights,
    out=given.out,
    model=given.model or "",
    params=given.params,
    fake=given.fake or "",
    sampling=generate.Sampling(**chosen),
    lists=given.lists or "",
    sentences=given.sentences or "",
    real=given.real or "",
    samples=given.samples or "",
    allow_missing=given.allow_missing,
  )
  if given.watch:
    models = fakes.Models()

    def evaluate(step: str, out: str) -> None:
      _say(run.of_step(job, step, out, models), out)

    watch.follow(given.model, given.out, evaluate)
  else:
    _say(run.run(job), given.out)


def _done(result: results.Result | None) -> None:
  """Writes a result and says where it is."""
  out = flags.FLAGS.out
  _say(None if result is None else result_files.write(out, result), out)


def _say(report: str | None, out: str) -> None:
  if not distributed.is_first():
    return
  if report is None:
    console.line(f"{out}: already evaluated, nothing to do")
    return
  console.line(report)
  console.line(str(storage.Path(out) / "result.json"))


def _refuse(beside: str, *names: str) -> None:
  for name in names:
    if flags.FLAGS[name].value:
      raise ValueError(f"--{name} has no meaning beside {beside}: leave it out")


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  distributed.define_flags()
  flags.DEFINE_string("protocol", None, "Name (--list_protocols), .json file, or demo.")
  flags.DEFINE_string("data", None, "The real videos as they are on disk; demo: shards.")
  flags.DEFINE_string("model", None, "Workdir, checkpoint step or exported directory.")
  flags.DEFINE_string("params", "ema", "Which weights of a workdir: ema, ema:DECAY or raw.")
  flags.DEFINE_string("fake", None, "Folder of generated clips, instead of a model.")
  flags.DEFINE_string("weights", None, "Folder of converted networks; `random` to try it out.")
  flags.DEFINE_string("out", None, "Folder of the result.")
  flags.DEFINE_integer("limit", None, "At most so many clips of each side; another protocol.")
  flags.DEFINE_bool("watch", False, "Evaluate each checkpoint of the run as it appears.")
  flags.DEFINE_bool("allow_missing", False, "Go on where real videos are missing, and say so.")
  flags.DEFINE_string("lists", None, "Folder of UCF-101's official lists.")
  flags.DEFINE_string("sentences", None, "Prompts: a line CLASS<TAB>SENTENCE for each class.")
  flags.DEFINE_string("real", None, "Folder of the real side's features, to share them.")
  flags.DEFINE_string("samples", None, "Also write generated clips here, as lossless .mkv.")
  flags.DEFINE_string("sampler", None, "Of the model (`vidjax sample`); default euler.")
  flags.DEFINE_integer("steps", None, "Of the sampler; default 25.")
  flags.DEFINE_float("guidance", None, "Scale; default is the protocol's.")
  flags.DEFINE_integer("batch_size", None, "Clips made at once; default 8.")
  flags.DEFINE_list("table", None, "Folders of results to print as one table.")
  flags.DEFINE_bool("list_protocols", False, "Print the named protocols.")
  flags.DEFINE_bool("list_weights", False, "Print which file each network is converted from.")
  flags.DEFINE_string("real_features", None, "Features of real samples: .npz with `features`.")
  flags.DEFINE_string("fake_features", None, "Features of generated samples, likewise.")
  flags.DEFINE_integer("ddof", 0, "Of --real_features: covariances are divided by N - ddof.")


if __name__ == "__main__":
  define_flags()
  command.run(main, depart=distributed.depart)
