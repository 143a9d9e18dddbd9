"""SVD stage III, image to video, at both resolutions (2311.15127, D.4): SVD and SVD-XT.

The first frame enters as CLIP embedding and as noise-augmented latent on every frame.

Command:   vidjax train --config=configs/svd/image_to_video.py --workdir=gs://BUCKET/svd/i2v \
             --config.data.path=gs://BUCKET/shards_576 --config.init_from=gs://BUCKET/svd/base \
             --config.encoders.vae=sd21/vae --config.encoders.image=openclip_vit_h
Hardware:  v5p:4x8x8 (256 chips) at batch 768. Expected hours and metric: not measured yet.
Phases:    the bare config from video_lowres:base, then :highres from it, which is SVD, and
           :highres,xt, which is SVD-XT; both on the high-quality set.
Variants:  highres  576x1024, more noise (P_mean 1.0).
           xt     25 frames (SVD-XT).
           paper  nothing of ours: 14 frames, 320x576, 50k steps, batch 768, lr 3e-5,
                  P_mean 0.7, P_std 1.6.
           v5e, v5p, v6e  after the phase: how much of a batch such a chip takes at once, and what
                  it stores.
           tiny   the same stage on two CPU cores: 32x48, after highres 64x96, a small UNet.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
  """Stage III, image to video; see the header for variants."""
  batch_size = 768
  config = ConfigDict(
    {
      "seed": 0,
      "batch_size": batch_size,
      "total_samples": 50_000 * batch_size,
      "log_every_steps": 50,
      "sample_every_steps": 0,
      "checkpoint": {"every_steps": 1000, "keep": 3},
      "init_from": "",
      # 16 frames at 4 fps are ours; the paper has 14, at rates that it tells the model and us not.
      "data": {"num_frames": 16, "fps": 4.0, "height": 320, "width": 576, "num_workers": 16},
      "encoders": {"vae": "", "image": "", "dtype": "bfloat16"},
      "model": {"preset": "svd", "overrides": {"remat": ("block",)}},
      "conditioning": {
        "mode": "image_to_video",
        "dropout": 0.15,  # not given in the paper for this model; the text model's
        "noise_aug_mean": -3.0,
        "noise_aug_std": 0.5,
      },
      "diffusion": {"p_mean": 0.7, "p_std": 1.6},
      "optimizer": {
        "learning_rate": 3e-5,
        # Ours, as the paper gives none: warm-up, since trained weights meet an optimizer that knows
        # nothing of them; and, usual for AdamW, the defaults' weight decay of 0.01 and gradients
        # clipped to a norm of 1. The average is the paper's.
        "warmup_samples": 1000 * batch_size,
        "ema_decays": (0.9999,),
      },
      "mesh": {"replica": 1, "fsdp": -1},
    }
  )
  for name in filter(None, variant.split(",")):
    match name:
      case "highres":
        config.data.update({"height": 576, "width": 1024})
        config.diffusion.p_mean = 1.0
      case "xt":
        config.data.num_frames = 25
      case "paper":
        config.data.num_frames = 14
      case "v5e" | "v5p" | "v6e":  # 16, 95 and 32 GiB: where a clip is too much, chips share it
        large, long = config.data.height == 576, config.data.num_frames == 25
        rows = {"v5e": 1, "v5p": 6, "v6e": 2}[name]
        config.rows_per_device = 1 if long else max(1, rows // 3) if large else rows
        config.mesh.context = {"v5e": 4, "v5p": 1, "v6e": 2}[name] if large else 1
        config.model.overrides.remat = ("matmuls",)
        if long and name == "v6e":  # two chips cannot share 25 frames: one takes all, stores less
          config.mesh.context, config.model.overrides.remat = 1, ("attention",)
      case "tiny":
        large = config.data.height == 576
        config.batch_size = 2 if large else 4
        config.total_samples = config.batch_size * (400 if large else 120)
        config.log_every_steps = 5
        config.checkpoint.every_steps = 100 if large else 40
        config.data.update({"height": 64, "width": 96} if large else {"height": 32, "width": 48})
        config.data.num_workers = 0
        config.encoders.update({"image": "random:tiny", "dtype": "float32"})
        config.model.update({"preset": "tiny", "dtype": "float32"})
        config.model.overrides.remat = ("none",)
        config.optimizer.update({"learning_rate": 1e-3, "warmup_samples": 20})
        config.optimizer.ema_decays = (0.98,)
      case _:
        raise ValueError(
          f"unknown variant {name!r}: choose from highres, xt, paper, v5e, v5p, v6e, tiny"
        )
  return config
