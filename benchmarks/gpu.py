"""Training and sampling SVD on one GPU, beside diffusers under `torch.compile`.

  python -m benchmarks.gpu --json=gpu.json [--parts=train,sample,attention] [--clips=1,2]
    [--remat=none,matmuls,block] [--frames=14,25] [--rounds=7] [--calls=4]
  python -m benchmarks.gpu --json=cpu.json --size=small --parts=train --clips=1 --compiler=eager
  python -m benchmarks.gpu --json=tiny.json --size=tiny    (all of it in miniature, on CPUs)

train      `vidjax train`'s own step from cached latents and texts, SVD's UNet of text to video (1.5
           billion parameters), 14 frames of 320x576, for each policy of recomputation; diffusers'
           UNet with the same loss, clipping and fused AdamW. Both compute in bfloat16 and have
           weights and optimizer in float32. Ours draws noise and latents' spread anew in each step,
           judges it (`vidjax.optim.guard`) and measures norms of blocks; PyTorch's is given them.
sample     25 evaluations with guidance, two rows each, of SVD's UNet of image to video at 576x1024:
           the program that `Pipeline` compiles, and the loop of diffusers' pipeline around its
           compiled UNet in bfloat16; then the decoder, which is not compiled there, so many frames
           at once on both sides. Encoders are not run, frames stay on the device.
attention  what layers call at SVD's shapes, forward and with the gradient, as plain products and by
           cuDNN; PyTorch's own beside them.

Weights are random, written once, the same on both sides, and so are noise and conditions: the first
losses and the latents that come out are compared. Each side is a process with memory of its own
(`gpu_worker`). Both prepare at the same time, which makes both compilations slower than alone, and
then take turns; policies after the first are timed alone, without PyTorch on the device. A round is
`--calls` calls in a row (one of sampling, in half as many rounds); the table has the median and
quartiles of rounds. MFU is of the peak of the data sheet, with the model's FLOPs as `vidjax.flops`
counts them, for both sides the same. PyTorch checkpoints gradients only where it does not fit
otherwise (said in the table). "copies" is a network in bfloat16 whose optimizer has the weights in
float32; with `--precision=copies,autocast` PyTorch's own mixed precision is tried, too, and the
faster counts.

`--size=small` is a UNet that CPUs train in seconds, in float32 on both sides: run it with nothing
else on the machine. OMP_NUM_THREADS is PyTorch's number of threads, ours are as many as cores.

Rows go to `--json` as they are done: called again, what is there is not measured again.
Needs torch with CUDA, diffusers and jax[cuda13], 30 GB on disk beside `--json` (or in `--folder`,
where they stay), a GPU with 80 GB. Most of the time goes into compilation, of our side for each
policy: with JAX_COMPILATION_CACHE_DIR set, a second try finds what the first has compiled.
"""

from collections.abc import Callable, Iterator
import dataclasses
import functools
import pathlib
import statistics
import tempfile
from typing import Any

from absl import app, flags
import jax
import numpy as np

from benchmarks import gpu_setting
from benchmarks.gpu_worker import Answer, Worker
from vidjax import storage
from vidjax.planning import chips

_OURS, _THEIRS = "vidjax", "diffusers"
_NO_MEMORY = ("out of memory", "resource_exhausted", "resource exhausted")


@dataclasses.dataclass(frozen=True)
class Entry:
  """One side of a case.

  Attributes:
    side: whose.
    what: which of the side's ways.
    requests: to its process, the next one where memory does not suffice for the one before.
  """

  side: str
  what: str
  requests: tuple[dict[str, Any], ...]


@dataclasses.dataclass(frozen=True)
class Case:
  """What both sides do.

  Attributes:
    name: of the case.
    ours: the first takes turns with the first of theirs, the others are timed alone.
    theirs: likewise.
    write: writes what both read.
    rounds: turns of each.
    calls: in a turn.
  """

  name: str
  ours: tuple[Entry, ...]
  theirs: tuple[Entry, ...]
  write: Callable[[], None]
  rounds: int
  calls: int


class Book:
  """Rows by name, in a file that is written with each of them."""

  def __init__(self, path: str):
    self._path = storage.Path(path)
    self.rows: dict[str, Answer] = storage.read_json(path) if self._path.exists() else {}

  def has(self, case: Case, entry: Entry) -> bool:
    """Whether it is measured, or known not to fit."""
    row = self.rows.get(_key(case, entry), {})
    return "times" in row or row.get("fits") is False

  def note(self, case: Case, entry: Entry, row: Answer) -> None:
    """Adds a row, and says it."""
    self.rows[_key(case, entry)] = {
      "case": case.name,
      "side": entry.side,
      "what": entry.what,
      **row,
    }
    storage.write_json(self._path, self.rows)
    if "times" in row:
      said = ", ".join(f"{n} {_milli(seconds)}" for n, seconds in row["times"].items())
    else:
      said = row["error"]
    print(f"{_key(case, entry)}: {said}", flush=True)


