import pathlib

import pytest

from vidjax import config as configs
from vidjax import denoising
from vidjax.conditioning.modes import MODES
from vidjax.optim import freezing

CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "configs").glob("*/*.py"))
TRAINING = [p for p in CONFIGS if p.parent.name in ("svd", "autoencoder")]
PATH = "data.path=shards"


def write(tmp_path: pathlib.Path, body: str) -> str:
  path = tmp_path / "c.py"
  path.write_text(
    "from ml_collections import ConfigDict\n"
    f"def get_config(variant=''):\n  return ConfigDict({body})\n"
  )
  return str(path)


@pytest.mark.parametrize("path", TRAINING, ids=lambda p: f"{p.parent.name}/{p.stem}")
@pytest.mark.parametrize("variant", ["", "tiny"])
def test_every_shipped_config_loads(path, variant):
  config = configs.load(f"{path}:{variant}", [PATH])
  assert config.total_steps > 0
  assert configs.from_dict(configs.TrainConfig, configs.to_dict(config)) == config


@pytest.mark.parametrize("path", TRAINING, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_unknown_variant_is_named(path):
  with pytest.raises(ValueError, match=r"'tinny'.*tiny"):
    configs.load(f"{path}:tinny", [PATH])


def test_variants_apply_left_to_right():
  path = next(p for p in TRAINING if p.stem == "image_to_video")
  assert configs.load(f"{path}:paper", [PATH]).data.num_frames == 14
  assert configs.load(f"{path}:paper,xt", [PATH]).data.num_frames == 25
  assert configs.load(f"{path}", [PATH]).data.num_frames == 16


# SVD App. D.2-D.6, E.2: frames, steps, batch, learning rate, noise distribution, size.
PAPER = {
  "ablation": (8, 40_000, 256, 1e-4, None, 256, 256),
  "ablation:highres": (8, 50_000, 256, 1e-4, None, 512, 512),
  "image:time_embedding": (1, 1000, None, None, (-1.2, 1.0), 512, 512),
  "image": (1, 30_000, None, None, (-1.2, 1.0), 256, 384),
  "video_lowres": (14, 150_000, 1536, 1e-4, (-1.2, 1.0), 256, 384),
  "video_lowres:base": (14, 100_000, 768, 1e-4, (0.0, 1.0), 320, 576),
  "image_to_video": (14, 50_000, 768, 3e-5, (0.7, 1.6), 320, 576),
  "image_to_video:highres": (14, 50_000, 768, 3e-5, (1.0, 1.6), 576, 1024),
  "image_to_video:highres,xt": (25, 50_000, 768, 3e-5, (1.0, 1.6), 576, 1024),
  "interpolation": (5, 10_000, 256, 1e-4, (1.0, 1.2), 576, 1024),
  "multi_view": (21, 12_000, 16, 1e-5, (1.0, 1.6), 576, 576),
  "video_highres": (14, 50_000, 768, 3e-5, (0.5, 1.4), 576, 1024),
}


@pytest.mark.parametrize("stage", PAPER)
def test_paper_figures_of_the_stages(stage):
  """None where the paper gives no number, or the schedule is another one."""
  name, _, phase = stage.partition(":")
  variants = ",".join(filter(None, ("paper", phase)))
  c = configs.load(f"configs/svd/{name}.py:{variants}", [PATH])
  levels = (c.diffusion.p_mean, c.diffusion.p_std) if c.diffusion.levels == "log_normal" else None
  found = (c.data.num_frames, c.total_steps, c.batch_size, c.optimizer.learning_rate)
  found += (levels, c.data.height, c.data.width)
  for mine, theirs in zip(found, PAPER[stage], strict=True):
    assert theirs is None or mine == theirs, (found, PAPER[stage])


def test_every_stage_of_the_paper_has_its_figures():
  stems = {path.stem for path in TRAINING if path.parent.name == "svd"}
  assert {stage.partition(":")[0] for stage in PAPER} == stems


@pytest.mark.parametrize("variants", ["time_embedding", "time_embedding,tiny"])
def test_the_first_phase_trains_the_time_embedding_alone(variants):
  c = configs.load(f"configs/svd/image.py:{variants}", [PATH, "encoders.vae=random:tiny"])
  names = denoising.make_unet(c).abstract
  trained = freezing.trained_names(c.optimizer, names)
  assert trained == {name for name in names if name.startswith("time_embedding.")}
  assert len(trained) == 4


@pytest.mark.parametrize(("mode", "frames"), [("interpolation", 5), ("multi_view", 21)])
def test_modes_of_a_fixed_length_have_it_by_default(mode, frames):
  path = next(p for p in TRAINING if p.stem == mode)
  for variant in ("", "paper", "tiny"):
    config = configs.load(f"{path}:{variant}", [PATH, "encoders.vae=random:tiny"])
    assert (config.conditioning.mode, config.data.num_frames) == (mode, frames)
    shape = denoising.unet_config(config)
    assert shape.in_channels == MODES[mode].in_channels(shape.out_channels)
    assert shape.vector_size == MODES[mode].vector_size
    latents = (config.data.height // 8, config.data.width // 8)
    assert shape.mask_embedding == (latents if MODES[mode].mask else ())


@pytest.mark.parametrize(
  ("body", "message"),
  [
    ("{'total_sample': 4}", "unknown config key 'total_sample': did you mean 'total_samples'"),
    ("{'data': {'pth': 'x'}}", "unknown config key 'data.pth': did you mean 'path'"),
    ("{'total_samples': 'many'}", "'total_samples' must be int, got 'many'"),
    ("{'data': {'flip': 1}}", "'data.flip' must be bool, got 1"),
    ("{'data': 'x'}", "'data' has keys below it"),
    ("{'total_samples': 0}", "'total_samples' must be positive"),
    ("{'total_samples': 4, 'rows_per_device': -1}", "'rows_per_device' must not be negative"),
    ("{'total_samples': 4, 'data': {'path': ''}}", "data.path is empty"),
    ("{'task': 'difusion'}", "'task' must be one of diffusion, autoencoder"),
  ],
)
def test_bad_files_are_named(tmp_path, body, message):
  with pytest.raises(ValueError, match=message):
    configs.load(write(tmp_path, body))


@pytest.mark.parametrize(
  ("override", "message"),
  [
    ("batch=3", "unknown config key 'batch': did you mean 'batch_size'"),
    ("data.pth=3", "unknown config key 'data.pth'"),
    ("seed.x=3", "seed has no keys below it"),
    ("batch_size=many", "'batch_size' must be int"),
    ("batch_size", "write --config.batch_size=VALUE"),
  ],
)
def test_bad_overrides_are_named(tmp_path, override, message):
  with pytest.raises(ValueError, match=message):
    configs.load(write(tmp_path, "{'total_samples': 4}"), [PATH, override])


def test_overrides_take_the_type_of_their_key(tmp_path):
  config = configs.load(
    write(tmp_path, "{'total_samples': 4}"),
    [
      "data.path=5",
      "optimizer.learning_rate=1",
      "data.flip=true",
      "model.overrides.temporal='none'",
      "model.overrides.remat=none",
      "optimizer.train_only=['time_embedding.*']",
      "data.scores=camera_azimuth, camera_elevation",
    ],
  )
  assert config.data.path == "5"
  assert config.optimizer.learning_rate == 1.0
  assert config.data.flip is True
  assert config.model.overrides == {"temporal": "none", "remat": "none"}
  assert config.optimizer.train_only == ("time_embedding.*",)
  assert config.data.scores == ("camera_azimuth", "camera_elevation")


def test_remat_is_a_name_for_all_levels_or_one_for_each():
  path = next(p for p in TRAINING if p.stem == "video_highres")

  def remat(*overrides):
    return denoising.unet_config(configs.load(str(path), [PATH, *overrides])).remat

  assert remat() == ("block",)
  assert remat("model.overrides.remat=none") == ("none",)
  each = ("offload", "block", "attention", "none")
  assert remat(f"model.overrides.remat={','.join(each)}") == each
  assert remat(f"model.overrides.remat={list(each)}") == each
  with pytest.raises(ValueError, match=r"model.remat='blok' \(level 1\).*did you mean 'block'"):
    remat("model.overrides.remat=none,blok,none,none")
  with pytest.raises(ValueError, match="one entry for each of the 4 levels"):
    remat("model.overrides.remat=none,block")
  with pytest.raises(ValueError, match=r"'model.overrides.remat' must be tuple, got True"):
    remat("model.overrides.remat=true")


def test_missing_file_is_named():
  with pytest.raises(ValueError, match=r"'nowhere\.py' does not exist"):
    configs.load("nowhere.py")


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (["every_steps=0"], "'checkpoint.every_steps' must be positive"),
    (["milestone_every_steps=-1"], "'checkpoint.milestone_every_steps' must not be negative"),
    (["every_steps=10", "milestone_every_steps=25"], "=25 must be a multiple of .*every_steps=10"),
    (["local_every_steps=5"], "local_folder and checkpoint.local_every_steps go together"),
    (["local_folder=x"], "local_folder and checkpoint.local_every_steps go together"),
    (["local_folder=gs://b/x", "local_every_steps=5"], "'gs://b/x' is no folder of this machine"),
  ],
)
def test_checkpoint_keys_that_do_not_go_together_are_refused(overrides, message):
  flags = [f"checkpoint.{override}" for override in overrides]
  with pytest.raises(ValueError, match=message):
    configs.load(f"{TRAINING[0]}:tiny", [PATH, *flags])
