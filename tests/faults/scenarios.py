"""What can happen to a run, at random moments, and what has to come of it, exactly.

Each scenario hurts a run, lets it go on as a scheduler would, and compares its end with that of a
run that nothing happened to: state, losses and samples, to the last bit. All that is random comes
from the seed of the case.
"""

from collections.abc import Callable
import dataclasses
import json
import pathlib
import random
import shutil
import signal
import subprocess
import time

import runs

from vidjax import storage
from vidjax.checkpoint import layout

PACE = "pace=0.2"  # so that there is a time in which something can happen
HANG, PREEMPTED, CHECKPOINT, NONFINITE, CONFIG = 6, 75, 4, 5, 2


@dataclasses.dataclass
class Case:
  """One round of one scenario.

  Attributes:
    seed: of all that is random in it.
    folder: for its runs; empty.
    references: for the undisturbed runs, which cases share.
    most_processes: of a run; each of them compiles.
  """

  seed: int
  folder: pathlib.Path
  references: pathlib.Path
  most_processes: int = 4
  rng: random.Random = dataclasses.field(init=False)

  def __post_init__(self) -> None:
    self.rng = random.Random(self.seed)

  @property
  def workdir(self) -> pathlib.Path:
    return self.folder / "run"

  def undisturbed(self, processes: int, faults: str = "", *flags: str) -> pathlib.Path:
    """Workdir of the same run without what happens to it; made once."""
    name = f"{processes}_{faults}_{'_'.join(flags)}".replace("/", "_").replace("--config.", "")
    workdir = self.references / name
    if not (workdir / "done").exists():
      runs.finish(workdir, processes, *flags, faults=faults)
      (workdir / "done").touch()
    return workdir

  def processes(self, *of: int) -> int:
    return self.rng.choice([count for count in of if count <= self.most_processes])


def _at_a_moment(case: Case, run: runs.Run, moment: str) -> None:
  """Waits for a random moment of a kind."""
  begun = storage.Path(run.workdir / "run.json").exists
  match moment:
    case "compile":
      run.wait_for(begun)
      time.sleep(case.rng.uniform(0, 2))
    case "step":
      run.wait_for_step(case.rng.randrange(1, runs.LAST_TO_HURT))
      time.sleep(case.rng.uniform(0, 0.4))
    case "save":
      newest = case.rng.choice([0, runs.EVERY])
      run.wait_for(
        lambda: runs.saving(run.workdir) or max(runs.checkpoints(run.workdir), default=0) > newest
      )
      time.sleep(case.rng.uniform(0, 0.05))


def _until_restoring(run: runs.Run) -> None:
  began = time.monotonic()
  while "resuming" not in run.said(0) and run.processes[0].poll() is None:
    assert time.monotonic() - began < runs.ENDS_WITHIN, run.said()
    time.sleep(0.01)


def _goes_on(case: Case, processes: int, had: list[int], faults: str = "", *flags: str) -> str:
  """The run goes on from the newest step that was complete, and ends as if nothing had been."""
  run = runs.finish(case.workdir, processes, *flags, faults=faults)
  resumed = runs.resumed_at(run)
  assert resumed >= max(had, default=0), f"{had} were there, went on at {resumed}\n{run.said()}"
  runs.assert_same_end(case.workdir, case.undisturbed(processes, faults, *flags))
  return f"resumed at {resumed}"


def kill_all(case: Case) -> str:
  """`kill -9` of all processes, once or twice, while they compile, step, save or restore."""
  processes, done = case.processes(1, 2, 2, 4), []
  for _ in range(case.rng.randint(1, 2)):
    moment = case.rng.choice(["compile", "step", "save", "restore"])
    run = runs.start(case.workdir, processes, faults=PACE)
    if moment == "restore" and runs.checkpoints(case.workdir):
      _until_restoring(run)
    elif runs.steps_logged(case.workdir) < runs.LAST_TO_HURT:
      _at_a_moment(case, run, "step" if moment == "restore" else moment)
    had = runs.checkpoints(case.workdir)
    run.kill()
    done.append(moment)
  return f"{processes} processes, {done}, {_goes_on(case, processes, had, PACE)}"


