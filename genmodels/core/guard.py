"""The guard against updates that are not finite."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from genmodels.core.state import PyTree, TrainState


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every floating-point leaf is finite everywhere."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return functools.reduce(jnp.logical_and, [jnp.all(jnp.isfinite(leaf)) for leaf in leaves])


def guarded(train_step: Callable) -> Callable:
    """Wraps a task's training step: advances `step`, and refuses an update whose state or metrics are not finite.

    A refused update leaves parameters, optimizer state, EMA and `extra` unchanged. `step` advances nevertheless, so
    that a resumed or continued run does not repeat the bad batch. The metrics `skipped` and `skipped_in_row` are added.
    """

    def step(state: TrainState, frozen, batch, rng, dist):
        new, metrics = train_step(state, frozen, batch, jax.random.fold_in(rng, state.step), dist)
        good = all_finite((new.params, new.opt_state, new.ema_params, new.extra, metrics))
        # Not `jnp.where` on every leaf: XLA's CPU backend fuses it with all the checks and compiles for minutes.
        new = jax.lax.cond(good, lambda: new, lambda: state)
        bad = 1 - good.astype(jnp.int32)
        skipped = {"total": state.skipped["total"] + bad, "in_row": (state.skipped["in_row"] + 1) * bad}
        metrics |= {"skipped": skipped["total"], "skipped_in_row": skipped["in_row"]}
        return new.replace(step=state.step + 1, skipped=skipped), metrics

    return step
