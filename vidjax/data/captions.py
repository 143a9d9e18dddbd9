"""Which of a clip's texts a sample is trained on.

SVD draws the image captioner's text half of the time and the video captioner's and the summary a
quarter each (2311.15127, App. C). Dropping a text altogether is left to the condition.
"""

from collections.abc import Mapping
import re

_SIDES = re.compile(
  r"\b(left|right|(left|right)(wards?|most|-hand(ed)?)|(counter|anti)?-?clockwise)\b", re.IGNORECASE
)


def draw(captions: Mapping[str, str], weights: Mapping[str, float], chance: float) -> str:
  """Name of one of the captions of a clip, "" if it has none that is wanted.

  Args:
    captions: name of the captioner -> text; an empty text counts as none.
    weights: name -> how often, relative to the others that the clip has; names that are not in it
      are not drawn. Empty: all names alike.
    chance: a random number in [0, 1).
  """
  wanted = {name: float(weights.get(name, 0.0)) if weights else 1.0 for name in sorted(captions)}
  wanted = {name: weight for name, weight in wanted.items() if weight > 0 and captions[name]}
  left = chance * sum(wanted.values())
  for name, weight in wanted.items():
    left -= weight
    if left < 0:
      return name
  return next(reversed(wanted)) if wanted else ""  # the sum is rounded


def names_sides(caption: str) -> bool:
  """Whether a text would be wrong of the mirrored picture, since it tells left from right."""
  return _SIDES.search(caption) is not None


def check(weights: Mapping[str, float], template: str) -> None:
  """Refuses settings that make no sense.

  Raises:
    ValueError: says which.
  """
  if weights and (min(weights.values()) < 0 or not sum(weights.values())):
    raise ValueError(f"data.captions={dict(weights)}: weights are not negative, and not all zero")
  if template.count("{caption}") != 1:
    raise ValueError(f"data.template={template!r}: write {{caption}} once, where the text belongs")


def fill(template: str, caption: str) -> str:
  """The caption inside its template; no caption stays no text at all."""
  return template.replace("{caption}", caption) if caption else ""