def kill_one(case: Case) -> str:
  """`kill -9` of one of several: the others end by themselves, with codes to start them again."""
  processes = case.processes(2, 2, 4)
  run = runs.start(case.workdir, processes, faults=PACE)
  _at_a_moment(case, run, case.rng.choice(["step", "save"]))
  had, victim = runs.checkpoints(case.workdir), case.rng.randrange(processes)
  run.processes[victim].kill()
  codes = run.end()
  again = {-signal.SIGKILL, -signal.SIGABRT, 1, HANG}
  assert set(codes) <= again, f"{codes}\n{run.said()}"
  return f"{processes} processes, codes {codes}, {_goes_on(case, processes, had, PACE)}"


def preempt(case: Case) -> str:
  """SIGTERM to one process or all: all save after the same step and exit with 75.

  With JAX's own preemption service, which takes the signal until training listens, and without it.
  """
  processes, service = case.processes(1, 2, 2, 4), case.rng.choice(["true", "false"])
  env = {"JAX_ENABLE_PREEMPTION_SERVICE": service}
  grace = "--config.deadlines.grace=250"  # nothing interrupts the compiler
  run = runs.start(case.workdir, processes, grace, faults=PACE, env=env)
  _at_a_moment(case, run, case.rng.choice(["compile", "step", "save"]))
  told = case.rng.choice([run.processes, [case.rng.choice(run.processes)]])
  for process in told:
    process.send_signal(signal.SIGTERM)
  codes = run.end()
  assert codes == [PREEMPTED] * processes, f"{codes}\n{run.said()}"
  saved = runs.checkpoints(case.workdir)
  assert f"stopped at step {saved[-1]}, state saved" in run.said(), run.said()
  assert runs.steps_logged(case.workdir) == saved[-1]  # nothing is done twice
  ended = _goes_on(case, processes, saved, PACE)
  return f"{processes} processes, service {service}, at {saved[-1]}, {ended}"


def stop_hard(case: Case) -> str:
  """A save that is stuck when SIGTERM comes ends with the grace time, or with a second SIGTERM."""
  twice = case.rng.random() < 0.5
  grace = "--config.deadlines.grace=" + ("60" if twice else "3")
  run = runs.start(case.workdir, 1, grace, faults=f"{PACE},slow_save=120")
  run.wait_for_step(case.rng.randint(1, 2))
  began = time.monotonic()
  run.processes[0].terminate()
  if twice:
    time.sleep(1.5)
    run.processes[0].terminate()
  codes = run.end()
  assert codes == [143], f"{codes}\n{run.said()}"
  assert time.monotonic() - began < 50  # the save itself takes 120
  assert ("a second SIGTERM" if twice else "deadlines.grace=3") in run.said()
  return f"{'twice' if twice else 'grace'}, {_goes_on(case, 1, [], PACE)}"


def freeze(case: Case) -> str:
  """SIGSTOP of one of two: the other one ends, by the watchdog or by the missing heartbeat."""
  limit = "--config.deadlines.step=15"
  run = runs.start(case.workdir, 2, limit, faults=PACE)
  run.wait_for_step(case.rng.randrange(2, 10))
  had, victim = runs.checkpoints(case.workdir), case.rng.randrange(2)
  run.processes[victim].send_signal(signal.SIGSTOP)
  try:
    code = run.processes[1 - victim].wait(runs.ENDS_WITHIN)
  finally:
    run.kill()
  assert code in (HANG, -signal.SIGABRT, 1), f"{code}\n{run.said()}"
  return f"process {victim}, code {code}, {_goes_on(case, 2, had, PACE)}"


