"""Precision, recall, density and coverage of generated features, by balls around k nearest neighbours.

A set's manifold is the union of balls around its points, each reaching to the point's k-th nearest other point.

    precision   share of generated points inside the real manifold            Kynkaanniemi et al. 2019, eq. 1-2
    recall      share of real points inside the generated manifold
    density     mean over generated points of (real balls it is in) / k       Naeem et al. 2020, eq. 4-5
    coverage    share of real balls that hold a generated point

A point on a ball's surface is inside (<=). Squared distances are |x|^2 + |y|^2 - 2 x.y, float32 on the device, in
blocks, so memory grows with N and not with its square; on features that are small integers they are exact.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

NEIGHBOURS = 3
BLOCK = 2048


class Manifolds(NamedTuple):
    """Precision, recall, density and coverage."""

    precision: float
    recall: float
    density: float
    coverage: float


def _squared(x: Float[Array, "a d"], y: Float[Array, "b d"]) -> Float[Array, "a b"]:
    product = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(jnp.sum(x**2, 1)[:, None] + jnp.sum(y**2, 1) - 2 * product, 0.0)


def _padded(features: Float[np.ndarray, "N d"], block: int) -> Float32[np.ndarray, "blocks block d"]:
    """In blocks; the padding is rows of infinity's stead, masked by index."""
    count = -(-len(features) // block)
    whole = np.zeros((count * block, features.shape[1]), np.float32)
    whole[: len(features)] = features
    return whole.reshape(count, block, -1)


@functools.partial(jax.jit, static_argnames="k")
def _nearer(best, x, y, first_x, first_y, count, k):
    """The k smallest squared distances from each x to others, given those so far."""
    rows = first_x + jnp.arange(len(x))
    columns = first_y + jnp.arange(len(y))
    out = (rows[:, None] == columns) | (columns >= count)
    squared = jnp.where(out, jnp.inf, _squared(x, y))
    return -jax.lax.top_k(-jnp.concatenate([best, squared], axis=1), k)[0]


def radii(
    features: Float[np.ndarray, "N d"],
    k: int = NEIGHBOURS,
    block: int = BLOCK,
    advance: Callable[[int], object] = lambda rows: None,
) -> Float32[np.ndarray, " N"]:
    """Squared distance of each point to its k-th nearest other point.

    Args:
      advance: told how many points more are done.
    Raises:
      ValueError: k or fewer points.
    """
    if not 1 <= k < len(features):
        raise ValueError(f"{k} nearest neighbours need more than {k} images, got {len(features)}")
    blocks = _padded(features, block)
    parts = []
    for i, x in enumerate(blocks):
        best = jnp.full((block, k), jnp.inf)
        for j, y in enumerate(blocks):
            best = _nearer(best, x, y, i * block, j * block, len(features), k)
        parts.append(np.asarray(best[:, -1]))
        advance(min(block, len(features) - i * block))
    return np.concatenate(parts)[: len(features)]


@jax.jit
def _inside(real, fake, real_radii, fake_radii, real_count, fake_count):
    """Of two blocks: real balls each fake is in, whether each real ball holds one, whether each real is in a ball."""
    squared = _squared(real, fake)
    there = (jnp.arange(len(real)) < real_count)[:, None] & (jnp.arange(len(fake)) < fake_count)
    in_real = (squared <= real_radii[:, None]) & there
    in_fake = (squared <= fake_radii) & there
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
      advance: told how many points more are done; there will be 2 N + M.
    Raises:
      ValueError: k or fewer points on a side, different dimensions, or features that are not finite.
    """
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"features of {real.shape[1]} and of {fake.shape[1]} dimensions have no distance")
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise ValueError("features are not finite")
    block = min(block, max(len(real), len(fake)))
    n, m = len(real), len(fake)
    origin = real[0]  # a shift common to all would cost digits of |x|^2 - 2 x.y
    real, fake = real - origin, fake - origin
    real_radii, fake_radii = (_padded(radii(x, k, block, advance)[:, None], block)[..., 0] for x in (real, fake))
    real_blocks, fake_blocks = _padded(real, block), _padded(fake, block)
    held = np.zeros((len(fake_blocks), block), np.int64)
    covered, recalled = (np.zeros((len(real_blocks), block), bool) for _ in range(2))
    for i, (x, x_radii) in enumerate(zip(real_blocks, real_radii, strict=True)):
        for j, (y, y_radii) in enumerate(zip(fake_blocks, fake_radii, strict=True)):
            found = _inside(x, y, x_radii, y_radii, n - i * block, m - j * block)
            balls, holds, inside = (np.asarray(part) for part in found)
            held[j] += balls
            covered[i] |= holds
            recalled[i] |= inside
        advance(min(block, n - i * block))
    held = held.reshape(-1)[:m]
    return Manifolds(
        precision=float(np.mean(held > 0)),
        recall=float(recalled.sum() / n),
        density=float(held.mean() / k),
        coverage=float(covered.sum() / n),
    )
