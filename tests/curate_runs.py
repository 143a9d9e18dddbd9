"""Runs `vidjax curate` as a process and reads what it wrote."""

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


def assert_same_result(a: pathlib.Path, b: pathlib.Path):
  assert names(a) == names(b)
  assert rows(a) == rows(b)
  assert payloads(a) == payloads(b)
  tables = [parquet.read_table(out / "rejects.parquet").to_pylist() for out in (a, b)]
  assert tables[0] == tables[1]
