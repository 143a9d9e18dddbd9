"""The dearest blocks of a step of SVD, by the program compiled for a TPU: not slower than now."""

import pytest

from benchmarks import blocks
from vidjax.planning import compilation, pieces

CONFIG = "configs/svd/image_to_video.py:paper"  # 14 frames of 320x576
STORED = "model.overrides.remat=('matmuls',)"


# benchmarks/results/blocks.md has what they cost; bounds are 8 % above. Memory: a block's own.
@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "milliseconds", "at_worst", "gib"),
  [
    ("VideoTransformer 320 @ 14x40x72", 29.1, 65.9, 1.15),
    ("VideoTransformer 640 @ 14x20x36", 11.9, 22.9, 0.65),
  ],
)
def test_a_block_stays_as_fast(tmp_path, name, milliseconds, at_worst, gib):
  pytest.importorskip("libtpu")
  cell = blocks.cell_of(CONFIG, "v5e:1x1", 1, [STORED])
  cache = compilation.Cache(tmp_path)
  (block,) = blocks.priced(cell, pieces.record(cell.program), f"^{name}$", cache)
  assert block.count == 5
  assert not block.cost.unpriced
  assert 1e3 * block.cost.seconds < milliseconds
  assert 1e3 * block.cost.high_seconds < at_worst
  assert block.compiled.memory.total < gib * 2**30
