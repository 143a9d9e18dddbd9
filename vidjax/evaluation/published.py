"""Published numbers, for the page of a result: each only beside the same protocol.

A number belongs here if its source says which videos, prompts and network it was made with, so that
what is left to assume (`named.NOTES`) is small. Others stand in docs/evaluation.md, with what is
missing. Where papers that quote a number disagree, the one that made it is taken.
"""

import dataclasses

from vidjax.evaluation.named import PROTOCOLS
from vidjax.evaluation.protocol import Protocol


@dataclasses.dataclass(frozen=True)
class Published:
  """A number somebody published.

  Attributes:
    method: the model.
    protocol: name in `vidjax.evaluation.named.PROTOCOLS`.
    metric: name that the protocol gives it (`Metric.name`).
    value: as printed.
    source: table that has it.
  """

  method: str
  protocol: str
  metric: str
  value: float
  source: str


PUBLISHED = (
  Published(
    "Stable Video Diffusion, base",
    "svd-ucf101",
    "fvd/i3d-torchscript",
    242.02,
    "2311.15127, table 2",
  ),
  Published("Video LDM, SD 1.4", "videoldm-msrvtt", "clipsim/clip-vit-b-32", 0.2848, "2304.08818"),
  Published("Video LDM, SD 2.1", "videoldm-msrvtt", "clipsim/clip-vit-b-32", 0.2929, "2304.08818"),
)


def beside(protocol: Protocol) -> list[Published]:
  """The published numbers of exactly this protocol; none for one that was limited or changed."""
  if PROTOCOLS.get(protocol.name) != protocol:
    return []
  return [row for row in PUBLISHED if row.protocol == protocol.name]
