"""Parameters of every preset as text: one line "name shape role" each.

Checkpoints and warm starts go by these names and shapes, so a change of them is a decision and not
an accident. The lines of the tiny preset are kept whole, those of the others as their digest and as
sums for each part of the model. After a change that is meant, write the files anew:

  python -m tests.golden.parameters
"""

import collections
import hashlib
import math
import pathlib

from tests.models import describe
from vidjax.models.unet import PRESETS

FOLDER = pathlib.Path(__file__).parent
WHOLE = ("tiny",)


def text(preset: str) -> str:
  """What the file of a preset holds."""
  net = describe(PRESETS[preset])
  lines = [f"{name} {leaf.shape} {net.roles[name]}" for name, leaf in sorted(net.abstract.items())]
  elements, tensors = collections.Counter(), collections.Counter()
  for name, leaf in net.abstract.items():
    part = ".".join(name.split(".")[:-1][:2])
    elements[part] += math.prod(leaf.shape)
    tensors[part] += 1
  digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
  summary = [
    f"{preset}: {elements.total():,} parameters in {tensors.total()} tensors",
    f"sha256 of the lines: {digest}",
    *(f"{part}: {elements[part]:,} in {tensors[part]}" for part in sorted(elements)),
  ]
  return "\n".join([*summary, *(lines if preset in WHOLE else [])]) + "\n"


if __name__ == "__main__":
  for preset in PRESETS:
    (FOLDER / f"{preset}.txt").write_text(text(preset))
