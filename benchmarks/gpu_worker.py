"""A process that measures when it is told: lines of JSON on its input, one of JSON for each back.

{"case": NAME, ...} prepares a case of the process (builds, compiles) and says what is known of it;
{"calls": N} runs it N times and says `times`, seconds of a call by name, beside other facts. What
goes wrong comes back as {"error": TEXT}, and the process is ready for the next line.

Both sides of `benchmarks.gpu` are such processes: each has memory of its own, which is free when it
has ended, and they can take turns. Needs neither vidjax nor torch.
"""

from collections.abc import Callable, Mapping
import contextlib
import gc
import json
import os
import subprocess
import sys
import traceback
from typing import Any

Answer = dict[str, Any]
Run = Callable[[int], Answer]
MODULES = {"vidjax": "benchmarks.gpu_ours", "diffusers": "benchmarks.gpu_peer"}
_PATIENCE = 30  # seconds in which a process ends that is told to


class Worker:
  """The other end: a process and what it answers.

  Args:
    side: of `MODULES`.
  """

  def __init__(self, side: str):
    command = [sys.executable, "-m", MODULES[side]]
    self._process = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

  def ask(self, **request: Any) -> None:
    """Tells it something; it may take its time."""
    assert self._process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # `answer` says how it ended
      self._process.stdin.write(json.dumps(request) + "\n")
      self._process.stdin.flush()

  def answer(self) -> Answer:
    """Waits for what it says; an error if it has ended instead, as when memory runs out."""
    assert self._process.stdout is not None
    line = self._process.stdout.readline()
    if line:
      return json.loads(line)
    return {"error": f"the process ended with exit code {self._process.wait()}"}

  def close(self) -> None:
    """Ends it, and with it all that it holds on the device."""
    assert self._process.stdin is not None
    assert self._process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    try:
      self._process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._process.stdout.close()


def serve(cases: Mapping[str, Callable[..., tuple[Answer, Run]]]) -> None:
  """Answers until the input ends; what libraries print goes to stderr.

  Args:
    cases: by name; called with what else is in the request, each gives what is known after
      preparation, and what runs it.
  """
  answers = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)
  run: Run | None = None
  for line in sys.stdin:
    request = json.loads(line)
    try:
      if "case" in request:
        run = None
        gc.collect()  # what the last case held
        answer, run = cases[request.pop("case")](**request)
      else:
        assert run is not None, "nothing is prepared"
        answer = run(request["calls"])
    except Exception as error:  # it is said, and the benchmark decides what follows
      traceback.print_exc()
      answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
    answers.write(json.dumps(answer) + "\n")
