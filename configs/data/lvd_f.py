"""SVD's LVD-F: the filtered set on which the low-resolution video stage trains.

  vidjax select --clips=CLIPS/clips.parquet --out=LVD_F.parquet --config=configs/data/lvd_f.py

Shares and the limit on text are the paper's (2311.15127, sec. 3.1, app. C and E.2.2). It applied
them to 577M clips and kept 152M (Table 1). Scores that were not computed exclude nothing: without
CLIP's weights, motion and text decide alone.
"""

import ml_collections


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """What differs from `data_pipelines.subset.SubsetConfig`."""
  if variant:
    raise ValueError(f"unknown variant {variant!r}: there are none")
  return ml_collections.ConfigDict(
    {
      "where": "text_area IS NULL OR text_area <= 0.07",
      "drop_lowest": {"motion_score": 0.25, "aesthetic": 0.25, "clip_similarity": 0.5},
      "drop_highest": {"text_area": 0.25},
    }
  )
