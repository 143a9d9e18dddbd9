"""Runs a command, and runs it again when that helps: the same here, under Slurm, in Kubernetes.

  python -m launch.supervise --workdir=DIR [--flag=value ...] -- COMMAND ...

What follows an exit code of the command (`vidjax/errors.py` says what they mean):

    0                     done                              ends with 0
    2, 4, 5, 7, 130       config, checkpoint, non-finite    ends with that code: another try would
                          loss, disk full, Ctrl-C           be no other, or it has to be looked at
    126, 127              the command cannot be run         ends with that code
    75                    preempted, state saved            restarts at once
    1, 3, 6, others       internal error, data, hang        restarts after a delay
    signals: negative,    crash, out of memory, kill -9     restarts after a delay
    134, 137, 139 ...

The delay doubles with each failure, from `--first_delay` to `--max_delay`, and is drawn between
half and all of that. Progress (a newer complete checkpoint, or a newer row of `metrics.jsonl`)
makes it short again. After `--max_failures` ends in a row without progress it stops, with the code
of the last.

SIGTERM (or SIGHUP) and Ctrl-C are passed on to the command, once. It has `--grace` seconds to end;
then, or at a second Ctrl-C, it is killed with all that it started. If it ended in order, its code
is ours; otherwise that is 75 after SIGTERM, 130 after Ctrl-C. SIGUSR1 is passed on: it asks for a
trace.

What happens is said in a line each, and in `DIR/supervisor.jsonl`, with the last lines that the
command wrote to stderr. Of several tasks of a run (`--task`, else what Slurm, Open MPI or an
indexed job says) all but the first have a file of their own, `supervisor_TASK.jsonl`.

It may be the first process of a container: it reaps what others leave behind.
"""

import argparse
from collections.abc import Sequence
import signal
import sys
import time
from typing import Any

from launch import child as children
from launch import policy as policies
from launch import progress
from vidjax import storage
from vidjax.observe import journal

_NAME = "supervisor"


class Log:
  """`supervisor.jsonl`. What cannot be written is said, and holds nothing up.

  Args:
    workdir: of the run.
    task: which one of the run's this is.
  """

  def __init__(self, workdir: storage.PathLike, task: str):
    name = f"{_NAME}_{task}.jsonl" if task not in ("", "0") else f"{_NAME}.jsonl"
    self._path = storage.Path(workdir) / name
    self._journal: journal.Journal | None = None

  def write(self, event: str, **what: Any) -> None:
    """Adds a line, at once also in an object store."""
    try:
      self._journal = self._journal or journal.Journal(self._path)
      self._journal.write({"time": round(time.time(), 3), "event": event} | what)
      self._journal.upload()
    except Exception as exc:
      say(f"{self._path} cannot be written: {exc}")


def supervise(
  command: Sequence[str],
  workdir: storage.PathLike,
  *,
  limits: policies.Limits,
  grace: float,
  task: str = "",
) -> int:
  """Runs `command` until it is done or there is no more point in it; returns the exit code.

  Args:
    command: program and arguments.
    workdir: where it shows its progress; local, gs:// or s3://.
    limits: see there.
    grace: seconds that it has to end when it was asked to.
    task: for the name of the log.
  """
  log = Log(workdir, task)
  policy = policies.Policy(limits, _newest(workdir))
  with children.Signals().listen() as signals:
    while True:
      if signals.stop is not None:
        return _stopped(signals.stop, log)
      began = time.monotonic()
      try:
        running = children.Child(command)
      except OSError as exc:
        code = 127 if isinstance(exc, FileNotFoundError) else 126
        say(f"{command[0]} cannot be started: {exc}")
        log.write("end", code=code, decision="stop", why=str(exc))
        return code
      log.write("start", command=list(command), pid=running.pid)
      code, killed = running.wait(signals, grace)
      seconds, step = time.monotonic() - began, _newest(workdir)
      decision = policy.decide(code, step)
      if signals.stop is not None:
        decision = _after_signal(signals.stop, code, killed, grace)
      log.write(
        "end",
        code=code,
        seconds=round(seconds, 3),
        step=step,
        decision=decision.action,
        why=decision.why,
        delay=round(decision.delay, 3),
        failures=policy.failures,
        stderr=running.last_words(),
      )
      say(_sentence(decision, seconds, step))
      if decision.action != "restart":
        return decision.code
      _sleep(signals, decision.delay)


