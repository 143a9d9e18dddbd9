"""Training is the same on every mesh, in parts, and whatever the backward pass finds stored."""

import numpy as np
import pytest

from benchmarks import loss_curves
from vidjax.parallel import plan, remat


@pytest.mark.slow
@pytest.mark.parametrize("way", loss_curves.WAYS)
def test_losses_do_not_depend_on_how_they_are_computed(way, monkeypatch):
  monkeypatch.setattr(plan, "SMALL", 2**12)  # else most weights of a tiny model are replicated
  expected = loss_curves.on_one_device()
  assert expected[-1] < 0.9 * expected[0]  # it learns: the curve is not that of fresh weights
  np.testing.assert_allclose(loss_curves.losses(loss_curves.WAYS[way]), expected, rtol=1e-5)


def test_every_policy_is_among_them():
  assert {way.remat for way in loss_curves.WAYS.values()} == set(remat.POLICIES)
  assert {way.parts for way in loss_curves.WAYS.values()} == {1, 2, 4}
