"""The step guard on sequences of losses and gradient norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax.config import GuardConfig
from vidjax.optim import guard

CONFIG = GuardConfig(spike_sigmas=6.0, window=50)
USUAL = [(1.0 + 0.1 * np.sin(7 * i), np.exp(0.3 * np.cos(5 * i))) for i in range(200)]


def judged(config, numbers, state=None):
  """Causes of a sequence of (loss, gradient norm), and the guard's state after it."""
  judge = jax.jit(lambda state, loss, norm: _plain(guard.judge(config, state, loss, norm)))
  causes, state = [], state or guard.create()
  for loss, norm in numbers:
    cause, state = judge(state, jnp.float32(loss), jnp.float32(norm))
    causes.append(int(cause))
  return causes, state


def _plain(verdict):
  return verdict.cause, verdict.state


def test_usual_steps_are_not_touched():
  causes, state = judged(CONFIG, USUAL)
  assert set(causes) == {0}
  assert int(state.seen) == 200
  recent = np.log([norm for _, norm in USUAL])
  np.testing.assert_allclose(state.mean_2[1], recent.mean(), atol=0.05)
  np.testing.assert_allclose(np.sqrt(state.variance_2[1]), recent.std(), rtol=0.1)


@pytest.mark.parametrize(
  ("numbers", "cause"),
  [
    ((np.nan, 1.0), 1),
    ((1.0, np.inf), 1),
    ((-np.inf, np.nan), 1),
    ((5.0, 1.0), 2),
    ((1.0, 50.0), 3),
    ((5.0, 50.0), 2),
    ((-5.0, 1e-6), 0),  # small is no spike
    ((1.0, 0.0), 0),
  ],
  ids=lambda v: str(v),
)
def test_what_is_skipped_and_why(numbers, cause):
  _, usual = judged(CONFIG, USUAL)
  causes, state = judged(CONFIG, [numbers], usual)
  assert causes == [cause]
  assert state.skipped_3.tolist() == [int(cause == i) for i in (1, 2, 3)]
  assert np.isfinite(state.mean_2).all()
  assert np.isfinite(state.variance_2).all()
  after, _ = judged(CONFIG, USUAL[:50], state)  # one spike does not change what is usual
  assert set(after) == {0}


def test_young_guard_knows_no_spike_but_what_is_not_finite():
  causes, _ = judged(CONFIG, [*USUAL[:49], (50.0, 1e4), (np.nan, 1.0)])
  assert causes[-2:] == [0, 1]


def test_spikes_can_be_left_alone():
  config = GuardConfig(spike_sigmas=0.0, window=50)
  causes, _ = judged(config, [*USUAL, (1e6, 1e6), (np.nan, 1.0)])
  assert causes[-2:] == [0, 1]


def test_numbers_that_changed_for_good_are_let_through():
  higher = [(3.0, 30.0)] * 60
  causes, _ = judged(CONFIG, [*USUAL, *higher])
  assert causes[200] == 2
  assert causes[-1] == 0


def test_numbers_that_hardly_vary_have_no_spikes_of_nothing():
  causes, _ = judged(CONFIG, [(0.5, 1.0)] * 60 + [(0.6, 1.2)])
  assert causes[-1] == 0
