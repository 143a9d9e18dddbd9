"""SVD's cheap recipe for studies of data and stages (2311.15127, E.2.1 to E.2.3).

Stable Diffusion's own noise schedule and v-prediction, short clips, small frames: what the paper
trained to choose thresholds of curation and to compare ways to pretrain.

Command:   vidjax train --config=configs/svd/ablation.py:paper --workdir=gs://BUCKET/svd/motion_25 \
             --config.data.path=gs://BUCKET/shards --config.init_from=sd21/unet \
             --config.encoders.vae=sd21/vae --config.encoders.text=sd21/text_encoder
Hardware:  v5p:4x4x4 (64 chips) at batch 256. Expected hours and metric: not measured yet.
Variants:  highres  the finetuning of E.2.3: 512x512, 50k steps, from a run of the bare config.
           paper  nothing of ours: 8 frames, 256x256, 40k steps, batch 256, lr 1e-4.
           v5e, v5p, v6e  after the phase: how much of a batch such a chip takes at once, and what
                  it stores.
           tiny   the same recipe on two CPU cores: 32x32, a small UNet.
Sampling:  --sampler=ddim --steps=50 --min_guidance=12 --max_guidance=12, as there.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
  """The recipe of the ablations; see the header for variants."""
  batch_size = 256
  config = ConfigDict(
    {
      "seed": 0,
      "batch_size": batch_size,
      "total_samples": 40_000 * batch_size,
      "log_every_steps": 50,
      "sample_every_steps": 0,
      "checkpoint": {"every_steps": 1000, "keep": 3},
      "init_from": "",
      "data": {"num_frames": 16, "fps": 4.0, "height": 256, "width": 256, "num_workers": 16},
      "encoders": {"vae": "", "text": "", "dtype": "bfloat16"},
      "model": {"preset": "svd_t2v", "overrides": {"remat": ("block",)}},
      "conditioning": {"mode": "text_to_video", "dropout": 0.1},
      "diffusion": {
        "prediction": "v",
        "levels": "discrete",
        "betas": {"kind": "scaled_linear", "start": 0.00085, "end": 0.012},
        "offset_noise": 0.1,  # ours: the paper names offset noise without a strength
      },
      "optimizer": {
        "learning_rate": 1e-4,
        "warmup_samples": 1000 * batch_size,  # ours, as in all stages
        "ema_decays": (0.9999,),
      },
      "mesh": {"replica": 1, "fsdp": -1},
    }
  )
  for name in filter(None, variant.split(",")):
    match name:
      case "highres":
        config.total_samples = 50_000 * batch_size
        config.data.update({"height": 512, "width": 512})
      case "paper":
        config.data.num_frames = 8
      case "v5e" | "v5p" | "v6e":  # 16, 95 and 32 GiB; :highres has four times the pixels
        large = config.data.height == 512
        config.rows_per_device = 1 if large else {"v5e": 1, "v5p": 4, "v6e": 2}[name]
        config.mesh.context = 2 if large and name == "v5e" else 1
        config.model.overrides.remat = ("matmuls",)
      case "tiny":
        config.batch_size, config.total_samples = 2, 2 * 60
        config.log_every_steps = 5
        config.checkpoint.every_steps = 30
        config.data.update({"num_frames": 8, "height": 32, "width": 32, "num_workers": 0})
        config.encoders.update({"text": "random:tiny", "dtype": "float32"})
        config.model.update({"preset": "tiny", "dtype": "float32"})
        config.model.overrides.remat = ("none",)
        config.model.overrides.update({"in_channels": 8})
        config.optimizer.update({"learning_rate": 1e-3, "warmup_samples": 20})
        config.optimizer.ema_decays = (0.98,)
      case _:
        raise ValueError(
          f"unknown variant {name!r}: choose from highres, paper, v5e, v5p, v6e, tiny"
        )
  return config
