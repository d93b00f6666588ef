"""The Frechet distance between Gaussians fitted to two sets of features (Dowson & Landau 1982; Heusel et al. 2017).

    FD = |mu_1 - mu_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1 S_2)^(1/2)
    tr (S_1 S_2)^(1/2) = |A B^T|_*        with any factors S_1 = A^T A, S_2 = B^T B

The nuclear norm needs no matrix square root, which loses digits and turns complex for covariances of deficient rank.
Factors are the centred rows over sqrt(N - 1) where no more rows than dimensions are there, else Cholesky's, else
eigenvectors. Singular values are roots of the eigenvalues of a Gram matrix where that provably costs nothing, else an
SVD's. All of it in float64 on the host.

FD is biased: E FD_N = FD + c/N + ... (Chong & Forsyth 2020), so distances of different N do not compare.
`extrapolated` fits the line in 1/N and gives its value at 0.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from genmodels.metrics.moments import Gaussian, Moments

TOLERANCE = 1e-9  # of the traces, which the fast route may lose
POINTS = 15  # of the extrapolation (Chong & Forsyth 2020)


class Distance(NamedTuple):
    """A value and the route that gave it."""

    value: float
    solver: str


def _factor(gaussian: Gaussian) -> tuple[Float64[np.ndarray, "k d"], str]:
    """F with covariance = F^T F, and how it was found."""
    if gaussian.factor is not None:
        return gaussian.factor, "rows"
    try:
        return np.linalg.cholesky(gaussian.covariance).T, "Cholesky"
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(gaussian.covariance)
        kept = values > len(values) * np.finfo(np.float64).eps * values[-1]  # the rest is rounding
        return np.sqrt(values[kept])[:, None] * vectors[:, kept].T, "eigenvectors"


def nuclear_norm(matrix: Float64[np.ndarray, "m n"], tolerance: float) -> tuple[float, str]:
    """The sum of singular values, and how it was found.

    Eigenvalues of the Gram matrix are three times as quick as an SVD but know small ones only to about eps times the
    largest; they serve where what their roots can lose by that, in sum, is below `tolerance`.
    """
    if not matrix.size:  # one side is a single point
        return 0.0, "nothing to decompose"
    gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    values = np.maximum(np.linalg.eigvalsh(gram), 0.0)
    slack = 10 * np.finfo(np.float64).eps * values[-1]
    loss = np.sum(np.minimum(slack / np.sqrt(np.maximum(values, slack)), np.sqrt(slack))) if slack else 0.0
    if loss <= tolerance:
        return float(np.sqrt(values).sum()), "eigenvalues"
    return float(np.linalg.svd(matrix, compute_uv=False).sum()), "SVD"


def frechet_distance(a: Gaussian, b: Gaussian) -> Distance:
    """FD between two Gaussians; also where they come from fewer rows than dimensions.

    Raises:
      ValueError: different dimensions.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(f"features of {len(a.mean)} and of {len(b.mean)} dimensions have no distance")
    (factor_a, how_a), (factor_b, how_b) = _factor(a), _factor(b)
    traces = np.sum(factor_a**2) + np.sum(factor_b**2)
    cross, how = nuclear_norm(factor_a @ factor_b.T, TOLERANCE * traces)
    value = np.sum((a.mean - b.mean) ** 2) + traces - 2 * cross
    factors = how_a if how_a == how_b else f"{how_a} and {how_b}"
    return Distance(max(float(value), 0.0), f"nuclear norm, factors by {factors}, {how}, float64")


class Extrapolated(NamedTuple):
    """FD at infinitely many images.

    Attributes:
      value: where the line through the distances meets 1/N = 0.
      sizes, distances: what it was fitted to.
    """

    value: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def extrapolated(
    features: Float[np.ndarray, "N d"],
    reference: Gaussian,
    seed: int,
    least: int,
    advance: Callable[[int], object] = lambda points: None,
) -> Extrapolated:
    """FD_infinity of `features` against `reference` (Chong & Forsyth 2020, section 3): a line in 1/N through the
    distances of POINTS random subsets of evenly growing size, from `least` to all.

    Args:
      advance: told how many points more are done.
    Raises:
      ValueError: `least` leaves no room below N.
    """
    if not 2 <= least < len(features):
        raise ValueError(f"the extrapolation needs more than {least} images, got {len(features)}")
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.linspace(least, len(features), POINTS).astype(int))
    distances = []
    for size in sizes:
        chosen = rng.choice(len(features), size, replace=False)
        distances.append(frechet_distance(Moments.of(features[chosen]).gaussian(), reference).value)
        advance(1)
    intercept = np.polynomial.polynomial.polyfit(1 / sizes, distances, 1)[0]
    return Extrapolated(float(intercept), tuple(int(size) for size in sizes), tuple(distances))
