"""Classifier-free guidance (Ho & Salimans 2022).

    guided = unconditional + guidance_scale (conditional - unconditional)

so a scale of 1 is the conditional model itself, everywhere in genmodels; the paper's w is our scale minus one.
Epsilon, x0 and velocity are affine in each other at fixed x_t, so any of them may be combined this way.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key

Images = Float[Array, "batch height width channel"]


def guided_prediction(conditional: Images, unconditional: Images, guidance_scale: Float[Array, " batch"]) -> Images:
    """The guided prediction, with a scale of its own for every example."""
    return unconditional + guidance_scale[:, None, None, None] * (conditional - unconditional)


def drop_labels(
    keys: Key[Array, " batch"], labels: Integer[Array, " batch"], rate: float, null_label: int
) -> Integer[Array, " batch"]:
    """Replaces each label by `null_label` with probability `rate`, so that one network learns both models."""
    dropped = jax.vmap(lambda key: jax.random.bernoulli(key, rate))(keys)
    return jnp.where(dropped, null_label, labels)
