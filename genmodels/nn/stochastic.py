"""Dropout and stochastic depth with one random key per example, so that a mask does not depend on the batch.

Linen's own random streams take a single key for the batch; these layers take `keys` of shape [batch] instead.
"""

import zlib

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key


def _drop(
    layer: nn.Module, rate: float, x: Float[Array, "batch ..."], keys: Key[Array, " batch"] | None, shape: tuple
) -> Float[Array, "batch ..."]:
    """Applies a random mask of `shape` to each example, drawn from its key folded with a hash of the layer's path."""
    if rate == 0.0 or keys is None:
        return x
    salt = zlib.crc32("/".join(layer.path).encode())

    def mask(key):
        return jax.random.bernoulli(jax.random.fold_in(key, salt), 1 - rate, shape)

    return jnp.where(jax.vmap(mask)(keys), x / (1 - rate), 0).astype(x.dtype)


class Dropout(nn.Module):
    """Zeroes entries with probability `rate` and scales the rest by 1 / (1 - rate).

    The example's key is folded with a hash of this layer's path, so two layers never share a mask.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."], keys: Key[Array, " batch"] | None) -> Float[Array, "batch ..."]:
        """The same shape as `x`; `keys=None` means evaluation, which is the identity."""
        return _drop(self, self.rate, x, keys, x.shape[1:])


class StochasticDepth(nn.Module):
    """Zeroes the full residual branch of an example with probability `rate` (Huang et al. 2016).

    Branches that are kept are scaled by 1 / (1 - rate), so that evaluation is the identity.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."], keys: Key[Array, " batch"] | None) -> Float[Array, "batch ..."]:
        """The same shape as `x`; `keys=None` means evaluation, which is the identity."""
        return _drop(self, self.rate, x, keys, (1,) * (x.ndim - 1))
