"""Runs that start from each other: what each is, which is next, and what is said of a bad file."""

import os
import pathlib

import pytest

from launch import chain, preflight, start
from tests.unit.launch.test_rendered_scripts import recorded, recorder
from vidjax.errors import UserError

CHAIN = """
name = "svd"
workdir = "gs://bucket/svd/"
topology = "v5p:2x2x4"
image = "us-docker.pkg.dev/p/r/vidjax:1.0"

[overrides]
batch_size = 16
total_samples = 32
data.kind = "procedural"
encoders.vae = "random:tiny"

[[stages]]
name = "image"
config = "configs/svd/image.py:tiny"
init_from = "gs://bucket/sd21/unet"

[[stages]]
name = "low_res"
config = "configs/svd/video_lowres.py:tiny"
init_from = "image"
topology = "v5p:2x2x1"
overrides.data.num_frames = 8
"""
SHIPPED = sorted(pathlib.Path("launch/chains").glob("*.toml"))


def written(folder: pathlib.Path, *changes: tuple[str, str]) -> str:
  text = CHAIN.replace("gs://bucket/svd/", f"{folder}/svd/")
  for old, new in changes:
    assert old in text, old
    text = text.replace(old, new)
  path = folder / "chain.toml"
  path.write_text(text)
  return str(path)


def finish(stage: chain.Stage, step: int) -> None:
  """What a run leaves behind that has saved a step to its end."""
  folder = pathlib.Path(stage.job.workdir) / "checkpoints" / str(step)
  folder.mkdir(parents=True)
  (folder / "commit_success.txt").touch()


def test_a_stage_is_what_the_chain_says_and_over_it_its_own(tmp_path):
  image, low_res = chain.load(written(tmp_path), ["seed=3"])
  assert (image.name, image.job.name, low_res.job.name) == ("image", "svd-image", "svd-low-res")
  assert image.job.workdir == f"{tmp_path}/svd/image"
  assert image.job.init_from == "gs://bucket/sd21/unet"
  assert low_res.job.init_from == image.job.workdir
  assert (image.job.topology, low_res.job.topology) == ("v5p:2x2x4", "v5p:2x2x1")
  assert low_res.job.compile_cache == image.job.compile_cache == f"{tmp_path}/svd/compile_cache"
  common = {"batch_size": 16, "total_samples": 32, "data.kind": "procedural", "seed": "3"}
  common |= {"encoders.vae": "random:tiny"}
  assert image.job.overrides == common
  assert low_res.job.overrides == common | {"data.num_frames": 8}


def test_the_first_stage_that_is_not_done_is_started(tmp_path, monkeypatch, capsys):
  recorder(tmp_path, "kubectl")
  monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
  path = written(tmp_path)
  stages = chain.load(path)
  arguments = [path, "--on=gke", f"--out={tmp_path}/out", "--preflight=no_plan"]
  monkeypatch.setattr(preflight, "check", lambda *_: preflight.Report(()))

  def started() -> str:
    assert chain.main(arguments) == 0
    (words,) = recorded(tmp_path, "kubectl")[-1:]
    return " ".join(words)

  assert f"{tmp_path}/out/image/" in started()
  finish(stages[0], 1)  # of two steps: begun, not done
  assert f"{tmp_path}/out/image/" in started()
  assert "[1/2] image: 1 of 2 steps" in capsys.readouterr().out
  finish(stages[0], 2)
  assert f"{tmp_path}/out/low_res/" in started()
  count = len(recorded(tmp_path, "kubectl"))
  finish(stages[1], 2)
  assert chain.main(arguments) == 0
  assert len(recorded(tmp_path, "kubectl")) == count
  assert "[2/2] low_res: 2 of 2 steps" in capsys.readouterr().out


def test_here_stages_run_one_after_the_other_until_one_fails(tmp_path, monkeypatch, capsys):
  stages = chain.load(written(tmp_path))
  ran = []

  def prepare(job, place, **_):
    ran.append((job.name, place))
    code = 6 if job.name == "svd-low-res" else 0
    return start.places.Launch({}, (("sh", "-c", f"exit {code}"),), (), (), "", replaces=True)

  monkeypatch.setattr(start, "prepare", prepare)
  assert chain.run(stages, "local", how=preflight.FULL) == 6
  assert ran == [("svd-image", "local"), ("svd-low-res", "local")]
  assert "stage 'low_res' ended with exit code 6" in capsys.readouterr().out


