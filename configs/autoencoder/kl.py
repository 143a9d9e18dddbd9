"""An AutoencoderKL of one's own: the f8 autoencoder of latent diffusion (2112.10752, App. G).

Needed only where no pretrained autoencoder may be used; SVD itself keeps that of SD 2.1. The loss
is L1 + KL: without the adversarial and perceptual terms, fine texture stays soft.

Command:   vidjax train --config=configs/autoencoder/kl.py --workdir=gs://BUCKET/autoencoder \
             --config.data.path=gs://BUCKET/shards
           then `vidjax export --model=... --out=DIR`, which is what `encoders.vae` takes.
Hardware:  v5p:2x4x4 (32 chips) at batch 192. Expected hours and metric: not measured yet.
Variants:  tiny   an f8 autoencoder with eight channels, two CPU cores, 64x96.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
  """The autoencoder stage; see the header for variants."""
  batch_size = 192
  config = ConfigDict(
    {
      "task": "autoencoder",
      "seed": 0,
      "batch_size": batch_size,
      "total_samples": 250_000 * batch_size,
      "log_every_steps": 50,
      "checkpoint": {"every_steps": 1000, "keep": 3},
      "data": {"num_frames": 1, "fps": 4.0, "height": 256, "width": 384, "num_workers": 8},
      "autoencoder": {"preset": "kl_f8", "kl_weight": 1e-6},
      "optimizer": {"learning_rate": 1e-4, "weight_decay": 0.0, "ema_decays": (0.999,)},
      "mesh": {"replica": 1, "fsdp": -1},
    }
  )
  for name in filter(None, variant.split(",")):
    match name:
      case "tiny":
        config.batch_size, config.total_samples = 4, 4 * 450
        config.log_every_steps = 10
        config.checkpoint.every_steps = 100
        config.data.update({"height": 64, "width": 96, "num_workers": 0})
        config.autoencoder.preset = "tiny"
        config.optimizer.update({"learning_rate": 2e-3, "warmup_samples": 40})
        config.optimizer.ema_decays = (0.98,)
      case _:
        raise ValueError(f"unknown variant {name!r}: choose from tiny")
  return config
