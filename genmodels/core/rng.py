"""Random keys: whatever is random for an example comes from that example's own key.

An example's key is folded with a constant for every purpose (its noise, its dropout mask, ...). Its random numbers then
depend neither on the other examples of the batch nor on how the batch is split over devices.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer, Key


def fold(keys: Key[Array, "*#shape"], data: int | Integer[Array, "*#shape"]) -> Key[Array, "..."]:
    """`jax.random.fold_in` for every pair of a key and a number; the two arrays broadcast against each other.

    `fold(keys, constant)` derives a key of every example for one purpose; `fold(key, example_ids)` derives a key for
    each example from one key.
    """
    return jnp.vectorize(jax.random.fold_in)(keys, data)
