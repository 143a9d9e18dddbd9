"""The scripts that curate on clusters: whole commands, of flags that Beam knows."""

import json
import os
import re
import shlex
import subprocess

from apache_beam.options import pipeline_options
import pytest

from data_pipelines import beam_flags

NEEDED = {
  "dataflow": {
    "PROJECT": "p",
    "REGION": "us-central1",
    "IMAGE": "registry/vidjax",
    "TEMP": "gs://b/temp",
  },
  "flink": {"MASTER": "jobmanager:8081"},
  "spark": {"MASTER": "spark://host:7077"},
}
RUNNERS = {"dataflow": "DataflowRunner", "flink": "FlinkRunner", "spark": "SparkRunner"}


def script(repo_root, name, *arguments, **env):
  return subprocess.run(
    ["bash", str(repo_root / "launch" / "beam" / f"{name}.sh"), *arguments],
    env={"PATH": os.environ["PATH"], **env},
    capture_output=True,
    text=True,
    timeout=60,
  )


def rendered(repo_root, name, *arguments, **env):
  done = script(repo_root, name, *arguments, DRY_RUN="1", **NEEDED[name], **env)
  assert done.returncode == 0, done.stderr
  words = shlex.split(done.stdout)
  assert words[:4] == ["python3", "-m", "vidjax.cli", "curate"]
  return words[4:]


@pytest.mark.parametrize("name", NEEDED)
def test_a_command_of_known_flags(repo_root, name):
  words = rendered(
    repo_root, name, "gs://b/my videos", "gs://b/clips", "--config=a b.py", JAR="x.jar"
  )
  assert words[:2] == ["--videos=gs://b/my videos", "--out=gs://b/clips"]
  assert words[-1] == "--config=a b.py"
  ours = ("--videos", "--out", "--config")
  rest = [word for word in words if word.partition("=")[0] not in ours]
  beam_flags.check(rest, pipeline_options.PipelineOptions)
  options = pipeline_options.PipelineOptions(rest)
  assert options.view_as(pipeline_options.StandardOptions).runner == RUNNERS[name]
  unset = {k: v for k, v in options.get_all_options(drop_default=True).items() if v in (None, "")}
  assert unset == {}


def test_the_documented_commands_show_others(repo_root, monkeypatch):
  monkeypatch.syspath_prepend(str(repo_root / "tests" / "repo"))
  import documented_commands

  here = "tests/unit/launch/test_beam.py::test_the_documented_commands_show_others"
  commands = [c for c, where in documented_commands.RUN_BY.items() if where == here]
  assert len(commands) == len(NEEDED)
  for command, runner in zip(commands, RUNNERS.values(), strict=True):
    done = subprocess.run(
      ["bash", "-c", command], cwd=repo_root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout)
    assert f"--runner={runner}" in words
    assert {"--videos=gs://b/videos", "--out=gs://b/clips"} <= set(words)


@pytest.mark.parametrize("name", NEEDED)
def test_what_is_missing_is_said(repo_root, name):
  for variable in NEEDED[name]:
    env = {key: value for key, value in NEEDED[name].items() if key != variable}
    done = script(repo_root, name, "gs://b/videos", "gs://b/clips", DRY_RUN="1", **env)
    assert done.returncode != 0
    assert variable in done.stderr
    assert "usage:" in done.stderr
  assert "usage:" in script(repo_root, name, **NEEDED[name]).stderr


def test_without_a_dry_run_the_command_is_run(repo_root, tmp_path):
  python = tmp_path / "python"
  python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
  python.chmod(0o755)
  done = script(repo_root, "flink", "v", "o", PYTHON=str(python), **NEEDED["flink"])
  assert done.stdout.splitlines()[:4] == ["-m", "vidjax.cli", "curate", "--videos=v"]


def test_the_image_is_of_the_locked_beam(repo_root):
  image = (repo_root / "launch" / "beam" / "Dockerfile").read_text()
  lock = (repo_root / "requirements" / "base.lock").read_text()
  version = image.split("FROM apache/beam_python3.11_sdk:")[1].split()[0]
  assert f"apache-beam=={version} " in lock
  for line in image.splitlines():
    if line.startswith("COPY"):
      for source in line.split()[1:-1]:
        assert (repo_root / source).exists(), source


def versions(repo_root, lock):
  text = (repo_root / "requirements" / f"{lock}.lock").read_text()
  return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.M))


def test_workers_and_launchers_reach_buckets(repo_root):
  """The extra, its lock with hashes, and who installs it."""
  wanted = ["apache-beam[gcp]", "gcsfs", "s3fs"]
  lines = (repo_root / "requirements" / "beam.in").read_text().splitlines()
  assert [line for line in lines if not line.startswith("#")] == wanted
  assert f'"beam": {json.dumps(wanted)}' in (repo_root / "setup.py").read_text()
  lock = (repo_root / "requirements" / "beam.lock").read_text()
  assert lock.count("--hash=sha256:") > lock.count("==") > 100
  # What DataflowRunner imports where a job is started, and fsspec where it reads a bucket.
  needed = {"google-apitools", "google-cloud-storage", "google-cloud-dataflow-client"}
  assert {*needed, "gcsfs", "s3fs"} <= set(versions(repo_root, "beam"))
  image = (repo_root / "launch" / "beam" / "Dockerfile").read_text()
  runs = [line for line in image.splitlines() if line.startswith("RUN pip install")]
  assert [run.split("/vidjax/")[-1] for run in runs[:2]] == ["base.lock", "beam.lock"]
  assert all("--require-hashes" in run for run in runs[:2])
  for name in NEEDED:
    head = (repo_root / "launch" / "beam" / f"{name}.sh").read_text().partition("\nset -e")[0]
    assert "requirements/beam.lock" in head, name
  assert "requirements/beam.lock" in (repo_root / "docs" / "curation.md").read_text()


@pytest.mark.parametrize("other", ["base", "dev"])
def test_the_lock_agrees_with_the_others(repo_root, other):
  """They are installed on top of one another: none changes what another has."""
  ours, theirs = versions(repo_root, "beam"), versions(repo_root, other)
  shared = ours.keys() & theirs.keys()
  assert len(shared) > 10
  assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}
