"""Makes one page of a training run, to be opened in a browser and sent to others as it is.

  vidjax report --workdir=DIR [--out=FILE.html] [--compare=OTHER_DIR ...]

Whether to stop it, in the first line; its curves, clips made while training, where its time went,
what it was fed, where it started, its config, program, versions and checkpoints. It works while the
run goes on, and on one that crashed early. Everything is in the file, whose size is bounded.
Exit codes: 0 done; 2 bad flag, or no run in DIR.
"""

from absl import flags

from vidjax import command, storage
from vidjax.observe import console
from vidjax.reporting import health, page, run


def report(workdir: str, out: str = "", compare: list[str] | None = None) -> storage.Path:
  """Writes the page of a run; returns where.

  Args:
    workdir: of the run: local, gs:// or s3://.
    out: the file; "": `report.html` in the workdir.
    compare: workdirs of other runs, to stand beside it.

  Raises:
    FileNotFoundError: no run began in one of the folders.
    ValueError: `out` is no name of a page.
  """
  path = storage.Path(out or storage.Path(workdir) / "report.html")
  if path.suffix not in (".html", ".htm"):
    raise ValueError(f"--out={out}: the page is HTML, name a file that ends with .html")
  shown = run.read(workdir)
  others = [run.read(other, flag="compare") for other in compare or ()]
  text = page.render(shown, others)
  storage.write_text(path, text)
  console.line(health.judge(shown).line)
  console.line(f"{path}: {len(text.encode()) / 1e6:.1f} MB")
  return path


def main() -> None:
  """The verb: see the module's text."""
  given = flags.FLAGS
  report(given.workdir, given.out, given.compare)


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  flags.DEFINE_string("workdir", None, "Folder of the run: local, gs:// or s3://.", required=True)
  flags.DEFINE_string("out", "", "The page, .html; empty: report.html in the workdir.")
  flags.DEFINE_multi_string("compare", [], "Folder of another run to show beside it; repeatable.")


if __name__ == "__main__":
  define_flags()
  command.run(main)
