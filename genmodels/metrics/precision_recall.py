"""Precision, recall, density and coverage of generated features, by balls with k nearest neighbours.

Each point has a ball around it, whose radius is the distance to the k-th nearest other point of the same set. The
manifold of a set is the union of its balls.

    precision   share of generated points inside the real manifold                 Kynkaanniemi et al. 2019, eq. 1-2
    recall      share of real points inside the generated manifold
    density     mean over generated points of (real balls that contain it) / k     Naeem et al. 2020, eq. 4-5
    coverage    share of real balls that contain a generated point

A point on the surface of a ball is inside (<=). Squared distances |x|^2 + |y|^2 - 2 x.y are computed in float32 on the
device; they are exact for features that are small integers. They are computed in blocks, so that memory grows with the
number of points and not with its square.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

NEIGHBOURS = 3
BLOCK = 2048  # points whose distances are computed at once


class Manifolds(NamedTuple):
    """Precision, recall and coverage, each in [0, 1], and density, which may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def _squared(x: Float[Array, "a d"], y: Float[Array, "b d"]) -> Float[Array, "a b"]:
    product = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(jnp.sum(x**2, 1)[:, None] + jnp.sum(y**2, 1) - 2 * product, 0.0)


def _padded(features: Float[np.ndarray, "N d"], block: int) -> Float32[np.ndarray, "blocks block d"]:
    """The features in blocks of equal size; the last is filled up with zeros, which callers mask by their index."""
    count = -(-len(features) // block)
    padded = np.zeros((count * block, features.shape[1]), np.float32)
    padded[: len(features)] = features
    return padded.reshape(count, block, -1)


@functools.partial(jax.jit, static_argnames="k")
def _update_nearest(nearest, x, y, first_x, first_y, count, k):
    """The k smallest squared distances [a, k] from each x to other points, after one more block y is considered."""
    rows = first_x + jnp.arange(len(x))
    columns = first_y + jnp.arange(len(y))
    excluded = (rows[:, None] == columns) | (columns >= count)  # the point itself, and padding
    squared = jnp.where(excluded, jnp.inf, _squared(x, y))
    return -jax.lax.top_k(-jnp.concatenate([nearest, squared], axis=1), k)[0]


def radii(
    features: Float[np.ndarray, "N d"],
    k: int = NEIGHBOURS,
    block: int = BLOCK,
    advance: Callable[[int], object] = lambda rows: None,
) -> Float32[np.ndarray, " N"]:
    """The squared distance of each point to its k-th nearest other point.

    Args:
      features: the points.
      k: at least 1 and less than N.
      block: points whose distances are computed at once.
      advance: progress callback; it receives the number of points completed since the last call.
    Raises:
      ValueError: k is out of range.
    """
    if not 1 <= k < len(features):
        raise ValueError(f"{k} nearest neighbours need more than {k} images, got {len(features)}")
    blocks = _padded(features, block)
    parts = []
    for i, x in enumerate(blocks):
        nearest = jnp.full((block, k), jnp.inf)
        for j, y in enumerate(blocks):
            nearest = _update_nearest(nearest, x, y, i * block, j * block, len(features), k)
        parts.append(np.asarray(nearest[:, -1]))
        advance(min(block, len(features) - i * block))
    return np.concatenate(parts)[: len(features)]


@jax.jit
def _inside(real, fake, real_radii, fake_radii, real_count, fake_count):
    """Which points of two blocks are inside balls of the other block; points beyond the counts are padding.

    Returns:
      For each fake point the number of real balls that contain it; for each real point whether its ball contains a
      fake point, and whether it is inside a fake ball.
    """
    squared = _squared(real, fake)
    valid = (jnp.arange(len(real)) < real_count)[:, None] & (jnp.arange(len(fake)) < fake_count)
    in_real = (squared <= real_radii[:, None]) & valid
    in_fake = (squared <= fake_radii) & valid
    return in_real.sum(0), in_real.any(1), in_fake.any(1)


def manifolds(
    real: Float[np.ndarray, "N d"],
    fake: Float[np.ndarray, "M d"],
    k: int = NEIGHBOURS,
    block: int = BLOCK,
    advance: Callable[[int], object] = lambda rows: None,
) -> Manifolds:
    """Precision, recall, density and coverage of `fake` against `real`.

    Args:
      real, fake: features, one row per image.
      k: nearest neighbours that determine a radius, at least 1 and less than N and M.
      block: points whose distances are computed at once.
      advance: progress callback; it receives the number of points completed since the last call, 2 N + M in all.
    Raises:
      ValueError: k is out of range, dimensions differ, or features are not finite.
    """
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"features of {real.shape[1]} and of {fake.shape[1]} dimensions cannot be compared")
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise ValueError("features are not finite")
    block = min(block, max(len(real), len(fake)))
    n, m = len(real), len(fake)
    origin = real[0]  # a large common offset would cost accuracy in |x|^2 + |y|^2 - 2 x.y
    real, fake = real - origin, fake - origin
    real_radii, fake_radii = (_padded(radii(x, k, block, advance)[:, None], block)[..., 0] for x in (real, fake))
    real_blocks, fake_blocks = _padded(real, block), _padded(fake, block)
    balls_around = np.zeros((len(fake_blocks), block), np.int64)
    covered, recalled = (np.zeros((len(real_blocks), block), bool) for _ in range(2))
    for i, (x, x_radii) in enumerate(zip(real_blocks, real_radii, strict=True)):
        for j, (y, y_radii) in enumerate(zip(fake_blocks, fake_radii, strict=True)):
            parts = _inside(x, y, x_radii, y_radii, n - i * block, m - j * block)
            balls, contains, inside = (np.asarray(part) for part in parts)
            balls_around[j] += balls
            covered[i] |= contains
            recalled[i] |= inside
        advance(min(block, n - i * block))
    balls_around = balls_around.reshape(-1)[:m]
    return Manifolds(
        precision=float(np.mean(balls_around > 0)),
        recall=float(recalled.sum() / n),
        density=float(balls_around.mean() / k),
        coverage=float(covered.sum() / n),
    )
