"""The small set of the high-resolution stages: large pictures, steady cameras, much to see.

  vidjax select --clips=CLIPS/clips.parquet --out=HIGH_QUALITY.parquet \
    --config=configs/data/high_quality.py --config.within=LVD_F.parquet

SVD trains these stages on about a million clips of high visual fidelity and says no more of how
they were chosen (2311.15127, sec. 3.3). The thresholds are ours: a source at least as large as the
stage (576 x 1024), no text, no trembling (one percent of the frame's shorter side), and the better
half by aesthetics.
"""

import ml_collections


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """What differs from `data_pipelines.subset.SubsetConfig`; `tiny` is for sources of any size."""
  size = "least(width, height) >= 576"
  for name in filter(None, variant.split(",")):
    match name:
      case "tiny":
        size = "true"
      case _:
        raise ValueError(f"unknown variant {name!r}: choose from tiny")
  return ml_collections.ConfigDict(
    {
      "where": f"{size} AND coalesce(text_area, 0) <= 0.01 AND coalesce(motion_shake, 0) <= 0.16",
      "drop_lowest": {"aesthetic": 0.5},
    }
  )
