"""Curation for a few short clips, as the demo does it.

  vidjax curate --videos=DIR --out=runs/demo/clips --config=configs/data/demo.py

Hardware: two CPU cores, about as long as the videos are. Expected: the clips of 3.8 s or more in
which something moves; `:tiny` stores them at 64 pixels.
"""

import ml_collections


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """What differs from `data_pipelines.config.CurateConfig`."""
  short_side = 144
  for name in filter(None, variant.split(",")):
    match name:
      case "tiny":
        short_side = 64
      case _:
        raise ValueError(f"unknown variant {name!r}: choose from tiny")
  return ml_collections.ConfigDict(
    {
      "cut": {"max_seconds": 7.6},
      "select": {"min_seconds": 3.8, "min_motion_score": 0.12, "holdout_min_clips": 2},
      "encode": {"short_side": short_side},
      "shard": {"megabytes": 16.0},
    }
  )
