"""Paths between two latents: along a straight line, or along the sphere near which Gaussian latents lie.

Spherical interpolation: Shoemake 1985.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

Latents = Float[Array, "batch d"]
Weights = Float[Array, " frames"]
Path = Float[Array, "batch frames d"]

MIN_SINE = 1e-3  # below this sine float32 cannot resolve the angle, and the path along the sphere is nearly straight


def linear(a: Latents, b: Latents, weights: Weights) -> Path:
    """(1 - w) a + w b for each weight w."""
    w = weights[None, :, None]
    return (1 - w) * a[:, None] + w * b[:, None]


def spherical(a: Latents, b: Latents, weights: Weights) -> Path:
    """[sin((1 - w) angle) a + sin(w angle) b] / sin(angle), where `angle` is the angle between a and b.

    If a and b have the same length, so has every point of the path. The path is a straight line if a and b are
    parallel or one of them is zero.
    """
    lengths = jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1)
    cosine = jnp.where(lengths > 0, jnp.sum(a * b, axis=-1) / jnp.where(lengths > 0, lengths, 1), 1)
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))[:, None, None]
    flat = jnp.sin(angle) < MIN_SINE
    sine = jnp.where(flat, 1, jnp.sin(angle))
    w = weights[None, :, None]
    path = (jnp.sin((1 - w) * angle) * a[:, None] + jnp.sin(w * angle) * b[:, None]) / sine
    return jnp.where(flat, linear(a, b, weights), path)


KINDS = {"linear": linear, "spherical": spherical}


def interpolate(kind: str, a: Latents, b: Latents, frames: int) -> Path:
    """Equally spaced points on a path from a to b, both ends included.

    Args:
      kind: "linear" or "spherical".
      a, b: latents, [batch, d].
      frames: number of points.
    Raises:
      ValueError: an unknown kind, or fewer than two frames.
    """
    if frames < 2:
        raise ValueError(f"frames={frames}: must be at least 2")
    if kind not in KINDS:
        raise ValueError(f"unknown kind of interpolation {kind!r}; there are {', '.join(KINDS)}")
    return KINDS[kind](a, b, jnp.linspace(0, 1, frames))