def say(text: str) -> None:
  """One line; stdout is the command's."""
  print(f"supervise: {text}", file=sys.stderr, flush=True)


def _after_signal(stop: signal.Signals, code: int, killed: bool, grace: float) -> policies.Decision:
  """How we end when we were asked to: as the command did, if it did so in order."""
  ours = _code_of(stop)
  if killed:
    return policies.Decision("stop", ours, f"killed, {grace:g} s after {stop.name} at the latest")
  if code == -stop:
    return policies.Decision("stop", ours, f"ended by {stop.name}")
  if code == 0:
    return policies.Decision("done", 0, "done")
  return policies.Decision("stop", policies.shell_code(code), policies.meaning(code))


def _stopped(stop: signal.Signals, log: Log) -> int:
  """Asked to end while nothing runs."""
  log.write("stopped", signal=stop.name)
  say(f"stopped by {stop.name} before the next start")
  return _code_of(stop)


def _code_of(stop: signal.Signals) -> int:
  return policies.INTERRUPTED if stop == signal.SIGINT else policies.PREEMPTED


def _sleep(signals: children.Signals, seconds: float) -> None:
  """Waits for the next start, or for a signal that ends it all."""
  until = time.monotonic() + seconds
  while signals.stop is None and (left := until - time.monotonic()) > 0:
    signals.wait(left)
    children.reap()
  signals.passed_on.clear()  # nobody was there to get them


def _newest(workdir: storage.PathLike) -> int | None:
  try:
    return progress.newest_step(workdir)
  except Exception as exc:  # a store that does not answer is no reason to let go of the command
    say(f"{workdir} cannot be read, so no progress is seen: {exc}")
    return None


def _sentence(decision: policies.Decision, seconds: float, step: int | None) -> str:
  at = "no step yet" if step is None else f"step {step}"
  what = {
    "done": "",
    "stop": f": {decision.why}; ending with code {decision.code}",
    "restart": f": {decision.why}; again in {decision.delay:.1f} s",
  }[decision.action]
  return f"{'done' if decision.action == 'done' else 'ended'} after {seconds:.1f} s, {at}{what}"


def main(arguments: Sequence[str]) -> int:
  """Parses the command line and supervises; returns the exit code."""
  limits = policies.Limits()
  parser = argparse.ArgumentParser(
    prog="python -m launch.supervise",
    usage="%(prog)s --workdir=DIR [--flag=value ...] -- COMMAND ...",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("--workdir", required=True, help="of the run: local, gs:// or s3://")
  parser.add_argument("--grace", type=_positive, default=60.0, help="seconds to end in (60)")
  parser.add_argument(
    "--max_failures", type=int, default=limits.max_failures, help="in a row, without progress (5)"
  )
  parser.add_argument(
    "--first_delay", type=_positive, default=limits.first_delay, help="seconds (1)"
  )
  parser.add_argument("--max_delay", type=_positive, default=limits.max_delay, help="seconds (60)")
  parser.add_argument("--task", default=progress.task_name(), help="names the log")
  arguments = list(arguments)
  split = arguments.index("--") if "--" in arguments else len(arguments)
  given, command = parser.parse_args(arguments[:split]), arguments[split + 1 :]
  if not command:
    parser.error("say what to run, after --")
  if given.max_failures < 1:
    parser.error(f"--max_failures={given.max_failures}: at least 1")
  return supervise(
    command,
    given.workdir,
    limits=policies.Limits(given.max_failures, given.first_delay, given.max_delay),
    grace=given.grace,
    task=given.task,
  )


def _positive(text: str) -> float:
  value = float(text)
  if not 0 <= value < float("inf"):
    raise argparse.ArgumentTypeError(f"{text}: write seconds, 0 or more")
  return value


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
