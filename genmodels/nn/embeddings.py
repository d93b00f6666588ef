"""Sinusoidal embedding of diffusion time (Vaswani et al. 2017, section 3.5, as used by DDPM)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer


def sinusoidal_embedding(
    timesteps: Integer[Array, " batch"] | Float[Array, " batch"],
    dim: int,
    max_period: float = 10_000.0,
    frequency_shift: float = 1.0,
) -> Float[Array, "batch {dim}"]:
    """[sin(t w_0) .. sin(t w_k), cos(t w_0) .. cos(t w_k)], w_i = max_period^(-i / (dim/2 - frequency_shift)).

    With a frequency shift of 1, as in DDPM, the lowest frequency is 1 / max_period; with 0 it is slightly higher.

    Raises:
      ValueError: `dim` is odd or below 4.
    """
    if dim % 2 or dim < 4:
        raise ValueError(f"a sinusoidal embedding needs an even dimension of at least 4, got {dim}")
    half = dim // 2
    frequencies = jnp.exp(-jnp.log(max_period) * jnp.arange(half, dtype=jnp.float32) / (half - frequency_shift))
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