def hang(case: Case) -> str:
  """A thread sleeps for ever: stacks of all processes, who it was, exit code 6."""
  processes = case.rng.choice([1, 2])
  victim, step = case.rng.randrange(processes), case.rng.randrange(2, runs.STEPS)
  limit = "--config.deadlines.step=15"
  run = runs.start(case.workdir, processes, limit, faults=f"{PACE},hang={step}@{victim}")
  codes = run.end()
  assert codes == [HANG] * processes, f"{codes}\n{run.said()}"
  for index in range(processes):
    stacks = (case.workdir / "hang" / f"attempt1_process{index}.txt").read_text()
    assert "most recent call first" in stacks
    if index == victim:
      assert "train_worker.py" in stacks
  if processes > 1:
    behind = [line for line in stacks.splitlines() if "BEHIND" in line]
    assert [line.split()[1] for line in behind] == [str(victim)], stacks
  had = runs.checkpoints(case.workdir)
  return f"process {victim} of {processes} at {step}, {_goes_on(case, processes, had, PACE)}"


def disk_full(case: Case) -> str:
  """The disk fills up while the run goes on: exit 7, what was saved stays; with room it goes on."""
  mounted = subprocess.run(
    ["mount", "-t", "tmpfs", "-o", f"size={case.rng.randint(28, 85)}m", "tmpfs", case.folder],
    capture_output=True,
  )
  if mounted.returncode:
    return "left out: mounting a small file system needs root"
  try:
    run = runs.start(case.workdir, 1, faults=PACE)
    codes = run.end()
    assert codes == [7], f"{codes}\n{run.said()}"
    had = runs.checkpoints(case.workdir)
    more = ["mount", "-o", "remount,size=200m", case.folder]
    subprocess.run(more, check=True, capture_output=True)
    return f"had {had}, {_goes_on(case, 1, had, PACE)}"
  finally:
    subprocess.run(["umount", case.folder], check=True, capture_output=True)


def damage(case: Case) -> str:
  """A file of the newest checkpoint is cut short, emptied, lost or has one bit flipped."""
  processes = case.rng.choice([1, 2])
  shutil.copytree(case.undisturbed(processes, PACE), case.workdir)
  for step in runs.checkpoints(case.workdir):
    if step == runs.STEPS:
      shutil.rmtree(case.workdir / "checkpoints" / str(step))
  newest = runs.checkpoints(case.workdir)[-1]
  files = [p for p in (case.workdir / "checkpoints" / str(newest)).rglob("*") if p.is_file()]
  weights = [max(1, file.stat().st_size) for file in files]
  file = case.rng.choice([case.rng.choice(files), case.rng.choices(files, weights)[0]])
  how = case.rng.choice(["truncated", "emptied", "deleted", "flipped"])
  content = bytearray(file.read_bytes())
  match how:
    case "truncated":
      file.write_bytes(content[: case.rng.randrange(max(1, len(content)))])
    case "emptied":
      file.write_bytes(b"")
    case "deleted":
      file.unlink()
    case "flipped":
      if content:
        content[case.rng.randrange(len(content))] ^= 1 << case.rng.randrange(8)
        file.write_bytes(content)
  run = runs.finish(case.workdir, processes, faults=PACE)
  resumed = runs.resumed_at(run)
  assert resumed in (newest, newest - runs.EVERY), run.said()
  runs.assert_same_end(case.workdir, case.undisturbed(processes, PACE))
  return f"{file.relative_to(case.workdir)} {how}, resumed at {resumed} of {newest}"


