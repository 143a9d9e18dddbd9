"""The step guard: a step whose loss or gradient is broken, or far from usual, changes nothing.

It looks at the loss and at the logarithm of the gradient's norm. Each has a running mean and
variance, exponentially weighted over `guard.window` steps. A value is a spike if it lies more than
`guard.spike_sigmas` deviations above its mean, once as many steps have been seen. What is taken
into the mean is cut at that limit: one spike does not make the next one usual, and a run whose
numbers have changed for good is let through after a while.

All of it is part of the compiled step and of the saved state, so it costs no transfer, and a run
that is resumed skips what an undisturbed one skips.
"""

import dataclasses

import jax
import jax.numpy as jnp

from vidjax.config import GuardConfig

# Why a step is skipped; its number in `Verdict.cause` is its place here, from 1.
CAUSES = ("nonfinite", "loss_spike", "gradient_spike")

# Deviations are at least this: of the loss's mean, and of the norm's logarithm. Numbers that hardly
# vary would otherwise make spikes of nothing.
_LEAST_DEVIATION = 0.05


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GuardState:
  """What is usual, and what was skipped.

  Attributes:
    mean_2: float32 (2,), of the loss and of ln(gradient norm).
    variance_2: float32 (2,), likewise.
    seen: int32, steps whose loss and gradient were finite.
    skipped_3: int32 (3,), steps without an update, in the order of `CAUSES`.
  """

  mean_2: jax.Array
  variance_2: jax.Array
  seen: jax.Array
  skipped_3: jax.Array


@dataclasses.dataclass(frozen=True)
class Verdict:
  """Of one step.

  Attributes:
    ok: bool, whether the update is to be made.
    cause: int32, 0 or the place in `CAUSES`, from 1.
    state: of the guard after this step.
  """

  ok: jax.Array
  cause: jax.Array
  state: GuardState


def create() -> GuardState:
  """Nothing seen yet."""
  return GuardState(
    mean_2=jnp.zeros(2, jnp.float32),
    variance_2=jnp.zeros(2, jnp.float32),
    seen=jnp.int32(0),
    skipped_3=jnp.zeros(3, jnp.int32),
  )


def judge(config: GuardConfig, guard: GuardState, loss: jax.Array, grad_norm: jax.Array) -> Verdict:
  """Judges a step by its loss and gradient norm, float32 scalars."""
  finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
  tiny = jnp.finfo(jnp.float32).tiny
  values_2 = jnp.stack([loss, jnp.log(jnp.maximum(grad_norm, tiny))])
  values_2 = jnp.where(finite, values_2, guard.mean_2)

  least_2 = _LEAST_DEVIATION * jnp.stack([jnp.abs(guard.mean_2[0]), jnp.float32(1.0)])
  deviation_2 = jnp.maximum(jnp.sqrt(guard.variance_2), least_2)
  limit_2 = guard.mean_2 + config.spike_sigmas * deviation_2
  knows = (guard.seen >= config.window) & (config.spike_sigmas > 0)
  spikes_2 = knows & (values_2 > limit_2)
  first = jnp.where(spikes_2[0], 2, jnp.where(spikes_2[1], 3, 0))
  cause = jnp.where(finite, first, 1).astype(jnp.int32)

  # Exponentially weighted mean and variance (West 1979); plain ones while fewer steps are seen.
  values_2 = jnp.where(knows, jnp.minimum(values_2, limit_2), values_2)
  rate = 1.0 / jnp.minimum(guard.seen + 1, config.window).astype(jnp.float32)
  delta_2 = values_2 - guard.mean_2
  variance_2 = (1.0 - rate) * (guard.variance_2 + rate * delta_2**2)
  state = GuardState(
    mean_2=jnp.where(finite, guard.mean_2 + rate * delta_2, guard.mean_2),
    variance_2=jnp.where(finite, variance_2, guard.variance_2),
    seen=guard.seen + finite.astype(jnp.int32),
    skipped_3=guard.skipped_3 + (cause == jnp.arange(1, 4)).astype(jnp.int32),
  )
  return Verdict(cause == 0, cause, state)


def metrics(verdict: Verdict) -> dict[str, jax.Array]:
  """`skipped_steps` in all, `skipped_CAUSE` of each cause, `skip_cause` of this step."""
  by_cause = {f"skipped_{c}": verdict.state.skipped_3[i] for i, c in enumerate(CAUSES)}
  total = jnp.sum(verdict.state.skipped_3)
  return {"skip_cause": verdict.cause, "skipped_steps": total, **by_cause}
