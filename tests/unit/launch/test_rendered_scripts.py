"""The scripts under bash, with stand-ins for a cluster's programs; awkward values survive."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.unit.launch.descriptions import GPU, TPU, rendered, written

# What people put into captions and paths, and a shell would take apart.
AWKWARD = """it's {caption} "so" $HOME `x` \\n * ; & | # (a)"""
_TEMPLATE = f"data.template={AWKWARD}"


def program(folder: pathlib.Path, name: str, body: str) -> None:
  (folder / name).write_text(f"#!/bin/sh\n{body}\n")
  (folder / name).chmod(0o755)


def recorder(folder: pathlib.Path, name: str, code: int = 0) -> None:
  """A program that appends its arguments to NAME.jsonl and ends with `code`."""
  write = "import json, sys; print(json.dumps(sys.argv[2:]), file=open(sys.argv[1], 'a'))"
  log = folder / f"{name}.jsonl"
  program(folder, name, f'{sys.executable} -c "{write}" \'{log}\' "$@"; exit {code}')


def recorded(folder: pathlib.Path, name: str) -> list[list[str]]:
  log = folder / f"{name}.jsonl"
  return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def run(folder: pathlib.Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
  (folder / "script").write_text(script)
  check = subprocess.run(["bash", "-n", folder / "script"], capture_output=True, text=True)
  assert check.returncode == 0, check.stderr
  return subprocess.run(
    ["bash", folder / "script"],
    cwd=folder,
    env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"} | variables,
    capture_output=True,
    text=True,
    timeout=120,
  )


def sbatch_script(folder: pathlib.Path, *changes: tuple[str, str]) -> str:
  (script,) = rendered(written(folder, GPU, *changes), "slurm", _TEMPLATE).files.values()
  return script


@pytest.mark.parametrize(
  ("code", "state", "requeued"),
  [(0, "RUNNING", False), (75, "RUNNING", True), (75, "CANCELLED", False), (4, "RUNNING", False)],
)
def test_slurm_asks_for_another_turn_after_a_preemption_only(
  tmp_path, repo_root, code, state, requeued
):
  """With the real supervisor, and stand-ins for Slurm and for training."""
  script = sbatch_script(tmp_path, ("/shared/run", str(tmp_path / "run")))
  script = script.replace("--grace=90", "--grace=90 --max_failures=1")
  program(
    tmp_path,
    "srun",
    'while [ "${1#--}" != "$1" ]; do echo "$1" >> srun.txt; shift; done; exec "$@"',
  )
  program(
    tmp_path, "scontrol", f'echo "$@" >> scontrol.txt; echo "   JobState={state} Reason=None"'
  )
  program(tmp_path, "python3", f'[ "$2" = vidjax.cli ] && exit {code}; exec {sys.executable} "$@"')
  done = run(tmp_path, script, SLURM_JOB_ID="17", PYTHONPATH=str(repo_root))
  assert done.returncode == code, done.stderr
  given = (tmp_path / "srun.txt").read_text().split()
  assert given[:2] == ["--kill-on-bad-exit=0", "--wait=120"]
  asked = tmp_path / "scontrol.txt"
  lines = asked.read_text().splitlines() if asked.exists() else []
  assert ("requeue 17" in lines) == requeued
  assert (tmp_path / "run" / "supervisor.jsonl").exists()


def test_slurm_directives_leave_time_to_end(tmp_path):
  script = sbatch_script(tmp_path)
  given = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script, re.M))
  assert (given["nodes"], given["ntasks-per-node"], given["gpus-per-node"]) == ("2", "8", "8")
  assert given["requeue"] == ""
  seconds, grace = re.fullmatch(r"TERM@(\d+)", given["signal"]), re.search(r"--grace=(\d+)", script)
  assert seconds
  assert grace
  assert int(grace[1]) < int(seconds[1])
  assert all("'" not in value and '"' not in value for value in given.values())


