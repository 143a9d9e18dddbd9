"""What is not trained costs nothing: no gradient, no moment, no average."""

import dataclasses

import jax
import numpy as np
import pytest
from two_layers import CONFIG, NETWORK, TASK, batch, config, run

from vidjax import state as states
from vidjax import step as steps
from vidjax.config import OPTIMIZERS, OptimizerConfig
from vidjax.optim import freezing
from vidjax.optim import optimizer as optimizers

NAMES = [f"{part}.{i}.conv.{leaf}" for part in ("down", "up") for i in (0, 1) for leaf in "wb"]
LARGE = 256 * 256


def program(optimizer: OptimizerConfig, name: str = "adamw"):
  """Jaxpr of a step, and shapes of the state."""
  of = dataclasses.replace(CONFIG, optimizer=dataclasses.replace(optimizer, name=name))
  trained = freezing.trained_names(of.optimizer, NETWORK.abstract)
  tx = optimizers.make_optimizer(of.optimizer)
  params = NETWORK.init(jax.random.key(0))
  state = jax.eval_shape(lambda: states.create(params, tx, trained, of.optimizer.ema_decays))
  with jax.numpy_dtype_promotion("standard"):
    step = steps.make_train_step(TASK, of, tx, trained)
    return jax.make_jaxpr(step)(state, {}, batch(0)), state


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("how", [{"freeze": ("a",)}, {"train_only": ("b", "c")}])
def test_frozen_weights_have_no_gradient_moment_or_average(name, how):
  """Of products, two are the forward pass's, two more lead to c and b, and a fifth to a."""
  frozen, state = program(config(**how).optimizer, name)
  for leaf in jax.tree.leaves((state.opt_state, state.ema)):
    assert leaf.size < LARGE
  assert str(frozen).count("dot_general") == 4
  assert str(program(CONFIG.optimizer)[0]).count("dot_general") == 5


def test_frozen_weights_stay_and_others_learn():
  done = run(config(freeze=("a",), ema_decays=(0.9, 0.5)), [batch(step) for step in range(2)])
  np.testing.assert_array_equal(done.first["a"], done.weights["a"])
  assert (done.first["c"] != done.weights["c"]).any()
  assert all("a" not in average for average in done.state.ema.values())
  assert "grad_norm/a" not in done.history[0]
  assert "grad_norm/c" in done.history[0]


@pytest.mark.parametrize(
  ("train_only", "freeze", "expected"),
  [
    ((), (), NAMES),
    (("down.*",), (), NAMES[:4]),
    ((), ("down.*",), NAMES[4:]),
    (("down.*", "*.1.*"), ("*.b",), ["down.0.conv.w", "down.1.conv.w", "up.1.conv.w"]),
  ],
)
def test_freeze_comes_after_train_only(train_only, freeze, expected):
  of = OptimizerConfig(train_only=train_only, freeze=freeze)
  assert freezing.trained_names(of, NAMES) == set(expected)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"train_only": ("dwn.*",)}, r"train_only: 'dwn\.\*' matches no parameter; near are down\.\*"),
    ({"freeze": ("*", "up.0.conw.w")}, r"freeze: 'up\.0\.conw\.w' .* near are up\.0\.conv\.w"),
    ({"freeze": ("zzz",)}, r"names look like 'down\.0\.conv\.b'"),
    ({"train_only": ("up.*",), "freeze": ("up.*",)}, "leave no parameter to train, of 8"),
  ],
)
def test_patterns_that_choose_nothing_are_named(values, message):
  with pytest.raises(ValueError, match=message):
    freezing.trained_names(OptimizerConfig(**values), NAMES)
