"""Batch normalisation (Ioffe & Szegedy 2015) over an explicit group of rows.

Statistics are taken over all rows of all devices (the default), or over groups of contiguous rows of a fixed size
(ghost batch norm, Hoffer et al. 2017). The result does not depend on the number of devices or the mode. A group size
equal to the rows of one device gives the per-device statistics of other libraries. The scale and shift may depend on
the class (conditional batch norm, de Vries et al. 2017).
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Integer

COLLECTION = "batch_stats"
EPSILON = 1e-5


class BatchNorm(nn.Module):
    """Normalises each channel over space and over the rows of a group, in float32, and returns the input's dtype.

    Training normalises with the statistics of the group. It also stores the statistics of the batch, the mean and the
    biased variance averaged over groups and devices, in the collection `batch_stats`. The caller averages these over
    time. Evaluation normalises with the statistics stored in the collection.

    Attributes:
      num_classes: if positive, each class has its own scale and shift; if 0, there is one for all.
      rows: number of rows in a group, which must divide the rows of a device; 0 is the batch over all devices.
      epsilon: added to the variance.
    Raises:
      ValueError: `rows` does not divide the rows of a device; labels are missing, or given to an unconditional layer.
    """

    num_classes: int = 0
    rows: int = 0
    epsilon: float = EPSILON

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *space channel"],
        labels: Integer[Array, " batch"] | None = None,
        mean: Callable | None = None,
    ) -> Float[Array, "batch *space channel"]:
        """Normalises `x`; the result has the same shape.

        Args:
          x: features whose last axis is the channel.
          labels: classes in 0 .. num_classes - 1, for a conditional layer.
          mean: averages a pytree over the devices (`dist.mean`) in training; None means evaluation.
        """
        if (labels is None) == bool(self.num_classes):
            raise ValueError(f"a batch norm with num_classes={self.num_classes} got labels={labels is not None}")
        channels = x.shape[-1]
        stored_mean = self.variable(COLLECTION, "mean", jnp.zeros, (channels,), jnp.float32)
        stored_variance = self.variable(COLLECTION, "variance", jnp.ones, (channels,), jnp.float32)
        if mean is None:
            centred, variance = x.astype(jnp.float32) - stored_mean.value, stored_variance.value
        else:
            groups = self._grouped(x.astype(jnp.float32))
            axes = tuple(range(1, groups.ndim - 1))
            device_mean = (lambda tree: tree) if self.rows else mean
            centre = device_mean(jnp.mean(groups, axes, keepdims=True))
            centred = groups - centre
            variance = device_mean(jnp.mean(jnp.square(centred), axes, keepdims=True))
            if not self.is_initializing() and self.is_mutable_collection(COLLECTION):
                stored_mean.value, stored_variance.value = mean(
                    (jnp.mean(centre.reshape(-1, channels), 0), jnp.mean(variance.reshape(-1, channels), 0))
                )
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
