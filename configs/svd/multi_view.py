"""SVD-MV: a camera's orbit around an object, from one view of it (2311.15127, sec. 4.5, D.6).

Image-to-video on renderings of objects, and the elevation of the camera in the condition's vector.
The clips are whole orbits: as many frames as a window has, and at its frame rate.

Command:   vidjax train --config=configs/svd/multi_view.py --workdir=gs://BUCKET/svd/multi_view \
             --config.data.path=gs://BUCKET/orbits --config.init_from=gs://BUCKET/svd/svd_xt \
             --config.encoders.vae=sd21/vae --config.encoders.image=openclip_vit_h
Hardware:  v5p:2x2x2 (8 chips) at batch 16. Expected hours and metric: not measured yet; in the
           paper about 16 h on 8 A100.
Variants:  paper  21 frames, 576x576, 12k steps, batch 16, lr 1e-5: the default.
           tiny   the same on two CPU cores: 32x32, a small UNet.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
  """Multi-view generation; see the header for variants."""
  batch_size = 16
  config = ConfigDict(
    {
      "seed": 0,
      "batch_size": batch_size,
      "total_samples": 12_000 * batch_size,
      "log_every_steps": 50,
      "sample_every_steps": 0,
      "checkpoint": {"every_steps": 1000, "keep": 3},
      "init_from": "",
      # The rate is ours: an orbit has none of its own, and 7 is what SVD makes by default.
      "data": {
        "num_frames": 21,
        "fps": 7.0,
        "height": 576,
        "width": 576,
        "scores": ("elevation",),
        "num_workers": 16,
      },
      "encoders": {"vae": "", "image": "", "dtype": "bfloat16"},
      "model": {"preset": "svd", "overrides": {"remat": ("block",), "vector_size": 4}},
      "conditioning": {
        "mode": "multi_view",
        "dropout": 0.15,  # not given in the paper for this model; the text model's
        "noise_aug_mean": -3.0,
        "noise_aug_std": 0.5,
      },
      "diffusion": {"p_mean": 1.0, "p_std": 1.6},  # not given; those of the model it starts from
      "optimizer": {
        "learning_rate": 1e-5,
        "warmup_samples": 1000 * batch_size,  # ours, as in the other stages
        "ema_decays": (0.9999,),  # not given; that of image-to-video
      },
      "mesh": {"replica": 1, "fsdp": -1},
    }
  )
  for name in filter(None, variant.split(",")):
    match name:
      case "paper":
        pass  # what differs from the paper in other stages, the window, does not here
      case "tiny":
        config.batch_size, config.total_samples = 2, 2 * 120
        config.log_every_steps = 5
        config.checkpoint.every_steps = 40
        config.data.update({"height": 32, "width": 32, "num_workers": 0})
        config.encoders.update({"image": "random:tiny", "dtype": "float32"})
        config.model.update({"preset": "tiny", "dtype": "float32"})
        config.model.overrides.remat = ("none",)
        config.optimizer.update({"learning_rate": 1e-3, "warmup_samples": 40})
        config.optimizer.ema_decays = (0.98,)
      case _:
        raise ValueError(f"unknown variant {name!r}: choose from paper, tiny")
  return config
