"""The training state of a run, and the types of metrics that a step reports."""

from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

PyTree = Any


class TrainState(struct.PyTreeNode):
    """Everything that a resumed run needs, as plain pytrees without a device axis.

    Attributes:
      step: updates attempted so far; it also determines the batch and the random keys of the next update.
      params, opt_state, ema_params: dictionaries with the names of the networks as keys; `ema_params` may lack some.
      extra: other arrays of the task, such as running statistics or image pools.
      skipped: {"total", "in_row"}: number of updates that the guard refused, over the run and since the last good one.
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
        """The state at step 0.

        Args:
          params: parameters by network.
          optimizers: optax transformations by network.
          ema: whether the averaged parameters of all networks are kept, or the names of the networks that keep them.
            Averages start as copies of the parameters.
          extra: initial values of `TrainState.extra`.
        """
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
        """The argument `variables` of predict functions: parameters and `extra`.

        Averaged parameters replace the trained ones where the run keeps them, unless `ema` is False.
        """
        return {"params": self.params | (self.ema_params if ema else {}), "extra": self.extra}


class Average(NamedTuple):
    """The mean total / count, kept as two numbers so that means over groups of unequal size merge exactly."""

    total: Float[Array, ""]
    count: Float[Array, ""]  # type: ignore[assignment]  # hides tuple.count, which nothing calls


class PerRow(NamedTuple):
    """One value per row of a view's batch, for the step's own use; it is not averaged over rows or devices."""

    values: Float[Array, " rows"]


def parameter_table(params: PyTree) -> str:
    """A text table with one line per top-level module, `name  tensors  parameters`, and a line for the total."""
    rows = []
    for network, modules in params.items():
        for name, module in sorted(modules.items()):
            leaves = jax.tree.leaves(module)
            rows.append((f"{network}/{name}", len(leaves), sum(leaf.size for leaf in leaves)))
    rows.append(("total", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:<{width}}  {tensors:>5} tensors  {size:>12,} parameters" for name, tensors, size in rows)
