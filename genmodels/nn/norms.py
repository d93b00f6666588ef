"""Normalisation layers. Statistics are always float32, whatever the compute dtype."""

import math

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018) in float32, returned in the input's dtype.

    The number of groups is gcd(groups, channels), so that narrow networks need no setting of their own.
    """

    groups: int = 32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"]) -> Float[Array, "batch height width channel"]:
        """Normalises over space and the channels of each group."""
        groups = math.gcd(self.groups, x.shape[-1])
        norm = nn.GroupNorm(num_groups=groups, epsilon=self.epsilon, dtype=jnp.float32, name="norm")
        return norm(x).astype(x.dtype)