def test_a_dry_run_shows_all_stages_and_starts_none(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(preflight, "check", lambda *_: preflight.Report(()))
  finish(chain.load(written(tmp_path))[0], 2)
  assert chain.main([written(tmp_path), "--on=gke", "--dry_run"]) == 0
  said = capsys.readouterr().out
  assert said.count("would run") == 2
  assert said.count("kind: JobSet") == 2


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (("[[stages]]", "[[stage]]"), r"chain.toml: \[\[stages\]\] are missing"),
    (('name = "low_res"', ""), "stage 2: key 'name' has to be one of its own, got ''"),
    (('name = "low_res"', 'name = "image"'), "stage 2: key 'name' .*, got 'image'"),
    (('name = "low_res"', 'name = "a/b"'), "stage 2: key 'name' .*, got 'a/b'"),
    (('topology = "v5p:2x2x1"', 'topologie = ""'), "stage 'low_res': .*did you mean 'topology'"),
    (("[overrides]", "[gke]\nname_space = 'x'\n[overrides]"), "stage 'image': .*'namespace'"),
    (('name = "svd"', ""), "stage 'image': key 'name': '-image' has to be lower-case"),
    (('name = "svd"', 'name = "svd'), "is not TOML"),
  ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
  with pytest.raises(UserError, match=message):
    chain.load(written(tmp_path, change))


def test_a_stage_that_the_preflight_refuses_is_named(tmp_path, capsys):
  path = written(tmp_path, ("batch_size = 16", "batch_size = 3"))
  assert chain.main([path, "--on=gke", "--preflight=no_plan"]) == 2
  assert "stage 'image': " in capsys.readouterr().err


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_chains_that_come_along_are_the_whole_of_svd(path):
  stages = chain.load(str(path), ["data.path=clips"])
  phases = {
    stage.name: (stage.job.config.rpartition(",")[0] or stage.job.config.rpartition(":")[0])
    for stage in stages
  }
  assert list(phases.values()) == [
    "configs/svd/image.py:time_embedding",
    "configs/svd/image.py",
    "configs/svd/video_lowres.py",
    "configs/svd/video_lowres.py:base",
    "configs/svd/video_highres.py",
    "configs/svd/image_to_video.py",
    "configs/svd/image_to_video.py:highres",
    "configs/svd/image_to_video.py:highres,xt",
  ]
  before: dict[str, str] = {}
  for stage in stages:
    config = preflight.load_config(stage.job)
    if before:  # all but the first start from one before
      assert stage.job.init_from in before.values()
    before[stage.name] = stage.job.workdir
    assert config.data.path
  starts = {s.name: pathlib.PurePosixPath(s.job.init_from).name for s in stages[1:]}
  assert starts == {
    "image": "time_embedding",
    "lowres": "image",
    "base": "lowres",
    "text_to_video": "base",
    "image_to_video": "base",
    "svd": "image_to_video",
    "svd_xt": "image_to_video",
  }


def unreachable(_):
  raise OSError("Name or service not known")


def test_a_workdir_that_is_not_reached_is_named(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(chain.Stage, "steps_done", unreachable)
  assert chain.main([written(tmp_path), "--on=gke"]) == 2
  assert "stage 'image': workdir" in capsys.readouterr().err


def test_the_documented_dry_run_shows_all_stages(monkeypatch, capsys):
  monkeypatch.setattr(chain.Stage, "steps_done", unreachable)
  command = ["launch/chains/svd.toml", "--on=gke", "--dry_run", "--preflight=no_plan"]
  assert chain.main(command) == 0
  said = capsys.readouterr().out
  assert [f"[{n}/8]" in said for n in range(1, 9)] == [True] * 8
  assert "? of 150000 steps" in said
  assert said.count("kind: JobSet") == 8
