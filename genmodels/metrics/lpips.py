"""LPIPS v0.1 (Zhang et al. 2018): a perceptual distance whose channel weights were fitted to human judgements.

    d(a, b) = sum over taps of mean over space of sum_c w_c (a_c / |a| - b_c / |b|)^2

Here a and b are feature maps of a trunk (`models.lpips_trunks`), |.| is the length along the channels, and the weights
w are not negative.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10

Maps = Float[Array, "_ _ _ _"]  # [batch, height, width, channel]


def scaled(images: Float[Array, "batch height width 3"]) -> Float[Array, "batch height width 3"]:
    """Images in [-1, 1], normalised per channel to the input range of the trunks."""
    return (images - jnp.array(SHIFT)) / jnp.array(SCALE)


def distance(a: Sequence[Maps], b: Sequence[Maps], weights: Sequence[Float[Array, " _"]]) -> Float[Array, " batch"]:
    """The LPIPS distance of each pair of images, 0 for equal feature maps.

    Args:
      a, b: feature maps of the images, one array per tap.
      weights: channel weights, one array per tap.
    """
    total = jnp.zeros(len(a[0]))
    for x, y, w in zip(a, b, weights, strict=True):
        x, y = (z / (jnp.linalg.norm(z, axis=-1, keepdims=True) + EPSILON) for z in (x, y))
        total = total + jnp.mean(jnp.sum(w * jnp.square(x - y), axis=-1), axis=(1, 2))
    return total
