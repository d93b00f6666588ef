"""Batch normalisation (Ioffe & Szegedy 2015) that says which rows it is over, with a scale and shift a class if asked
(conditional batch norm, de Vries et al. 2017).

The group is all rows of all devices, or so many contiguous rows, whichever device or mode they run in (ghost batch
norm, Hoffer et al. 2017); as many rows as a device holds are the per-device statistics of other libraries.
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Integer

COLLECTION = "batch_stats"


class BatchNorm(nn.Module):
    """Normalises each channel over the rows of a group and over space, in float32; returned in the input's dtype.

    In training the group's own statistics are used, and those of this batch (the mean over groups and devices of mean
    and biased variance) are left in the collection `batch_stats`, not yet averaged over time; in evaluation those
    of the collection are used.

    Attributes:
      num_classes: 0 has one scale and shift; else each class has its own.
      rows: of a group; 0 is the whole batch, over all devices. Must divide the rows of a device.
    Raises:
      ValueError: `rows` does not divide the batch; labels missing, or given to an unconditional layer.
    """

    num_classes: int = 0
    rows: int = 0
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *space channel"],
        labels: Integer[Array, " batch"] | None = None,
        mean: Callable | None = None,
    ) -> Float[Array, "batch *space channel"]:
        """`mean` averages a pytree over the devices (`dist.mean`); without it, this is evaluation."""
        if (labels is None) == bool(self.num_classes):
            raise ValueError(f"a batch norm with num_classes={self.num_classes} got labels={labels is not None}")
        channels = x.shape[-1]
        shown_mean = self.variable(COLLECTION, "mean", jnp.zeros, (channels,), jnp.float32)
        shown_variance = self.variable(COLLECTION, "variance", jnp.ones, (channels,), jnp.float32)
        if mean is None:
            centred, variance = x.astype(jnp.float32) - shown_mean.value, shown_variance.value
        else:
            groups = self._grouped(x.astype(jnp.float32))
            over = tuple(range(1, groups.ndim - 1))
            shared = (lambda tree: tree) if self.rows else mean
            centre = shared(jnp.mean(groups, over, keepdims=True))
            centred = groups - centre
            variance = shared(jnp.mean(jnp.square(centred), over, keepdims=True))
            if not self.is_initializing() and self.is_mutable_collection(COLLECTION):
                seen = mean((jnp.mean(centre.reshape(-1, channels), 0), jnp.mean(variance.reshape(-1, channels), 0)))
                shown_mean.value, shown_variance.value = seen
        normalised = (centred / jnp.sqrt(variance + self.epsilon)).reshape(x.shape)
        shape = (self.num_classes, channels) if self.num_classes else (channels,)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        if labels is not None:
            scale, bias = (p[labels].reshape(-1, *[1] * (x.ndim - 2), channels) for p in (scale, bias))
        return (normalised * scale + bias).astype(x.dtype)

    def _grouped(self, x: Array) -> Array:
        if self.rows and x.shape[0] % self.rows:
            raise ValueError(f"groups of {self.rows} rows do not divide the {x.shape[0]} rows of a device")
        return x.reshape(-1, self.rows or x.shape[0], *x.shape[1:])
