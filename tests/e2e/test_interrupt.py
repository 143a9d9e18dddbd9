"""Ctrl-C before a verb has begun, and while native code is at work: one line, the right code."""

import signal
import subprocess
import sys

LINE = "vidjax: interrupted\n"


def interrupted_after(code: str, ready: str, *args: str) -> subprocess.CompletedProcess:
  """Runs a Python program and sends it SIGINT when it has printed `ready`."""
  process = subprocess.Popen(
    [sys.executable, "-c", code, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )
  assert process.stdout.readline().strip() == ready
  process.send_signal(signal.SIGINT)
  out, err = process.communicate(timeout=60)
  return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_while_modules_are_imported(tmp_path):
  """A module that takes its time stands for all that `vidjax train` imports."""
  (tmp_path / "slow_verb.py").write_text(
    "print('importing', flush=True)\nimport time\ntime.sleep(30)"
  )
  program = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from vidjax import cli;"
    "cli.VERBS['slow'] = ('slow_verb', ''); sys.argv[1:] = ['slow']; cli.main()"
  )
  done = interrupted_after(program, "importing", str(tmp_path))
  assert (done.returncode, done.stderr) == (130, LINE)


def test_while_native_threads_work():
  """A program is being compiled: the process must not die of its own way out."""
  program = """
import threading
import jax, jax.numpy as jnp
from vidjax import command

def compile_something():
  f = lambda x: sum(jnp.sin(x * i) @ jnp.cos(x.T + i) for i in range(300))
  jax.jit(f)(jnp.ones((64, 64)))

def main():
  threading.Thread(target=compile_something, daemon=True).start()
  time.sleep(1.0)
  print("compiling", flush=True)
  time.sleep(30)

import time
command.run(main)
"""
  done = interrupted_after(program, "compiling")
  assert (done.returncode, done.stderr) == (130, LINE)
