"""SVD stage I: the image model, finetuned from SD 2.1 to the EDM noise schedule (2311.15127, D.2).

Command:   vidjax train --config=configs/svd/image.py --workdir=gs://BUCKET/svd/image \
             --config.data.path=gs://BUCKET/shards --config.init_from=sd21/unet \
             --config.encoders.vae=sd21/vae --config.encoders.text=sd21/text_encoder
Hardware:  v5p:4x4x4 (64 chips) at batch 1536. Expected hours and metric: not measured yet.
Phases:    :time_embedding first, from Stable Diffusion 2.1 (I-a): noise levels become continuous,
           and the time embedding alone learns to read them. Then the bare config from that (I-b).
Variants:  time_embedding  512x512, 1k steps, all but the time embedding frozen.
           paper  nothing of ours: 256x384, 30k steps; the batch size is not given in the paper.
           v5e, v5p, v6e  after the phase: how much of a batch such a chip takes at once.
           tiny   the same stage on two CPU cores: 32x48, a small UNet.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
  """Stage I; see the header for variants."""
  batch_size = 1536  # ours: the video stages' own, of which this is to be the start
  config = ConfigDict(
    {
      "seed": 0,
      "batch_size": batch_size,
      "total_samples": 30_000 * batch_size,
      "log_every_steps": 50,
      "sample_every_steps": 0,
      "checkpoint": {"every_steps": 1000, "keep": 3},
      "init_from": "",
      "data": {"num_frames": 1, "fps": 4.0, "height": 256, "width": 384, "num_workers": 8},
      "encoders": {"vae": "", "text": "", "dtype": "bfloat16"},
      "model": {"preset": "sd21", "overrides": {}},
      # The share without text is ours: that of stage II.
      "conditioning": {"mode": "text_to_image", "dropout": 0.15},
      "diffusion": {"p_mean": -1.2, "p_std": 1.0},
      "optimizer": {
        "learning_rate": 1e-4,  # ours: the video stages' own; the paper gives none here
        # Ours, too: warm-up, since trained weights meet an optimizer that knows nothing of them;
        # the average, that of stage III; and, usual for AdamW, the defaults' weight decay of 0.01
        # and gradients clipped to a norm of 1.
        "warmup_samples": 1000 * batch_size,
        "ema_decays": (0.9999,),
      },
      "mesh": {"replica": 1, "fsdp": -1},
    }
  )
  for name in filter(None, variant.split(",")):
    match name:
      case "time_embedding":
        config.total_samples = 1000 * batch_size
        config.data.update({"height": 512, "width": 512})
        config.optimizer.train_only = ("time_embedding.*",)
        config.optimizer.warmup_samples = 100 * batch_size  # ours: a tenth, as of all steps
        config.optimizer.ema_decays = (0.99,)  # ours: 0.9999 would remember the start at 1k steps
      case "paper":
        pass  # nothing of ours differs in this stage: single frames have no rate
      case "v5e" | "v5p" | "v6e":
        rows = {"v5e": 8, "v5p": 48, "v6e": 16}[name]
        config.rows_per_device = rows // 4 if config.data.height == 512 else rows
      case "tiny":
        config.batch_size, config.total_samples = 16, 16 * 80
        config.log_every_steps = 5
        config.checkpoint.every_steps = 50
        config.data.update({"height": 32, "width": 48, "num_workers": 0})
        config.encoders.update({"text": "random:tiny", "dtype": "float32"})
        config.model.update({"preset": "tiny", "dtype": "float32"})
        config.model.overrides.update({"in_channels": 8, "temporal": "none", "vector_size": 0})
        config.optimizer.update({"learning_rate": 1e-3, "warmup_samples": 160})
        config.optimizer.ema_decays = (0.98,)
      case _:
        raise ValueError(
          f"unknown variant {name!r}: choose from time_embedding, paper, v5e, v5p, v6e, tiny"
        )
  return config
