"""Dropout with one key per example, so that the mask of an example does not depend on the batch or device it is in.

Linen's own rng streams take a single key for the whole batch; these layers take `keys` of shape [batch] instead.
"""

import zlib

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key


class Dropout(nn.Module):
    """Zeroes entries with probability `rate` and scales the rest by 1 / (1 - rate).

    The example's key is folded with a hash of this layer's path, so two layers never share a mask.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."], keys: Key[Array, " batch"] | None) -> Float[Array, "batch ..."]:
        """`keys=None` means evaluation: the identity."""
        if self.rate == 0.0 or keys is None:
            return x
        layer = zlib.crc32("/".join(self.path).encode())

        def mask(key):
            return jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - self.rate, x.shape[1:])

        return jnp.where(jax.vmap(mask)(keys), x / (1 - self.rate), 0).astype(x.dtype)