def _key(case: Case, entry: Entry) -> str:
  return f"{case.name}, {entry.side} {entry.what}"


def _milli(seconds: list[float]) -> str:
  return f"{1e3 * statistics.median(seconds):.2f} ms"


# --- What is measured -----------------------------------------------------------------------------


def cases(folder: str) -> Iterator[Case]:
  """What is asked for."""
  given = flags.FLAGS
  setting = gpu_setting.SETTINGS[given.size]
  here = {"size": given.size}
  there = {"folder": folder, "dtype": setting.dtype, "compiler": given.compiler}
  if "train" in given.parts:
    for clips in map(int, given.clips):
      optimizer = gpu_setting.optimizer()
      request = {"case": "train", "folder": folder, "clips": clips}
      more = [{"checkpointing": c, "optimizer": optimizer} for c in (False, True)]
      yield Case(
        f"train, {clips} x {setting.train_frames} frames",
        tuple(Entry(_OURS, way, ({**here, **request, "remat": way},)) for way in given.remat),
        tuple(
          Entry(_THEIRS, way, tuple({**there, **request, **m, "precision": way} for m in more))
          for way in given.precision
        ),
        functools.partial(gpu_setting.write_train, setting, folder, clips),
        given.rounds,
        given.calls,
      )
  if "sample" in given.parts:
    for frames in map(int, given.frames):
      request = {"case": "sample", "folder": folder, "frames": frames}
      more = {"chunk": gpu_setting.chunk(frames), "steps": setting.steps}
      yield Case(
        f"sample, {frames} frames",
        (Entry(_OURS, "pipeline", ({**here, **request},)),),
        (Entry(_THEIRS, given.compiler, ({**there, **request, **more},)),),
        functools.partial(gpu_setting.write_sample, setting, folder, frames),
        (given.rounds + 1) // 2,
        1,
      )
  if "attention" in given.parts:
    request = {"case": "attention"}
    yield Case(
      "attention",
      tuple(Entry(_OURS, way, ({**here, **request, "backend": way},)) for way in given.attention),
      (
        Entry(_THEIRS, "sdpa", ({**request, "shapes": setting.attention, "dtype": setting.dtype},)),
      ),
      lambda: None,
      given.rounds,
      given.calls,
    )


# --- Measuring ------------------------------------------------------------------------------------


class Side:
  """An entry in a process of its own.

  Args:
    entry: asked for at once; it may still prepare when this returns.
  """

  def __init__(self, entry: Entry):
    self.entry = entry
    self._requests = list(entry.requests)
    self._worker: Worker | None = None
    self.row: Answer = {}
    self._ask()

  def _ask(self) -> None:
    request = self._requests.pop(0)
    self._worker = Worker(self.entry.side)
    self._worker.ask(**request)
    self.row = {name: request[name] for name in ("checkpointing",) if name in request}

  def ready(self) -> None:
    """Waits until it is prepared, with less memory if it has to be."""
    assert self._worker is not None
    self.row |= self._worker.answer()
    while _is_full(self.row) and self._requests:
      self.close()
      self._ask()
      self.row |= self._worker.answer()

  def round(self, calls: int) -> None:
    """So many calls."""
    if "error" in self.row:
      return
    assert self._worker is not None
    self._worker.ask(calls=calls)
    answer = self._worker.answer()
    times: dict[str, list[float]] = self.row.setdefault("times", {})
    for name, seconds in answer.pop("times", {}).items():
      times.setdefault(name, []).append(seconds)
    self.row |= answer

  def close(self) -> None:
    """Ends the process."""
    if self._worker is not None:
      self._worker.close()
    self._worker = None

  def done(self) -> Answer:
    """The row: times, or an error."""
    if "error" in self.row:
      self.row.pop("times", None)
      if _is_full(self.row):
        self.row["fits"] = False
    return self.row


def _is_full(row: Answer) -> bool:
  return any(words in row.get("error", "").lower() for words in _NO_MEMORY)


def _together(entries: list[Entry], case: Case) -> list[Side]:
  """Prepares at the same time, then takes turns."""
  sides: list[Side] = []
  try:
    for entry in entries:
      sides.append(Side(entry))
    for side in sides:
      side.ready()
      seconds = side.row.get("compile_seconds")
      print(f"{_key(case, side.entry)}: prepared, compiled in {seconds} s", flush=True)
    for _ in range(case.rounds):
      for side in sides:
        side.round(case.calls)
  finally:
    for side in sides:
      side.close()
  return sides


def measure(case: Case, book: Book) -> None:
  """All entries of a case that the book does not have."""
  if all(book.has(case, entry) for entry in (*case.ours, *case.theirs)):
    return
  case.write()
  pair = [case.ours[0], case.theirs[0]]
  alone = [*case.ours[1:], *case.theirs[1:]]
  if not all(book.has(case, entry) for entry in pair):
    for side in _together(pair, case):
      row = side.done()
      if _is_full(row):  # the other side was there, too
        alone.insert(0, side.entry)
      else:
        book.note(case, side.entry, row)
  for entry in alone:
    if not book.has(case, entry):
      (side,) = _together([entry], case)
      book.note(case, entry, side.done() | {"alone": True})
  rows = [book.rows[_key(case, entry)] for entry in pair]
  if all("latents" in row for row in rows) and all(
    pathlib.Path(row["latents"]).exists() for row in rows
  ):
    found, expected = (np.load(row["latents"]) for row in rows)
    rows[0]["difference"] = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    book.note(case, pair[0], rows[0])


