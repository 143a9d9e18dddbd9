"""Outlines of shapes: their areas, and their edges between pixels."""

import numpy as np
import pytest

from vidjax.data.procedural import drawing, scenes


def lone(kind, place, background="plain"):
  """A film of one frame with one shape, `place` its centre."""
  shape = scenes.Shape(
    kind=kind,
    color="white",
    size="large",
    radius=0.3,
    motion="still",
    direction="",
    middle=place,
    way=(0.0, 0.0),
    orbit=0.0,
    orbit_rate=0.0,
    phase=0.0,
    angle=0.3,
    spin=0.0,
    length_s=1.0,
  )
  behind = scenes.Background(
    background, "gray", 0.2, (1.0, 0.0), (0.3, 0.1), np.zeros((16, 16), np.float32)
  )
  camera = scenes.Camera("", "", (0.0, 0.0), 0.0, 0.5)
  return scenes.Film(np.zeros(1), (scenes.Scene(0, 0.0, 1.0, behind, (shape,), camera),))


@pytest.mark.parametrize(
  ("kind", "area"),
  [
    ("circle", np.pi),
    ("ring", np.pi * (1 - 0.48**2)),
    ("square", 1.6**2),
    ("triangle", 3 * 3**0.5 / 4),
    ("cross", 4 * (2 * 0.95 * 0.32) - 4 * 0.32**2),
    ("star", 1.12257),
  ],
)
def test_shapes_have_their_areas(kind, area):
  frame_HWC = drawing.draw(lone(kind, (0.03, -0.02)), np.zeros(1, int), (300, 300))[0]
  share = (frame_HWC != frame_HWC[0, 0]).any(axis=-1).sum() / 90**2
  assert share == pytest.approx(area, rel=0.05)  # pixels on the edge count whole


@pytest.mark.parametrize("kind", scenes.SHAPES)
def test_edges_move_by_parts_of_pixels(kind):
  def center(x):
    frame_HWC = drawing.draw(lone(kind, (x, 0.0)), np.zeros(1, int), (40, 40))[0].astype(float)
    weight_W = abs(frame_HWC - frame_HWC[0, 0]).sum(axis=(0, 2))
    return weight_W @ np.arange(40) / weight_W.sum()

  moves = np.diff([center(i / 8 / 40) for i in range(9)])
  np.testing.assert_allclose(moves, 1 / 8, atol=0.035)