def bad_batches(case: Case) -> str:
  """Batches whose loss is NaN or explodes, killed on the way: as a run that is not killed."""
  kind, processes = case.rng.choice(["nan", "huge"]), case.rng.choice([1, 2])
  first = runs.BATCH * case.rng.randint(8, 9)
  count = runs.BATCH * case.rng.choice([1, 2, 4])
  faults = f"{PACE},{kind}={first}-{first + count - 1}"
  flags = ("--config.guard.window=6", "--config.guard.max_skips=2")
  reference = case.undisturbed(processes, faults, *flags)
  skipped = runs.metrics(reference)[runs.STEPS]["skipped_steps"]
  back = (reference / "skipped_samples.json").exists()
  assert back == (count > 2 * runs.BATCH)
  assert skipped == (count // runs.BATCH if not back else 1)
  run = runs.start(case.workdir, processes, *flags, faults=faults)
  run.wait_for_step(case.rng.randrange(2, runs.LAST_TO_HURT))
  run.kill()
  had = [] if back else runs.checkpoints(case.workdir)  # it goes back further, on purpose
  ended = _goes_on(case, processes, had, faults, *flags)
  return f"{kind}, {count} samples, {processes} processes, {ended}"


def hopeless(case: Case) -> str:
  """All batches from some step on are broken: exit 5, and the step can be replayed."""
  first = runs.BATCH * case.rng.randint(5, 9)
  flags = ("--config.guard.max_skips=1", "--config.guard.max_rollbacks=1")
  run = runs.start(case.workdir, 1, *flags, faults=f"nan={first}-999999")
  assert run.end() == [NONFINITE], run.said()
  assert "vidjax replay" in run.said()
  bundle = next((case.workdir / "replay").iterdir())
  step = json.loads(bundle.read_text())["step"]
  assert step == first // runs.BATCH + 1
  return f"gave up at {step}"


def other_mesh(case: Case) -> str:
  """Killed, and gone on with as another number of processes: the same samples and losses."""
  before = case.processes(1, 2, 4)
  after = case.processes(*{1, 2, 4} - {before})
  run = runs.start(case.workdir, before, faults=PACE)
  _at_a_moment(case, run, case.rng.choice(["step", "save"]))
  run.kill()
  runs.finish(case.workdir, after, faults=PACE)
  mine, theirs = runs.metrics(case.workdir), runs.metrics(case.undisturbed(before, PACE))
  for step, row in theirs.items():
    assert mine[step]["sample_ids_hash"] == row["sample_ids_hash"]
    assert abs(mine[step]["loss"] - row["loss"]) < 1e-3 * row["loss"], step
  return f"{before} processes, then {after}"


def clock(case: Case) -> str:
  """The clock of the machine jumps, forwards or backwards: nothing comes of it."""
  jump = case.rng.choice([-86400, -60, 60, 86400])
  step = case.rng.randrange(2, runs.STEPS)
  run = runs.finish(case.workdir, 1, faults=f"{PACE},clock={step}/{jump}")
  runs.assert_same_end(case.workdir, case.undisturbed(1, PACE))
  return f"{jump} s at step {step}: {len(run.said())} characters said"


def two_runs(case: Case) -> str:
  """A second run in the same workdir is refused, and the first one does not notice."""
  first = runs.start(case.workdir, 1, faults=PACE)
  first.wait_for_step(case.rng.randrange(1, 6))
  first.processes[0].send_signal(signal.SIGSTOP)  # or it is done before the second one is there
  second = runs.start(case.workdir, 1, faults=PACE)
  try:
    assert second.end() == [CONFIG], second.said()
  finally:
    first.processes[0].send_signal(signal.SIGCONT)
  assert str(first.processes[0].pid) in second.said()
  assert first.end() == [0], first.said()
  runs.assert_same_end(case.workdir, case.undisturbed(1, PACE))
  return "refused"


def old_version(case: Case) -> str:
  """A checkpoint of another format is refused by name, and left as it is."""
  shutil.copytree(case.undisturbed(1, PACE), case.workdir)
  more = f"--config.total_samples={(runs.STEPS + 4) * runs.BATCH}"
  for step in runs.checkpoints(case.workdir):
    path = case.workdir / "checkpoints" / str(step) / layout.RECORD / "metadata"
    record = {k: v for k, v in json.loads(path.read_text()).items() if k != "digest"}
    path.write_text(json.dumps(record | {"version": 2}))
  run = runs.start(case.workdir, 1, more, faults=PACE)
  assert run.end() == [CHECKPOINT], run.said()
  assert "format" in run.said()
  assert len(runs.checkpoints(case.workdir)) == 3
  return "refused"


SCENARIOS: dict[str, Callable[[Case], str]] = {
  scenario.__name__: scenario
  for scenario in (
    *(kill_all, kill_one, preempt, stop_hard, freeze, hang, disk_full, damage, bad_batches),
    *(hopeless, other_mesh, clock, two_runs, old_version),
  )
}
