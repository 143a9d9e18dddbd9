"""`vidjax VERB ...`: hands over to the module of the verb. Each is also `python -m MODULE`."""

import difflib
import os
import runpy
import signal
import sys
from types import FrameType

# Verb -> module. Modules are run, not imported: a verb brings in only what it needs itself.
VERBS = {
  "curate": ("data_pipelines.run", "raw video -> annotated clips in shards"),
  "select": ("data_pipelines.subset", "a curated set -> the list of its best clips"),
  "train_tokenizer": ("vidjax.train_tokenizer", "captions -> the tokenizer of a text encoder"),
  "inspect_data": ("vidjax.inspect_data", "what a config feeds: timings, contact sheet, captions"),
  "cache_latents": ("vidjax.cache_latents", "a data set -> the autoencoder's latents of it"),
  "plan": (
    "vidjax.plan",
    "a config on a TPU topology -> memory, speed and days, before it is rented",
  ),
  "train": ("vidjax.train", "one training stage, resumable"),
  "replay": ("vidjax.replay", "a step that went wrong, again -> data, numerics or hardware"),
  "report": ("vidjax.report", "a training workdir -> one page to watch and judge the run by"),
  "goodput": ("vidjax.goodput", "a training workdir -> where the time of its attempts went"),
  "sample": ("vidjax.sample", "a model -> video files"),
  "evaluate": ("vidjax.evaluate", "a model or features -> metrics with intervals"),
  "convert_weights": (
    "vidjax.convert_weights",
    "published weights of a feature network -> the form that evaluate reads",
  ),
  "export": ("vidjax.export", "a model -> a directory that PyTorch loads"),
}


def main() -> None:
  """Entry point of the console script."""
  if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help", "help"):
    print(_usage())
    sys.exit(0 if len(sys.argv) > 1 else 2)
  verb = sys.argv[1]
  if verb not in VERBS:
    near = difflib.get_close_matches(verb, VERBS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"verbs: {', '.join(VERBS)}"
    print(f"vidjax: error: unknown verb {verb!r}: {hint}", file=sys.stderr)
    sys.exit(2)
  sys.argv = [f"vidjax {verb}", *sys.argv[2:]]
  signal.signal(signal.SIGINT, _leave)  # until `command.run` takes over
  runpy.run_module(VERBS[verb][0], run_name="__main__", alter_sys=False)


def _leave(number: int, frame: FrameType | None) -> None:
  """Ctrl-C while modules are imported: nothing has begun, so nothing has to be unwound."""
  os.write(2, b"vidjax: interrupted\n")
  os._exit(130)


def _usage() -> str:
  rows = "\n".join(f"  {verb:<17}{text}" for verb, (_, text) in VERBS.items())
  return f"usage: vidjax VERB [--flag=value ...]\n\n{rows}\n\n`vidjax VERB --help` lists the flags."


if __name__ == "__main__":
  main()
