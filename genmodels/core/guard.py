"""The guard against updates that are not finite, and the updates that wait for its decision.

The guard decides before the last update of a step is applied. It looks at the gradient's norm, at the metrics, and at
whatever else the step has changed, such as batch statistics. If the update were applied first, the old parameters,
optimizer state and averages would have to be kept beside the new ones until the decision.

If the norm of a gradient is finite, the square of each element is finite, too, and so are the moments that optimizers
make of them. What they divide by is not zero within the limits that `config.validate` sets.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from genmodels.core.state import PyTree, TrainState
from genmodels.errors import ConfigError

Metrics = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Update:
    """An update of one network whose gradient is known, and which is not applied yet.

    Nothing checks what `apply` gives: it must be finite whenever `grad_norm` is. `NetworkOptimizer` makes such updates.

    Attributes:
      grad_norm: the global L2 norm of its gradient.
      apply: gives the state with the update, and its metrics. The state still has the step's number.
      metrics: the names of these metrics, which are float32 scalars.
    """

    grad_norm: Float[Array, ""]
    apply: Callable[[TrainState], tuple[TrainState, Metrics]]
    metrics: tuple[str, ...] = ()


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every floating-point leaf is finite everywhere."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    scalars = [leaf.astype(jnp.float32) for leaf in leaves if leaf.ndim == 0]  # stacked, to check all of them at once
    parts = [leaf for leaf in leaves if leaf.ndim > 0] + ([jnp.stack(scalars)] if scalars else [])
    return functools.reduce(jnp.logical_and, [jnp.all(jnp.isfinite(part)) for part in parts])


def _changed(new: PyTree, old: PyTree) -> list[Array]:
    """The leaves of `new` that are not the very arrays of `old`."""
    kept = {id(leaf) for leaf in jax.tree.leaves(old)}
    return [leaf for leaf in jax.tree.leaves(new) if id(leaf) not in kept]


def finish(state: TrainState, metrics: Metrics, update: Update | None = None) -> tuple[TrainState, Metrics]:
    """The state and the metrics of what a task's step returns, with its last update applied; nothing is refused.

    Raises:
      ConfigError: the update gives other metrics than it names.
    """
    if update is None:
        return state, metrics
    state, more = update.apply(state)
    if more.keys() != set(update.metrics):
        named, given = (", ".join(sorted(names)) or "nothing" for names in (update.metrics, more))
        raise ConfigError(f"train_step: Update.metrics names {named}, but Update.apply gives {given}")
    return state, metrics | more


def guarded(train_step: Callable) -> Callable:
    """Wraps a task's training step: advances `step`, and refuses a step in which something is not finite.

    A refused step leaves parameters, optimizer state, EMA and `extra` unchanged, those of all networks. `step` advances
    nevertheless, so that a resumed or continued run does not repeat the bad batch. The metrics `skipped` and
    `skipped_in_row` are added; those that a refused update would have given are NaN.
    """

    def step(state: TrainState, frozen, batch, rng, dist):
        new, metrics, *last = train_step(state, frozen, batch, jax.random.fold_in(rng, state.step), dist)
        update = last[0] if last else None
        # The square, because XLA takes the root of the square of a single number for the number itself.
        square, names = (jnp.square(update.grad_norm), update.metrics) if update else (jnp.zeros(()), ())
        good = all_finite((metrics, square, _changed(new, state)))
        # Devices agree, even where a task's metrics differ from one to another.
        good = dist.mean(jnp.float32(good)) == 1
        nothing = {name: jnp.float32(jnp.nan) for name in names}
        # With `jnp.where` on every leaf instead, XLA would copy the old parameters and moments.
        new, more = jax.lax.cond(good, lambda: finish(new, {}, update), lambda: (state, nothing))
        bad = 1 - good.astype(jnp.int32)
        skipped = {"total": state.skipped["total"] + bad, "in_row": (state.skipped["in_row"] + 1) * bad}
        metrics |= more | {"skipped": skipped["total"], "skipped_in_row": skipped["in_row"]}
        return new.replace(step=state.step + 1, skipped=skipped), metrics

    return step
