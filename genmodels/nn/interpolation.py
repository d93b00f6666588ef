"""Paths between two latents: straight, or along the sphere on which Gaussian latents lie (Shoemake 1985)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Latents = Float[Array, "batch d"]
Weights = Float[Array, " frames"]
Path = Float[Array, "batch frames d"]

SMALL = 1e-3  # of sin(angle): below it float32 does not know the angle, and the sphere is flat


def linear(a: Latents, b: Latents, weights: Weights) -> Path:
    """(1 - w) a + w b."""
    w = weights[None, :, None]
    return (1 - w) * a[:, None] + w * b[:, None]


def spherical(a: Latents, b: Latents, weights: Weights) -> Path:
    """[sin((1 - w) angle) a + sin(w angle) b] / sin(angle), the angle being that between a and b.

    Keeps the length where a and b have the same; straight where they are parallel or one is zero.
    """
    lengths = jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1)
    cosine = jnp.where(lengths > 0, jnp.sum(a * b, axis=-1) / jnp.where(lengths > 0, lengths, 1), 1)
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))[:, None, None]
    flat = jnp.sin(angle) < SMALL
    sine = jnp.where(flat, 1, jnp.sin(angle))
    w = weights[None, :, None]
    path = (jnp.sin((1 - w) * angle) * a[:, None] + jnp.sin(w * angle) * b[:, None]) / sine
    return jnp.where(flat, linear(a, b, weights), path)


KINDS = {"linear": linear, "spherical": spherical}


def interpolate(kind: str, a: Latents, b: Latents, frames: int) -> Path:
    """Points at equal distances on a path of this kind, from a to b.

    Raises:
      ValueError: an unknown kind, or fewer than two frames.
    """
    if frames < 2:
        raise ValueError(f"frames={frames}: must be at least 2")
    if kind not in KINDS:
        raise ValueError(f"unknown kind of interpolation {kind!r}; there are {', '.join(KINDS)}")
    return KINDS[kind](a, b, jnp.linspace(0, 1, frames))
