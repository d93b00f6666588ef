"""The whole state of a run as plain pytrees, the averages a step reports, and the guard against bad updates."""

import functools
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

PyTree = Any


class TrainState(struct.PyTreeNode):
    """Everything a resumed run needs; no device axis, nothing hidden.

    Attributes:
      step: updates attempted so far; also selects the batch and the random keys of the next one.
      params, opt_state, ema_params: dictionaries with the task's optimizer names as keys; `ema_params` may lack some.
      extra: whatever else the task carries (running statistics, image pools), as arrays.
      skipped: {"total", "in_row"}: updates the guard refused, ever and since the last good one.
    """

    step: PyTree  # an int32 scalar, as those of `skipped`; `jax.tree.map` makes states of shardings and shapes, too
    params: dict[str, PyTree]
    opt_state: dict[str, PyTree]
    ema_params: dict[str, PyTree]
    extra: dict[str, PyTree]
    skipped: dict[str, PyTree]

    @classmethod
    def create(
        cls,
        params: dict[str, PyTree],
        optimizers: dict[str, Any],
        *,
        ema: bool | Collection[str],
        extra: dict | None = None,
    ):
        """A fresh state at step 0; the EMA, of all networks or those named, starts as a copy of the parameters."""
        averaged = ema if isinstance(ema, Collection) else params if ema else ()
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state={name: tx.init(params[name]) for name, tx in optimizers.items()},
            ema_params={name: jax.tree.map(jnp.copy, params[name]) for name in averaged},
            extra=extra or {},
            skipped={"total": jnp.zeros((), jnp.int32), "in_row": jnp.zeros((), jnp.int32)},
        )

    def variables(self, ema: bool = True) -> dict[str, PyTree]:
        """What predict functions take: the averaged parameters where the run keeps them, and `extra`."""
        return {"params": self.params | (self.ema_params if ema else {}), "extra": self.extra}


class Average(NamedTuple):
    """A mean in two parts, so that groups of unequal size merge exactly: total / count."""

    total: Float[Array, ""]
    count: Float[Array, ""]  # type: ignore[assignment]  # tuple.count has another type


class PerRow(NamedTuple):
    """One value per row of a view's batch, which a step uses itself; never averaged."""

    values: Float[Array, " rows"]


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every floating-point leaf is finite everywhere."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return functools.reduce(jnp.logical_and, [jnp.all(jnp.isfinite(leaf)) for leaf in leaves])


def guarded(train_step: Callable) -> Callable:
    """Wraps a task's step so that it advances `step` and refuses a state or metrics that are not finite.

    A refused update leaves parameters, optimizer, EMA and extras exactly as they were. The step advances all the
    same, so that a resumed or continued run does not meet the bad batch again. Metrics gain `skipped` and
    `skipped_in_row`.
    """

    def step(state: TrainState, frozen, batch, rng, dist):
        new, metrics = train_step(state, frozen, batch, jax.random.fold_in(rng, state.step), dist)
        good = all_finite((new.params, new.opt_state, new.ema_params, new.extra, metrics))
        # Not a `where` over all leaves: XLA's CPU backend fuses that with every check and compiles for minutes.
        new = jax.lax.cond(good, lambda: new, lambda: state)
        bad = 1 - good.astype(jnp.int32)
        skipped = {"total": state.skipped["total"] + bad, "in_row": (state.skipped["in_row"] + 1) * bad}
        metrics |= {"skipped": skipped["total"], "skipped_in_row": skipped["in_row"]}
        return new.replace(step=state.step + 1, skipped=skipped), metrics

    return step


def parameter_table(params: PyTree) -> str:
    """One line a top-level module, `name  tensors  parameters`, and the total."""
    rows = []
    for network, modules in params.items():
        for name, module in sorted(modules.items()):
            leaves = jax.tree.leaves(module)
            rows.append((f"{network}/{name}", len(leaves), sum(leaf.size for leaf in leaves)))
    rows.append(("total", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:<{width}}  {tensors:>5} tensors  {size:>12,} parameters" for name, tensors, size in rows)
