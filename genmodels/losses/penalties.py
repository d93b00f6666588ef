"""Gradient penalties on a discriminator: pure functions of its scores around real and fake images.

They look at each example's gradient alone, which has a meaning only where no layer couples the rows of a batch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Images = Float[Array, "batch height width channel"]
Keys = Key[Array, " batch"]
Score = Callable[[Images], Float[Array, " batch"]]

TINY = 1e-12  # under the root, whose slope at zero is infinite


def squared_gradients(score: Score, images: Images) -> Float[Array, " batch"]:
    """|grad_x D(x)|^2 of each image."""
    gradients = jax.grad(lambda x: jnp.sum(score(x)))(images)
    return jnp.sum(jnp.square(gradients), axis=(1, 2, 3))


def wgan_gp(score: Score, real: Images, fake: Images, keys: Keys) -> Float[Array, ""]:
    """E (|grad D(x)| - 1)^2, x = u x_real + (1 - u) x_fake, each row's u uniform (Gulrajani et al. 2017, eq. 3)."""
    u = jax.vmap(jax.random.uniform)(keys)[:, None, None, None]
    lengths = jnp.sqrt(squared_gradients(score, u * real + (1 - u) * fake) + TINY)
    return jnp.mean(jnp.square(lengths - 1))


def r1(score: Score, real: Images, fake: Images, keys: Keys) -> Float[Array, ""]:
    """E |grad D(x)|^2 / 2 at real images (Mescheder et al. 2018, equation 9)."""
    return 0.5 * jnp.mean(squared_gradients(score, real))


PENALTIES = {"wgan_gp": wgan_gp, "r1": r1}
