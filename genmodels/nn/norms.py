"""Normalisation layers. Statistics are always float32, whatever the compute dtype."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

MAX_GROUPS = 32
MIN_CHANNELS = 4  # a group


def num_groups(channels: int) -> int:
    """At most 32 groups of at least 4 channels (one group below that), dividing the channels.

    DDPM's 32 groups at 128 channels and more. In narrow networks 32 groups of one channel would be instance norms,
    which erase whatever is added to a channel as a whole: exactly how the time and class embeddings enter (the
    same floor as in EDM, Karras et al. 2022).
    """
    most = max(1, min(MAX_GROUPS, channels // MIN_CHANNELS))
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018) in float32, returned in the input's dtype.

    Attributes:
      groups: 0 leaves the number to `num_groups`.
    """

    epsilon: float = 1e-6
    groups: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"]) -> Float[Array, "batch height width channel"]:
        """Normalises over space and the channels of each group."""
        groups = self.groups or num_groups(x.shape[-1])
        norm = nn.GroupNorm(num_groups=groups, epsilon=self.epsilon, dtype=jnp.float32, name="norm")
        return norm(x).astype(x.dtype)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016) over the last axis in float32, returned in the input's dtype."""

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*axes channel"]) -> Float[Array, "*axes channel"]:
        """Normalises each vector, then scales and shifts it by learned values."""
        return nn.LayerNorm(epsilon=self.epsilon, dtype=jnp.float32, name="norm")(x).astype(x.dtype)
