"""What happens to a batch on the device: uint8 to [-1, 1] and back."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8


def normalize(batch: dict[str, Array]) -> dict[str, Array]:
    """uint8 fields become float32 in [-1, 1], x / 127.5 - 1; all others pass."""
    return {
        name: value.astype(jnp.float32) / 127.5 - 1 if value.dtype == jnp.uint8 else value
        for name, value in batch.items()
    }


def denormalize(images: Float[Array, "*shape"]) -> UInt8[Array, "*shape"]:
    """[-1, 1] to 0-255: clipped and rounded."""
    return jnp.round((jnp.clip(images, -1, 1) + 1) * 127.5).astype(jnp.uint8)
