"""Conversion of images between uint8 and [-1, 1], on the device."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8


def normalize(batch: dict[str, Array]) -> dict[str, Array]:
    """The batch with its uint8 fields as float32 in [-1, 1], x / 127.5 - 1; other fields are returned unchanged."""
    return {
        name: value.astype(jnp.float32) / 127.5 - 1 if value.dtype == jnp.uint8 else value
        for name, value in batch.items()
    }


def denormalize(images: Float[Array, "*shape"]) -> UInt8[Array, "*shape"]:
    """uint8 images of images in [-1, 1]: values are clipped to that range, scaled to 0-255 and rounded."""
    return jnp.round((jnp.clip(images, -1, 1) + 1) * 127.5).astype(jnp.uint8)
