"""The Frechet distance between Gaussians fitted to two sets of features (Dowson & Landau 1982; Heusel et al. 2017).

    FD = |mu_1 - mu_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1 S_2)^(1/2)
    tr (S_1 S_2)^(1/2) = |A B^T|_*        with any factors S_1 = A^T A, S_2 = B^T B

where |.|_* is the nuclear norm, the sum of singular values. It replaces the matrix square root, which loses digits and
becomes complex if a covariance has deficient rank. A factor is made of the centred rows over sqrt(N - 1) if there are
no more rows than dimensions, otherwise by Cholesky's method, and if that fails from eigenvectors. Singular values are
the roots of the eigenvalues of a Gram matrix where this provably loses no accuracy, otherwise they come from an SVD.
Everything is computed in float64 on the host.

FD is biased: E FD_N = FD + c/N + ... (Chong & Forsyth 2020). Distances of different N are therefore not comparable.
`extrapolated` fits a line in 1/N and returns its value at 1/N = 0.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from genmodels.metrics.moments import Gaussian, Moments

TOLERANCE = 1e-9  # relative to the traces: the error that the eigenvalue method may have
POINTS = 15  # subset sizes of the extrapolation (Chong & Forsyth 2020)


class Distance(NamedTuple):
    """A Frechet distance.

    Attributes:
      value: at least 0, in squared units of the features.
      solver: the numerical methods that were used, for protocols.
    """

    value: float
    solver: str


def _factor(gaussian: Gaussian) -> tuple[Float64[np.ndarray, "k d"], str]:
    """F with covariance = F^T F, and the name of the method that found it."""
    if gaussian.factored:
        return gaussian.matrix, "rows"
    try:
        return np.linalg.cholesky(gaussian.matrix).T, "Cholesky"
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(gaussian.matrix)
        kept = values > len(values) * np.finfo(np.float64).eps * values[-1]  # smaller ones are rounding errors
        return np.sqrt(values[kept])[:, None] * vectors[:, kept].T, "eigenvectors"


def nuclear_norm(matrix: Float64[np.ndarray, "m n"], tolerance: float) -> tuple[float, str]:
    """The sum of singular values, and the name of the method that found it.

    Eigenvalues of the Gram matrix take a third of the time of an SVD, but have an absolute error of about eps times the
    largest eigenvalue. They are used if the errors of their roots add up to at most `tolerance`.
    """
    if not matrix.size:  # all images of one side are equal
        return 0.0, "nothing to decompose"
    gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    values = np.maximum(np.linalg.eigvalsh(gram), 0.0)
    slack = 10 * np.finfo(np.float64).eps * values[-1]
    loss = np.sum(np.minimum(slack / np.sqrt(np.maximum(values, slack)), np.sqrt(slack))) if slack else 0.0
    if loss <= tolerance:
        return float(np.sqrt(values).sum()), "eigenvalues"
    return float(np.linalg.svd(matrix, compute_uv=False).sum()), "SVD"


def frechet_distance(a: Gaussian, b: Gaussian) -> Distance:
    """FD between two Gaussians, whose covariances may have deficient rank.

    Raises:
      ValueError: the Gaussians have different dimensions.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(f"features of {len(a.mean)} and of {len(b.mean)} dimensions cannot be compared")
    (factor_a, method_a), (factor_b, method_b) = _factor(a), _factor(b)
    traces = np.sum(factor_a**2) + np.sum(factor_b**2)
    cross, method = nuclear_norm(factor_a @ factor_b.T, TOLERANCE * traces)
    value = np.sum((a.mean - b.mean) ** 2) + traces - 2 * cross
    factors = method_a if method_a == method_b else f"{method_a} and {method_b}"
    return Distance(max(float(value), 0.0), f"nuclear norm, factors by {factors}, {method}, float64")


class Extrapolated(NamedTuple):
    """FD extrapolated to infinitely many images.

    Attributes:
      value: the fitted line at 1/N = 0; it may be negative.
      sizes, distances: number of images and FD of each subset to which the line was fitted.
    """

    value: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def extrapolated(
    features: Float[np.ndarray, "N d"],
    reference: Gaussian,
    seed: int,
    min_size: int,
    advance: Callable[[int], object] = lambda points: None,
) -> Extrapolated:
    """FD_infinity of `features` against `reference` (Chong & Forsyth 2020, section 3).

    A line in 1/N is fitted to the distances of POINTS random subsets, whose sizes are evenly spaced from `min_size` to
    all rows.

    Args:
      seed: of the random subsets.
      min_size: rows of the smallest subset, at least 2 and less than N.
      advance: progress callback; it receives the number of subsets completed since the last call.
    Raises:
      ValueError: `min_size` is out of range.
    """
    if not 2 <= min_size < len(features):
        raise ValueError(f"the extrapolation needs more than {min_size} images, got {len(features)}")
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.linspace(min_size, len(features), POINTS).astype(int))
    distances = []
    for size in sizes:
        subset = rng.choice(len(features), size, replace=False)
        distances.append(frechet_distance(Moments.of(features[subset]).gaussian(), reference).value)
        advance(1)
    intercept = np.polynomial.polynomial.polyfit(1 / sizes, distances, 1)[0]
    return Extrapolated(float(intercept), tuple(int(size) for size in sizes), tuple(distances))
