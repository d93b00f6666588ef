"""The kernel distance: squared maximum mean discrepancy under a cubic kernel (KID, Binkowski et al. 2018).

    k(x, y) = (x.y / d + 1)^3
    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

is unbiased and may be negative. It is averaged over random subsets of equal size. In float64: its terms nearly cancel.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

SUBSETS = 100
SUBSET_SIZE = 1000


class KernelDistance(NamedTuple):
    """Mean and standard deviation over subsets; the latter says how subsets scatter, not how sure the mean is."""

    mean: float
    std: float


def mmd2(x: Float[np.ndarray, "m d"], y: Float[np.ndarray, "m d"]) -> float:
    """The unbiased estimate from two sets of equal size."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    size, d = x.shape

    def among(z):
        gram = (z @ z.T / d + 1) ** 3
        return (gram.sum() - np.trace(gram)) / (size * (size - 1))

    return float(among(x) + among(y) - 2 * np.mean((x @ y.T / d + 1) ** 3))


def subset_indices(n: int, subsets: int, size: int, rng: np.random.Generator) -> Int[np.ndarray, "subsets size"]:
    """Rows of every subset, each drawn without replacement."""
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
      advance: told how many subsets more are done.
    Raises:
      ValueError: fewer rows than `size`, a size below 2, different dimensions, or features that are not finite.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features of {a.shape[1]} and of {b.shape[1]} dimensions have no distance")
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
