"""Gradient penalties on a discriminator, computed from the gradients of its scores with respect to images.

Each penalty takes the gradient of an example's score with respect to that example. This is meaningful only if no layer
of the discriminator couples the rows of a batch, as batch norm does.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Images = Float[Array, "batch height width channel"]
Keys = Key[Array, " batch"]
Score = Callable[[Images], Float[Array, " batch"]]

EPSILON = 1e-12  # added under the square root, whose slope at zero is infinite


def squared_gradients(score: Score, images: Images) -> Float[Array, " batch"]:
    """|grad_x D(x)|^2 of each image x."""
    gradients = jax.grad(lambda x: jnp.sum(score(x)))(images)
    return jnp.sum(jnp.square(gradients), axis=(1, 2, 3))


def wgan_gp(score: Score, real: Images, fake: Images, keys: Keys) -> Float[Array, ""]:
    """E (|grad D(x)| - 1)^2 at x = u x_real + (1 - u) x_fake (Gulrajani et al. 2017, equation 3).

    Each row draws its u uniformly from [0, 1] with its own key.
    """
    u = jax.vmap(jax.random.uniform)(keys)[:, None, None, None]
    lengths = jnp.sqrt(squared_gradients(score, u * real + (1 - u) * fake) + EPSILON)
    return jnp.mean(jnp.square(lengths - 1))


def r1(score: Score, real: Images, fake: Images, keys: Keys) -> Float[Array, ""]:
    """E |grad D(x)|^2 / 2 at real images x (Mescheder et al. 2018, equation 9); `fake` and `keys` are not used."""
    return 0.5 * jnp.mean(squared_gradients(score, real))


PENALTIES = {"wgan_gp": wgan_gp, "r1": r1}
