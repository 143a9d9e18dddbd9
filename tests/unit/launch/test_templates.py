"""The templates say what the supervisor relies on, and the local one runs."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from launch import policy, supervise


@pytest.fixture
def folder(repo_root):
  return repo_root / "launch"


def supervised(words: list[str], monkeypatch) -> tuple[dict, list[str]]:
  """How the supervisor takes a command line: its settings, and the command."""
  taken = {}

  def take(command, workdir, **more):
    taken.update(more, command=command, workdir=workdir)
    return 0

  monkeypatch.setattr(supervise, "supervise", take)
  assert words[:3] == ["python3", "-m", "launch.supervise"]
  supervise.main(words[3:])
  return taken, taken["command"]


def test_jobset(folder, monkeypatch):
  jobset = yaml.safe_load((folder / "gke" / "jobset.yaml").read_text())
  assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
  assert jobset["spec"]["failurePolicy"]["rules"] == [
    {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
  ]
  (job,) = jobset["spec"]["replicatedJobs"]
  job = job["template"]["spec"]
  assert job["parallelism"] == job["completions"] == 2 * 2 * 4 // 4, "one pod for four chips"
  pod = job["template"]["spec"]
  assert pod["restartPolicy"] == "Never", "needed by podFailurePolicy"
  (container,) = pod["containers"]
  taken, command = supervised(container["command"] + container["args"], monkeypatch)
  assert taken["grace"] < pod["terminationGracePeriodSeconds"]
  assert f"--workdir={taken['workdir']}" in command
  assert command[:4] == ["python3", "-m", "vidjax.cli", "train"]

  evicted, preempted, failed = job["podFailurePolicy"]["rules"]
  assert evicted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
  assert evicted["action"] == preempted["action"] == "Ignore"
  assert preempted["onExitCodes"]["values"] == [policy.PREEMPTED]
  assert failed["action"] == "FailJob"
  assert failed["onExitCodes"]["operator"] == "In"
  assert failed["onExitCodes"]["values"] == sorted(policy.STOP)
  assert job["backoffLimit"] == 0, "all others make the JobSet start again"
  names = {rule["onExitCodes"]["containerName"] for rule in (preempted, failed)}
  assert names == {container["name"]}


@pytest.mark.parametrize("code", [0, 75, 4])
def test_slurm_asks_for_another_turn_after_a_preemption_only(folder, tmp_path, code):
  """The script under bash, with the supervisor, and stand-ins for Slurm and for training."""
  text = (folder / "slurm" / "train.sbatch").read_text()
  given = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.M))
  assert given["requeue"] == ""
  seconds = re.fullmatch(r"TERM@(\d+)", given["signal"])
  grace = re.search(r"--grace=(\d+)", text)
  assert seconds
  assert grace
  assert int(grace[1]) < int(seconds[1])

  python = sys.executable
  for name, body in {
    "srun": 'while [ "${1#--}" != "$1" ]; do echo "$1" >> srun.txt; shift; done; exec "$@"',
    "scontrol": 'echo "$@" >> scontrol.txt',
    "python3": f'[ "$2" = vidjax.cli ] && exit {code}; exec {python} "$@"',
  }.items():
    (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
    (tmp_path / name).chmod(0o755)
  path = f"{tmp_path}:{os.environ['PATH']}"
  done = subprocess.run(
    ["bash", str(folder / "slurm" / "train.sbatch"), "run", "--config=x.py"],
    cwd=tmp_path,
    env=os.environ | {"PATH": path, "SLURM_JOB_ID": "17", "PYTHONPATH": str(folder.parent)},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == code, done.stderr
  assert (tmp_path / "srun.txt").read_text().split() == ["--kill-on-bad-exit=0", "--wait=180"]
  asked = tmp_path / "scontrol.txt"
  assert (asked.read_text() if asked.exists() else "") == ("requeue 17\n" if code == 75 else "")
  assert (tmp_path / "run" / "supervisor.jsonl").exists()


def test_local(folder, tmp_path):
  """Up to the command's own refusal, which is passed on as it is."""
  done = subprocess.run(
    [str(folder / "local.sh"), str(tmp_path / "run"), "--config=nowhere.py"],
    env=os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(folder.parent)},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 2, done.stderr
  assert "nowhere.py" in done.stderr
  assert "ending with code 2" in done.stderr
  assert (
    "WORKDIR" in subprocess.run([str(folder / "local.sh")], capture_output=True, text=True).stderr
  )
