"""Everything about devices: how a step sees them, and how steps and predict functions are compiled for them.

There are two modes, whose results must agree to rounding:

    pmap      every device runs the step on its rows; `dist.mean` and `dist.all_gather` are collectives
    sharded   jit over a mesh: the step sees the global batch, `dist` is the identity, XLA places the collectives

In both modes the state is an ordinary pytree without a device axis. Under pmap the state is returned with
`out_axes=None`, which takes the value of device 0. Whatever enters the state must therefore come from `dist.mean` or
`dist.all_gather`, so that it is equal on all devices.
"""

import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Integer, Key

from genmodels.core.rng import fold

PyTree = Any
AXIS = "devices"


@dataclasses.dataclass(frozen=True, eq=False)
class Dist:
    """A step's view of the devices.

    Attributes:
      example_ids: indices of this view's rows in the global batch, shape [rows].
      axis_name: the pmapped axis; None if the view is the global batch.
    """

    example_ids: Integer[Array, " rows"]
    axis_name: str | None = None

    def mean(self, tree: PyTree) -> PyTree:
        """The mean of every leaf over the devices."""
        return tree if self.axis_name is None else jax.lax.pmean(tree, self.axis_name)

    def all_gather(self, tree: PyTree) -> PyTree:
        """Every leaf gathered from all devices: [rows, ...] to [global batch, ...], rows in order."""
        return tree if self.axis_name is None else jax.lax.all_gather(tree, self.axis_name, tiled=True)

    def example_keys(self, rng: Key[Array, ""]) -> Key[Array, " rows"]:
        """One random key per example, which does not depend on how the global batch is split over devices."""
        return fold(rng, self.example_ids)


def _rows(batch: PyTree) -> int:
    return jax.tree.leaves(batch)[0].shape[0]


def whole_view(batch: PyTree) -> Dist:
    """The view of a step that receives the global batch."""
    return Dist(jnp.arange(_rows(batch)))


def device_view(batch: PyTree) -> Dist:
    """The view of a step that runs on one device of a pmap over the axis AXIS."""
    rows = _rows(batch)
    return Dist(jax.lax.axis_index(AXIS) * rows + jnp.arange(rows), AXIS)


def gather_hosts(arrays: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    """The arrays of every process, in the order of processes. Shapes may differ, and float64 stays float64."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    data = np.frombuffer(buffer.getvalue(), np.uint8)  # bytes, because devices would round float64 to float32
    sizes = multihost_utils.process_allgather(np.array(len(data), np.int32))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(data)] = data
    found = []
    for size, row in zip(sizes, multihost_utils.process_allgather(padded), strict=True):
        with np.load(io.BytesIO(row[:size].tobytes()), allow_pickle=False) as file:
            found.append(dict(file))
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Parallel:
    """Compiles steps and predict functions for a list of devices.

    Attributes:
      mode: "pmap" or "sharded".
      devices: all devices of all processes, in order.
      shard_parameters: whether to split large leaves of the state over the devices (mode "sharded" only).
    """

    mode: str = "pmap"
    devices: Sequence[jax.Device] = dataclasses.field(default_factory=jax.devices)
    shard_parameters: bool = False

    @property
    def mesh(self) -> Mesh:
        """The one-dimensional mesh of the devices."""
        return Mesh(np.asarray(self.devices), (AXIS,))

    def state_shardings(self, state: PyTree) -> PyTree:
        """A sharding for each leaf: replicated, or split along the largest axis that the number of devices divides."""
        n = len(self.devices)

        def rule(leaf):
            axes = [axis for axis, size in enumerate(leaf.shape) if size % n == 0]
            if not self.shard_parameters or not axes or leaf.size < 1024:
                return NamedSharding(self.mesh, P())
            axis = max(axes, key=lambda a: leaf.shape[a])
            return NamedSharding(self.mesh, P(*(AXIS if a == axis else None for a in range(leaf.ndim))))

        return jax.tree.map(rule, state)

    def place(self, state: PyTree) -> PyTree:
        """Puts a state, variables or a key on all devices."""
        return jax.device_put(state, self.state_shardings(state))

    def _split(self, batch: PyTree) -> PyTree:
        if self.mode == "pmap":
            local = len([d for d in self.devices if d.process_index == jax.process_index()])
            return jax.tree.map(lambda x: x.reshape(local, -1, *x.shape[1:]), batch)
        sharding = NamedSharding(self.mesh, P(AXIS))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)

    def compile_step(self, step: Callable, state: PyTree) -> Callable:
        """Compiles `step(state, frozen, batch, rng, dist)` to `run(state, frozen, host_batch, rng)`.

        The state is donated, except by pmap across several processes, where donation makes jax 0.10 fail.
        """
        if self.mode == "pmap":
            body = jax.pmap(
                lambda state, frozen, batch, rng: step(state, frozen, batch, rng, device_view(batch)),
                axis_name=AXIS,
                in_axes=(None, None, 0, None),
                out_axes=(None, None),
                devices=self.devices,
                donate_argnums=(0,) if jax.process_count() == 1 else (),
            )
        else:
            shardings = self.state_shardings(state)
            body = jax.jit(
                lambda state, frozen, batch, rng: step(state, frozen, batch, rng, whole_view(batch)),
                in_shardings=(shardings, None, NamedSharding(self.mesh, P(AXIS)), None),
                out_shardings=(shardings, NamedSharding(self.mesh, P())),
                donate_argnums=(0,),
            )
        return lambda state, frozen, batch, rng: body(state, frozen, self._split(batch), rng)

    def compile_predict(self, fn: Callable) -> Callable:
        """Compiles `fn(variables, frozen, inputs, dist) -> outputs` to a function of inputs that are on this host.

        The number of rows must be a multiple of the number of devices. Outputs have one row for each row of inputs.
        """
        if self.mode == "pmap":
            # The inputs are put in a tuple: if three arguments had three leaves in all, pmap of jax 0.10 would take the
            # axes of the arguments for those of the leaves.
            mapped = jax.pmap(
                lambda variables, frozen, inputs: fn(variables, frozen, *inputs, device_view(*inputs)),
                axis_name=AXIS,
                in_axes=(None, None, (0,)),
                devices=self.devices,
            )
            body = lambda variables, frozen, inputs: mapped(variables, frozen, (inputs,))  # noqa: E731
            join = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
        else:
            body = jax.jit(lambda variables, frozen, inputs: fn(variables, frozen, inputs, whole_view(inputs)))
            join = lambda x: x  # noqa: E731
        return lambda variables, frozen, inputs: jax.tree.map(
            join, jax.device_get(body(variables, frozen, self._split(inputs)))
        )
