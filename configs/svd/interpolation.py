"""SVD's frame interpolation: the frames between a first and a last one (2311.15127, D.5).

Both frames enter as CLIP embeddings and as noise-augmented latents in place; on the frames between,
a learned picture takes the place of latents, and a mask says which is which.

Command:   vidjax train --config=configs/svd/interpolation.py --workdir=gs://BUCKET/svd/between \
             --config.data.path=gs://BUCKET/shards_576 --config.init_from=gs://BUCKET/svd/base \
             --config.encoders.vae=sd21/vae --config.encoders.image=openclip_vit_h
Hardware:  v5p:4x4x4 (64 chips) at batch 256. Expected hours and metric: not measured yet.
Variants:  paper  5 frames (2 of them given), 576x1024, 10k steps, batch 256, lr 1e-4, P_mean 1.0,
                  P_std 1.2, EMA 0.9999: the default.
           tiny   the same on two CPU cores: 32x48, a small UNet; starts from stage II or III.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
  """Frame interpolation; see the header for variants."""
  batch_size = 256
  config = ConfigDict(
    {
      "seed": 0,
      "batch_size": batch_size,
      "total_samples": 10_000 * batch_size,
      "log_every_steps": 50,
      "sample_every_steps": 0,
      "checkpoint": {"every_steps": 1000, "keep": 3},
      "init_from": "",
      # The rate is ours: four times that of the other stages, as the model makes of their clips.
      "data": {"num_frames": 5, "fps": 16.0, "height": 576, "width": 1024, "num_workers": 16},
      "encoders": {"vae": "", "image": "", "dtype": "bfloat16"},
      "model": {"preset": "svd_interpolation", "overrides": {"remat": ("block",)}},
      "conditioning": {
        "mode": "interpolation",
        "dropout": 0.15,  # not given in the paper for this model; the text model's
        "noise_aug_mean": -3.0,  # nor are these; those of image-to-video
        "noise_aug_std": 0.5,
      },
      "diffusion": {"p_mean": 1.0, "p_std": 1.2},
      "optimizer": {
        "learning_rate": 1e-4,
        "warmup_samples": 1000 * batch_size,  # ours, as in the other stages
        "ema_decays": (0.9999,),
      },
      "mesh": {"replica": 1, "fsdp": -1},
    }
  )
  for name in filter(None, variant.split(",")):
    match name:
      case "paper":
        pass  # what differs from the paper in other stages, the window, does not here
      case "tiny":
        config.batch_size, config.total_samples = 4, 4 * 120
        config.log_every_steps = 5
        config.checkpoint.every_steps = 40
        config.data.update({"height": 32, "width": 48, "num_workers": 0})
        config.encoders.update({"image": "random:tiny", "dtype": "float32"})
        config.model.update({"preset": "tiny", "dtype": "float32"})
        config.model.overrides.update({"remat": ("none",), "in_channels": 17})
        config.optimizer.update({"learning_rate": 1e-3, "warmup_samples": 40})
        config.optimizer.ema_decays = (0.98,)
      case _:
        raise ValueError(f"unknown variant {name!r}: choose from paper, tiny")
  return config