# --- Report ---------------------------------------------------------------------------------------

_HEADER = (
  "| | side | ms, median (quartiles) | clips/s | MFU | peak GiB | compiled in s | to diffusers |\n"
  "|---|---|---|---|---|---|---|---|"
)


def table(rows: dict[str, Answer]) -> str:
  """Rows, each beside the fastest of diffusers in its case: above 1, ours is the faster."""
  lines = [_HEADER]
  flops = {row["case"]: row["model_flops"] for row in rows.values() if "model_flops" in row}
  for row in rows.values():
    label = f"{row['side']} {row['what']}" + ", checkpointing" * row.get("checkpointing", False)
    if "times" not in row:
      why = "does not fit" if row.get("fits") is False else "failed"
      lines.append(f"| {row['case']} | {label} | {why} | | | | | |")
      continue
    for name, seconds in row["times"].items():
      middle, low, high = _quartiles(seconds)
      theirs = [
        statistics.median(other["times"][name])
        for other in rows.values()
        if other["case"] == row["case"]
        and other["side"] == _THEIRS
        and name in other.get("times", {})
      ]
      first = name in ("step", "latents")
      cells = (
        f"{row['case']}: {name}",
        label + (" (alone)" if row.get("alone") else ""),
        f"{1e3 * middle:.2f} ({1e3 * low:.2f} to {1e3 * high:.2f})",
        f"{row['clips'] / middle:.3f}" if "clips" in row else "",
        _mfu(row, flops.get(row["case"]), middle) if first else "",
        _gib(row.get("peak_bytes") or row.get("program_bytes")) if first else "",
        f"{row['compile_seconds']:.0f}" if first and "compile_seconds" in row else "",
        f"{min(theirs) / middle:.2f}" if theirs and row["side"] == _OURS else "",
      )
      lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def checks(rows: dict[str, Answer]) -> str:
  """What both sides computed: first losses, and how far latents are from each other."""
  lines = []
  for name, row in rows.items():
    if "first_loss" in row:
      lines.append(f"{name}: first loss {row['first_loss']:.5f}")
    for shape, why in row.get("failed", {}).items():
      lines.append(f"{name}: {shape}: {why}")
    if "difference" in row:
      lines.append(f"{name}: latents differ by {row['difference']:.1e} of their norm")
  return "\n".join(lines)


def _quartiles(seconds: list[float]) -> tuple[float, float, float]:
  if len(seconds) < 2:
    return seconds[0], seconds[0], seconds[0]
  low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
  return middle, low, high


def _mfu(row: Answer, flops: int | None, seconds: float) -> str:
  chip = chips.by_device_kind(row["device"])
  if chip is None or flops is None:
    return ""
  return f"{100 * flops / seconds / chip.peak_flops:.1f} %"


def _gib(count: int | None) -> str:
  return "" if count is None else f"{count / 2**30:.1f}"


def define_flags() -> None:
  """Defines the flags; only the process that runs this has them."""
  flags.DEFINE_string("json", None, "File of all rows.", required=True)
  flags.DEFINE_string("folder", None, "Where weights and inputs are kept; else they are not.")
  flags.DEFINE_enum("size", "svd", list(gpu_setting.SETTINGS), "Of everything.")
  flags.DEFINE_list("parts", ["train", "sample", "attention"], "What is measured.")
  flags.DEFINE_list("clips", ["1", "2"], "Clips of a training step, one case each.")
  flags.DEFINE_list("remat", ["none", "matmuls", "block"], "Policies of our training step.")
  flags.DEFINE_list("precision", ["copies"], "Mixed precision there: copies, autocast.")
  flags.DEFINE_list("frames", ["14", "25"], "Frames of a sampled clip, one case each.")
  flags.DEFINE_list("attention", ["cudnn", "products"], "Back ends of ours.")
  flags.DEFINE_string("compiler", "torch.compile", "There: torch.compile, traced or eager.")
  flags.DEFINE_integer("rounds", 7, "Turns of each side.")
  flags.DEFINE_integer("calls", 4, "Calls of a turn.")


def main(_: list[str]) -> None:
  given = flags.FLAGS
  jax.config.update("jax_platforms", "cpu")  # the device is for the processes that measure
  book = Book(given.json)
  with tempfile.TemporaryDirectory(dir=pathlib.Path(given.json).absolute().parent) as temporary:
    for case in cases(given.folder or temporary):
      measure(case, book)
  print(f"\n{table(book.rows)}\n\n{checks(book.rows)}")


if __name__ == "__main__":
  define_flags()
  app.run(main)
