"""SVD stage II: video pretraining at low resolution on the curated set (2311.15127, D.2).

Temporal layers enter as identity on top of stage I; all layers train.

Command:   vidjax train --config=configs/svd/video_lowres.py --workdir=gs://BUCKET/svd/lowres \
             --config.data.path=gs://BUCKET/shards --config.init_from=gs://BUCKET/svd/image \
             --config.encoders.vae=sd21/vae --config.encoders.text=sd21/text_encoder
Hardware:  v5p:8x8x8 (512 chips) at batch 1536. Expected hours and metric: not measured yet.
Phases:    the bare config (II-a), then :base from it (II-b), the paper's base model.
Variants:  base   320x576, 100k steps, batch 768, more noise (P_mean 0), as larger frames need.
           paper  nothing of ours: 14 frames; 256x384, 150k steps, batch 1536, lr 1e-4.
           v5e, v5p, v6e  after the phase: how much of a batch such a chip takes at once, and what
                  it stores.
           tiny   the same stage on two CPU cores: 32x48, a small UNet.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
  """Stage II; see the header for variants."""
  batch_size = 1536
  config = ConfigDict(
    {
      "seed": 0,
      "batch_size": batch_size,
      "total_samples": 150_000 * batch_size,
      "log_every_steps": 50,
      "sample_every_steps": 0,
      "checkpoint": {"every_steps": 1000, "keep": 3},
      "init_from": "",
      # 16 frames at 4 fps are ours; the paper has 14, at rates that it tells the model and us not.
      "data": {"num_frames": 16, "fps": 4.0, "height": 256, "width": 384, "num_workers": 16},
      "encoders": {"vae": "", "text": "", "dtype": "bfloat16"},
      "model": {"preset": "svd_t2v", "overrides": {"remat": ("block",)}},
      "conditioning": {"mode": "text_to_video", "dropout": 0.15},
      "diffusion": {"p_mean": -1.2, "p_std": 1.0},
      "optimizer": {
        "learning_rate": 1e-4,
        # Ours, as the paper gives none: warm-up, since trained weights meet new layers and an
        # optimizer that knows nothing of them; the average, that of stage III; and, usual for
        # AdamW, the defaults' weight decay of 0.01 and gradients clipped to a norm of 1.
        "warmup_samples": 1000 * batch_size,
        "ema_decays": (0.9999,),
      },
      "mesh": {"replica": 1, "fsdp": -1},
    }
  )
  for name in filter(None, variant.split(",")):
    match name:
      case "base":
        batch_size = config.batch_size = 768
        config.total_samples = 100_000 * batch_size
        config.data.update({"height": 320, "width": 576})
        config.diffusion.p_mean = 0.0
        config.optimizer.warmup_samples = 1000 * batch_size
      case "paper":
        config.data.num_frames = 14
      case "v5e" | "v5p" | "v6e":  # 16, 95 and 32 GiB; :base has twice the pixels
        rows = {"v5e": 2, "v5p": 12, "v6e": 4}[name]
        config.rows_per_device = rows // 2 if config.data.height == 320 else rows
        config.model.overrides.remat = ("matmuls",)
      case "tiny":
        config.batch_size, config.total_samples = 2, 2 * 120
        config.log_every_steps = 5
        config.checkpoint.every_steps = 60
        config.data.update({"height": 32, "width": 48, "num_workers": 0})
        config.encoders.update({"text": "random:tiny", "dtype": "float32"})
        config.model.update({"preset": "tiny", "dtype": "float32"})
        config.model.overrides.remat = ("none",)
        config.model.overrides.update({"in_channels": 8})
        config.optimizer.update({"learning_rate": 1e-3, "warmup_samples": 40})
        config.optimizer.ema_decays = (0.98,)
      case _:
        raise ValueError(f"unknown variant {name!r}: choose from base, paper, v5e, v5p, v6e, tiny")
  return config
