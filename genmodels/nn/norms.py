"""Normalisation layers, which compute in float32 whatever the dtype of the network."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

MAX_GROUPS = 32
MIN_CHANNELS = 4  # per group


def num_groups(channels: int) -> int:
    """The greatest divisor of `channels` that gives at most 32 groups of at least 4 channels each, or 1.

    With 128 or more channels these are DDPM's 32 groups. In a narrow network 32 groups would have one channel each, and
    a norm over a single channel erases a constant added to that channel. Time and class embeddings are such constants.
    EDM has the same lower limit of 4 channels (Karras et al. 2022).
    """
    limit = max(1, min(MAX_GROUPS, channels // MIN_CHANNELS))
    return next(groups for groups in range(limit, 0, -1) if channels % groups == 0)


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018) in float32, returned in the input's dtype.

    Attributes:
      epsilon: added to the variance.
      groups: number of groups; 0 chooses it by `num_groups`.
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
