"""Runs `vidjax curate` as a process and reads what it wrote."""

import json
import os
import pathlib
import subprocess
import sys

from array_record.python import array_record_module
from pyarrow import parquet

from vidjax.data import schema

FLAGS = ["--config.select.min_seconds=1.0", "--config.encode.short_side=48"]


def start(repo_root, *flags, cwd=None, python_path=(), env=None):
  command = [sys.executable, "-m", "vidjax.cli", "curate", *flags]
  paths = os.pathsep.join(map(str, [repo_root, *python_path]))
  env = {**os.environ, "PYTHONPATH": paths, **(env or {})}
  return subprocess.Popen(
    command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )


def run(repo_root, *flags, **how):
  process = start(repo_root, *flags, **how)
  text, _ = process.communicate(timeout=300)
  return process.returncode, text


def rows(out):
  return parquet.read_table(out / "clips.parquet").to_pylist()


def payloads(out):
  found = {}
  for split in schema.SPLITS:
    for path in schema.shard_files(out, split):
      found[path.name] = array_record_module.ArrayRecordReader(str(path)).read_all()
  return found


def names(out):
  return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


def assert_same_result(a: pathlib.Path, b: pathlib.Path, *, same_videos: bool = True):
  """Two results consist of the same files with the same bytes.

  Left out is what tells how long the work took: the report, and `cpu_s` in what stages remember.
  `same_videos` says that both were made of the very same files, dates included.
  """
  assert names(a) == names(b)
  for name in names(a):
    one, other = ((out / name).read_bytes() for out in (a, b))
    if name.startswith(".cache/"):
      one, other = (_without(json.loads(content), "cpu_s") for content in (one, other))
    elif name == ".curated.json" and not same_videos:
      one, other = (_without(json.loads(content), "key") for content in (one, other))
    assert name == "report.html" or one == other, name


def _without(values: dict, key: str) -> dict:
  assert key in values
  return {k: v for k, v in values.items() if k != key}
