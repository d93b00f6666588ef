"""The kernel distance: squared maximum mean discrepancy under a cubic kernel (KID, Binkowski et al. 2018).

    k(x, y) = (x.y / d + 1)^3
    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

This estimate is unbiased and may be negative. It is averaged over random subsets of equal size. Everything is computed
in float64, because the three terms nearly cancel.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

SUBSETS = 100
SUBSET_SIZE = 1000


class KernelDistance(NamedTuple):
    """The kernel distance.

    Attributes:
      mean: over subsets.
      std: standard deviation of single subsets, which is not the standard error of the mean.
    """

    mean: float
    std: float


def mmd2(x: Float[np.ndarray, "m d"], y: Float[np.ndarray, "m d"]) -> float:
    """The unbiased estimate of MMD^2 from two sets of m features each."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    size, d = x.shape

    def within(z):
        gram = (z @ z.T / d + 1) ** 3
        return (gram.sum() - np.trace(gram)) / (size * (size - 1))

    return float(within(x) + within(y) - 2 * np.mean((x @ y.T / d + 1) ** 3))


def subset_indices(n: int, subsets: int, size: int, rng: np.random.Generator) -> Int[np.ndarray, "subsets size"]:
    """The row indices of each subset, which are drawn from 0 .. n - 1 without replacement."""
    return np.stack([rng.choice(n, size, replace=False) for _ in range(subsets)])


def kernel_distance(
    a: Float[np.ndarray, "N d"],
    b: Float[np.ndarray, "M d"],
    subsets: int = SUBSETS,
    size: int = SUBSET_SIZE,
    seed: int = 0,
    advance: Callable[[int], object] = lambda subsets: None,
) -> KernelDistance:
    """The kernel distance between two sets of features.

    Args:
      subsets: number of random subsets.
      size: rows of a subset, from 2 to the rows of the smaller set.
      seed: of the random subsets.
      advance: progress callback; it receives the number of subsets completed since the last call.
    Raises:
      ValueError: `size` is out of range, dimensions differ, or features are not finite.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features of {a.shape[1]} and of {b.shape[1]} dimensions cannot be compared")
    if not 2 <= size <= min(len(a), len(b)):
        raise ValueError(f"subsets of {size} need as many images on both sides, got {len(a)} and {len(b)}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features are not finite")
    rng = np.random.default_rng(seed)
    values = np.zeros(subsets)
    rows = (subset_indices(len(x), subsets, size, rng) for x in (a, b))
    for subset, (i, j) in enumerate(zip(*rows, strict=True)):
        values[subset] = mmd2(a[i], b[j])
        advance(1)
    return KernelDistance(float(values.mean()), float(values.std()))
