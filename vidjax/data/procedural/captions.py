"""What is said of a clip: true sentences of a small grammar.

    full   a large red circle moves to the right over a blue checkerboard; the camera pans left
    short  a red circle moves to the right

Scenes of a clip follow each other: ". Cut to " in the full caption, ", then " in the short one.
Directions are relative to the background, "up" is up in the picture.
"""

from collections.abc import Sequence

from vidjax.data.procedural import scenes


def captions(film: scenes.Film) -> dict[str, str]:
  """The texts of both captioners, `full` and `short`."""
  return {
    "full": ". Cut to ".join(_full(scene) for scene in film.scenes),
    "short": ", then ".join(_short(scene) for scene in film.scenes),
  }


def _full(scene: scenes.Scene) -> str:
  things = _listed([f"{_noun(s, sized=True)} {_verb(s, spin=True)}" for s in scene.shapes])
  camera = " and ".join(
    part
    for part in (
      scene.camera.pan and f"pans {scene.camera.pan}",
      scene.camera.zoom and f"zooms {scene.camera.zoom}",
    )
    if part
  )
  text = f"{things} over {_backdrop(scene.background)}"
  return f"{text}; the camera {camera}" if camera else text


def _short(scene: scenes.Scene) -> str:
  return _listed([f"{_noun(s, sized=False)} {_verb(s, spin=False)}" for s in scene.shapes])


def _noun(shape: scenes.Shape, sized: bool) -> str:
  size = f"{shape.size} " if sized and shape.size != "medium" else ""
  return _article(f"{size}{shape.color} {shape.kind}")


def _verb(shape: scenes.Shape, spin: bool) -> str:
  spins = f"spin{{}} {_sense(shape.spin)}" if spin and shape.spin else ""
  match shape.motion:
    case "steady":
      verb = f"moves {shape.direction}"
    case "accelerating":
      verb = f"accelerates {shape.direction}"
    case "braking":
      verb = f"slows down moving {shape.direction}"
    case "circling":
      verb = f"moves {_sense(shape.orbit_rate)} in a circle"
    case _:
      return spins.format("s") or ("stays in place" if shape.spin else "stands still")
  return f"{verb} while {spins.format('ning')}" if spins else verb


def _backdrop(background: scenes.Background) -> str:
  match background.kind:
    case "plain":
      return _article(f"plain {background.color} background")
    case "stripes":
      along = "vertical" if background.direction[0] else "horizontal"
      return f"{along} {background.color} stripes"
    case "clouds":
      return f"{background.color} clouds"
    case kind:
      return _article(f"{background.color} {kind}")


def _sense(rate: float) -> str:
  return "clockwise" if rate > 0 else "counterclockwise"


def _article(noun: str) -> str:
  return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _listed(parts: Sequence[str]) -> str:
  return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)