@pytest.mark.parametrize(
  ("changes", "before"),
  [
    (
      (('container = "pyxis"', 'container = "pyxis"\nmounts = ["/shared", "/a:/b"]'),),
      [
        "--container-image=ghcr.io#o/vidjax:1.0",
        "--container-mounts=/shared:/shared,/a:/b",
        "--container-workdir=/vidjax",
        "--no-container-entrypoint",
      ],
    ),
    (
      (('container = "pyxis"', 'container = "apptainer"\nmounts = ["/shared"]'),),
      [
        *("apptainer", "exec", "--nv", "--pwd=/vidjax", "--bind=/shared:/shared"),
        "docker://ghcr.io/o/vidjax:1.0",
      ],
    ),
    ((('container = "pyxis"', 'venv = "/shared/venv"'),), []),
  ],
)
def test_what_srun_is_given(tmp_path, changes, before):
  recorder(tmp_path, "srun")
  awkward = ("[overrides]", "[env]\nNOTE = '''" + AWKWARD + "'''\n[overrides]")
  done = run(tmp_path, sbatch_script(tmp_path, *changes, awkward), SLURM_JOB_ID="17")
  assert done.returncode == 0, done.stderr
  (words,) = recorded(tmp_path, "srun")
  assert words[2 : 2 + len(before)] == before
  rest = words[2 + len(before) :]
  assert rest[0] == "env"
  assert rest[1].startswith("XLA_FLAGS=--xla_gpu_")
  assert f"NOTE={AWKWARD}" in rest
  assert f"--config.{_TEMPLATE}" in rest
  python = "/shared/venv/bin/python" if not before else "python3"
  start = rest.index(python)
  assert rest[start : start + 3] == [python, "-m", "launch.supervise"]
  assert rest[rest.index("--") + 1] == python


_METADATA = """
case "$*" in
  *agent-worker-number*) echo 3 ;;
  *tpu-env*) printf "ZONE: 'z'\\nMEGASCALE_NUM_SLICES: '2'\\nMEGASCALE_SLICE_ID: '1'\\n" ;;
esac
"""


def start_script(folder: pathlib.Path, *changes: tuple[str, str]) -> str:
  launch = rendered(written(folder, TPU, *changes), "tpu_vm", _TEMPLATE)
  return launch.files["run_start.sh"]


@pytest.mark.parametrize("code", [0, 5])
def test_a_tpu_vm_runs_the_container(tmp_path, code):
  program(tmp_path, "curl", _METADATA)
  recorder(tmp_path, "gcloud")
  program(
    tmp_path,
    "docker",
    f'[ "$1" = run ] || exit 0; shift; "{tmp_path}/container" "$@"',
  )
  recorder(tmp_path, "container", code)
  awkward = ("[overrides]", "[env]\nNOTE = '''" + AWKWARD + "'''\n[overrides]")
  done = run(tmp_path, start_script(tmp_path, awkward))
  assert done.returncode == code, done.stderr
  assert recorded(tmp_path, "gcloud") == [
    ["auth", "configure-docker", "us-docker.pkg.dev", "--quiet"]
  ]
  (words,) = recorded(tmp_path, "container")
  assert f"--env=NOTE={AWKWARD}" in words
  image = words.index("us-docker.pkg.dev/p/r/vidjax:1.0")
  assert words[image + 1 : image + 4] == ["-m", "launch.supervise", "--task=1-3"]
  assert f"--config.{_TEMPLATE}" in words
  grace = next(int(w.split("=")[1]) for w in words if w.startswith("--grace="))
  assert next(int(w.split("=")[1]) for w in words if w.startswith("--stop-timeout=")) > grace
  assert "--privileged" in words
  assert "--network=host" in words


def test_an_image_that_is_not_there_yet_is_asked_for_again(tmp_path):
  program(tmp_path, "curl", "exit 22")
  program(tmp_path, "sleep", 'echo "$1" >> sleep.txt')
  program(tmp_path, "docker", '[ "$1" != pull ] || { echo x >> pulls; [ -s pulls.done ]; }')
  done = run(tmp_path, start_script(tmp_path, ("us-docker.pkg.dev/p/r", "docker.io/o")))
  assert done.returncode == 0, done.stderr
  assert (tmp_path / "sleep.txt").read_text().split() == ["5", "15", "45", "0"]


@pytest.mark.parametrize(
  ("worker", "code", "deleted"), [(0, 0, True), (1, 0, False), (0, 6, False)]
)
def test_tpus_go_back_when_all_is_done(tmp_path, worker, code, deleted):
  program(tmp_path, "curl", f'case "$*" in *agent-worker-number*) echo {worker} ;; esac')
  program(tmp_path, "docker", f'[ "$1" != run ] || exit {code}')
  recorder(tmp_path, "gcloud")
  script = start_script(tmp_path, ("[tpu_vm]", "[tpu_vm]\ndelete_when_done = true"))
  assert run(tmp_path, script).returncode == code
  asked = [words for words in recorded(tmp_path, "gcloud") if "delete" in words]
  assert len(asked) == deleted
  assert all("--force" in words and "run" in words for words in asked)


def test_a_machine_that_goes_down_stops_the_container(tmp_path):
  recorder(tmp_path, "docker")
  launch = rendered(written(tmp_path, TPU), "tpu_vm")
  assert run(tmp_path, launch.files["run_stop.sh"]).returncode == 0
  assert recorded(tmp_path, "docker") == [["stop", "--time=120", "vidjax"]]
