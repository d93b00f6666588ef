"""Classifier-free guidance (Ho & Salimans 2022).

    guided = unconditional + guidance_scale (conditional - unconditional)

A scale of 1 is therefore the conditional model, everywhere in genmodels; the paper's w is this scale minus one.
Epsilon, x0 and velocity are affine functions of each other at fixed x_t, so each of them may be combined this way.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key

Images = Float[Array, "batch height width channel"]


def guided_prediction(conditional: Images, unconditional: Images, guidance_scale: Float[Array, " batch"]) -> Images:
    """The guided prediction; every example has its own scale."""
    return unconditional + guidance_scale[:, None, None, None] * (conditional - unconditional)


def drop_labels(
    keys: Key[Array, " batch"], labels: Integer[Array, " batch"], rate: float, null_label: int
) -> Integer[Array, " batch"]:
    """Replaces each label by `null_label` with probability `rate`, so that one network learns both models."""
    dropped = jax.vmap(lambda key: jax.random.bernoulli(key, rate))(keys)
    return jnp.where(dropped, null_label, labels)
