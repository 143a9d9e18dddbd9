"""Measures how far generated video, or features of it, is from real.

  vidjax evaluate --real_features=a.npz --fake_features=b.npz --out=DIR [--ddof=0]
  vidjax evaluate --protocol=demo --data=SHARDS --model=DIR --out=DIR [--samples=DIR]
  vidjax evaluate --protocol=demo --data=SHARDS --fake=DIR_OF_MP4 --out=DIR

Feature files hold one array `features`, (N, D). `result.json` has every metric with a 95 % interval
(grouped jackknife), the protocol's hash, and the hashes of the weights; never put results of
different protocol hashes into one column. Exit codes: 0 done; 2 bad flag, features or model;
3 data; 4 checkpoint; 7 disk full; 130 interrupted.
"""

import zipfile

from absl import flags
import numpy as np

from vidjax import command, packed, redaction, storage
from vidjax.metrics import intervals, protocols, results
from vidjax.observe import console, run_info

_KEY = "features"  # name of the array in a feature file


def evaluate_features(real_path: str, fake_path: str, ddof: int) -> results.Result:
  """Fréchet distance and KID of two feature files.

  Raises:
    ValueError: a file cannot be used; names the file and what is wrong with it.
  """
  real_ND, fake_ND = read_features(real_path), read_features(fake_path)
  names = (f"{real_path}: {_KEY}", f"{fake_path}: {_KEY}")
  with console.Progress("intervals", total=intervals.GROUPS) as progress:
    metrics = intervals.frechet_and_kid(real_ND, fake_ND, ddof, names, progress.update)
  return results.Result(protocols.Features(ddof=ddof), len(real_ND), len(fake_ND), metrics, {})


def read_features(path: str) -> np.ndarray:
  """The array `features` of an .npz file.

  Raises:
    ValueError: no such file, no .npz file, or no such array.
  """
  if not storage.Path(path).is_file():
    raise ValueError(f"{path}: there is no such file")
  with storage.open_read(path) as file:
    if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
      raise ValueError(f"{path} is an .npy file: save it with np.savez({path!r}, {_KEY}=...)")
  with packed.load_arrays(path) as content:
    if _KEY not in content:
      raise ValueError(f"{path} has no array {_KEY!r}, it holds: {', '.join(content) or 'nothing'}")
    try:
      return content[_KEY]
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
      raise ValueError(f"{path}: array {_KEY!r} cannot be read: {error}") from error


def write(out: str, result: results.Result) -> str:
  """Writes report.md, then result.json, the sign that all is there; returns the report."""
  content = redaction.redact_values(result.to_json(run_info.code_version()))
  report = results.report(content)
  storage.write_text(storage.Path(out) / "report.md", report)
  storage.write_json(storage.Path(out) / "result.json", content)
  return report


def main() -> None:
  """The verb: see the module's text."""
  given = flags.FLAGS
  if given.real_features or given.fake_features:
    _refuse("--real_features", "protocol", "data", "model", "fake", "samples")
    for name in ("real_features", "fake_features"):
      if not given[name].value:
        raise ValueError(f"--{name} is missing: both feature files are needed")
    result = evaluate_features(given.real_features, given.fake_features, given.ddof)
  elif given.protocol:
    from vidjax import heldout  # brings in the models, which feature files do not need

    if not given.data or bool(given.model) == bool(given.fake):
      raise ValueError(f"--protocol={given.protocol} needs --data, and one of --model and --fake")
    if given.fake:
      _refuse("--fake", "samples")
      result = heldout.evaluate_given(given.data, given.fake, given.out)
    else:
      result = heldout.evaluate_model(
        given.data, given.model, given.params, given.out, given.samples
      )
  else:
    raise ValueError("give --real_features and --fake_features, or --protocol=demo")
  if result is None:
    console.line(f"{given.out}: already evaluated, nothing to do")
    return
  console.line(write(given.out, result))
  console.line(f"{given.out}/result.json")


def _refuse(beside: str, *names: str) -> None:
  for name in names:
    if flags.FLAGS[name].value:
      raise ValueError(f"--{name} has no meaning beside {beside}: leave it out")


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  flags.DEFINE_string("real_features", None, "Features of real samples: .npz with `features`.")
  flags.DEFINE_string("fake_features", None, "Features of generated samples, likewise.")
  flags.DEFINE_integer("ddof", 0, "Covariances are divided by N - ddof.")
  flags.DEFINE_enum("protocol", None, ["demo"], "Named protocol (vidjax.metrics.protocols).")
  flags.DEFINE_string("data", None, "Folder of shards with a split `holdout`.")
  flags.DEFINE_string("model", None, "Workdir, checkpoint step or exported directory.")
  flags.DEFINE_string("fake", None, "Folder of generated .mp4 files, instead of a model.")
  flags.DEFINE_string("params", "ema", "Which weights of a workdir: ema, ema:DECAY or raw.")
  flags.DEFINE_string("samples", None, "Also write real, reconstructed and generated clips here.")
  flags.DEFINE_string("out", None, "Folder for result.json, report.md and features.", required=True)


if __name__ == "__main__":
  define_flags()
  command.run(main)
