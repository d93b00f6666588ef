"""The guard against updates that are not finite, and the updates that wait for its decision.

The guard decides before the last update of a step is applied: from its gradient, from the metrics, and from whatever
else the step has changed, such as batch statistics. An update that was applied first would have to be kept beside the
old parameters, optimizer state and averages until the decision, which takes the memory of a second state.

A finite gradient gives finite parameters, moments and averages: `config.optim` allows no value that would divide by
zero, and the squared norm of a gradient that is let through is itself finite.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from genmodels.core.state import PyTree, TrainState

Metrics = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Update:
    """An update of one network that is computed and not applied.

    Attributes:
      grad_norm: the global L2 norm of its gradient.
      apply: gives the state with the update, and its metrics.
      metrics: the names of these metrics, which are float32 scalars.
    """

    grad_norm: Float[Array, ""]
    apply: Callable[[TrainState], tuple[TrainState, Metrics]]
    metrics: tuple[str, ...] = ()


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every floating-point leaf is finite everywhere."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    scalars = [leaf for leaf in leaves if leaf.ndim == 0]
    arrays = [leaf for leaf in leaves if leaf.ndim > 0]
    stacked = [jnp.stack([leaf.astype(jnp.float32) for leaf in scalars])] if scalars else []
    return functools.reduce(jnp.logical_and, [jnp.all(jnp.isfinite(leaf)) for leaf in arrays + stacked])


def _changed(new: PyTree, old: PyTree) -> list[Array]:
    """The leaves of `new` that are not the very arrays of `old`."""
    kept = {id(leaf) for leaf in jax.tree.leaves(old)}
    return [leaf for leaf in jax.tree.leaves(new) if id(leaf) not in kept]


def finish(state: TrainState, metrics: Metrics, update: Update | None = None) -> tuple[TrainState, Metrics]:
    """What a task's step returns, with its last update applied; nothing is refused."""
    if update is None:
        return state, metrics
    state, more = update.apply(state)
    return state, metrics | more


def guarded(train_step: Callable) -> Callable:
    """Wraps a task's training step: advances `step`, and refuses a step that is not finite.

    A refused step leaves parameters, optimizer state, EMA and `extra` unchanged, those of all networks. `step` advances
    nevertheless, so that a resumed or continued run does not repeat the bad batch. The metrics `skipped` and
    `skipped_in_row` are added; the metrics of a refused update are not numbers.
    """

    def step(state: TrainState, frozen, batch, rng, dist):
        new, metrics, *updates = train_step(state, frozen, batch, jax.random.fold_in(rng, state.step), dist)
        good = all_finite((metrics, [update.grad_norm for update in updates], _changed(new, state)))
        nothing = {name: jnp.float32(jnp.nan) for update in updates for name in update.metrics}
        # Not `jnp.where` on every leaf, for which XLA copies the whole old state.
        new, more = jax.lax.cond(good, lambda: finish(new, {}, *updates), lambda: (state, nothing))
        bad = 1 - good.astype(jnp.int32)
        skipped = {"total": state.skipped["total"] + bad, "in_row": (state.skipped["in_row"] + 1) * bad}
        metrics |= more | {"skipped": skipped["total"], "skipped_in_row": skipped["in_row"]}
        return new.replace(step=state.step + 1, skipped=skipped), metrics

    return step
