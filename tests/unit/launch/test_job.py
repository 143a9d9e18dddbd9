"""Descriptions of runs: what is read, and what is said about what is wrong."""

import pytest

from launch import job as jobs
from launch import preflight
from tests.unit.launch.descriptions import GPU, TPU, written
from vidjax.errors import UserError


def test_what_is_read(tmp_path):
  job = jobs.load(written(tmp_path, TPU), ["mesh.fsdp=16", "batch_size=32"])
  assert (job.name, job.hosts, job.devices) == ("run", 4, 16)
  # Dotted keys of TOML are tables; those of the command line come last and win.
  assert jobs.override_words(job) == [
    "batch_size=32",
    "data.kind=procedural",
    "encoders.vae=random:tiny",
    "mesh.fsdp=16",
  ]
  job = jobs.load(written(tmp_path, GPU, ("gpus", 'init_from = "/shared/image"\ngpus')))
  assert (job.hosts, job.devices) == (2, 16)
  assert jobs.override_words(job)[-1] == "init_from=/shared/image"


def test_values_are_written_as_flags_have_them(tmp_path):
  more = (
    '[overrides]\nmodel.overrides.remat = ["block"]\ndata.flip = true\noptimizer.clip_norm = 0.5'
  )
  words = jobs.override_words(jobs.load(written(tmp_path, TPU, ("[overrides]", more))))
  assert {"model.overrides.remat=('block',)", "data.flip=True", "optimizer.clip_norm=0.5"} <= {
    *words
  }
  assert jobs.override_words(jobs.Job(init_from=jobs.FRESH)) == []


@pytest.mark.parametrize(
  ("old", "new", "said"),
  [
    ('name = "run"', 'name = "Run_1"', "key 'name': 'Run_1' has to be lower-case letters"),
    ('name = "run"', f'name = "{"a" * 41}"', "40 at most"),
    ('name = "run"', "", "key 'name' is missing"),
    ('image = "', 'imag = "', "unknown key 'imag': did you mean 'image'?"),
    ("[xpk]\ncluster", "[xpk]\nclustr", "unknown key 'xpk.clustr': did you mean 'cluster'?"),
    ("[xpk]", "[gke]\nspot = 1\n[xpk]", "key 'gke.spot' must be bool, got 1"),
    ("v5p:2x2x4", "v5q:2x2x4", "key 'topology': topology 'v5q:2x2x4': unknown generation"),
    ("v5p:2x2x4", "v5p:2x4x2", "rented as 2x2x1"),
    ("topology", 'gpus = "h100:1x8"\ntopology', "keys 'topology' and 'gpus': set one of them"),
    ("[overrides]", "slices = 0\n[overrides]", "there is at least one"),
    ("[overrides]", "grace = 5\n[overrides]", "key 'grace': 5 seconds are too few"),
    ("[overrides]", "overrides = 3\n[env]", "key 'overrides': a table is wanted"),
    ("[overrides]", 'init_from = "a"\n[overrides]\ninit_from = "b"', "key 'init_from' stands at"),
    ("[overrides]", '[env]\n"A-B" = "x"\n[overrides]', "key 'env.A-B'"),
    ("[overrides]", '[env]\nA = "x\\ny"\n[overrides]', "key 'env.A': one line is wanted"),
    ("[overrides]", '[env]\nWANDB_API_KEY = "0123456789abcdef"\n[overrides]', "a secret"),
    ('project = "p"\nzone = "z"\n\n[tpu', 'project = "p q"\n[tpu', "key 'xpk.project': 'p q'"),
    ("[overrides]", "[overrides", "is not TOML"),
  ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, said):
  path = written(tmp_path, TPU, (old, new))
  with pytest.raises(UserError) as error:
    jobs.load(path)
  assert str(error.value).startswith(path)
  assert said in str(error.value)


def test_slices_are_of_a_topology(tmp_path):
  path = written(tmp_path, GPU, ("gpus", "slices = 2\ngpus"))
  with pytest.raises(UserError, match="'slices': 2 of what"):
    jobs.load(path)
  with pytest.raises(UserError, match=r"'gpus': gpus 'h10:2x8': unknown GPU 'h10' .nearest: h100"):
    jobs.load(written(tmp_path, GPU, ("h100", "h10")))
  with pytest.raises(UserError, match="write KIND:NODESxGPUS, as h100:8x8"):
    jobs.load(written(tmp_path, GPU, ("h100:2x8", "h100")))
  with pytest.raises(UserError, match=r"write --config\.mesh=VALUE"):
    jobs.load(written(tmp_path, GPU), ["mesh"])


def test_the_descriptions_that_come_along_are_right(repo_root):
  paths = sorted((repo_root / "launch" / "jobs").glob("*.toml"))
  assert len(paths) >= 4
  assert len({jobs.load(str(path)).name for path in paths}) == len(paths)


def test_the_description_of_the_guide_is_let_pass(tmp_path, repo_root):
  text = (repo_root / "launch" / "README.md").read_text()
  path = tmp_path / "job.toml"
  path.write_text(text.partition("```toml\n")[2].partition("```")[0])
  job = jobs.load(str(path))
  report = preflight.check(job, "gke", preflight.load_config(job), preflight.NO_PLAN)
  assert report.refused == []
