"""The Frechet distance between Gaussians fitted to two sets of features (Dowson & Landau 1982; Heusel et al. 2017).

    FD = |mu_1 - mu_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1 S_2)^(1/2)
    tr (S_1 S_2)^(1/2) = |A B^T|_*          A, B: centred features over sqrt(n - 1), so S = A^T A

The nuclear norm needs no matrix square root, which loses digits and turns complex for rank-deficient covariances. With
A = Q R, |A B^T|_* = |R_A R_B^T|_*, at most d x d. All of it in float64 on the host.
"""

import numpy as np
from jaxtyping import Float

SOLVER = "nuclear norm by QR and SVD, float64"
COVARIANCE_DIVISOR = "N-1"


def frechet_distance(a: Float[np.ndarray, "N d"], b: Float[np.ndarray, "M _"]) -> float:
    """FD between two sets of features, also when N or M is below d; at least 0 up to rounding.

    Raises:
      ValueError: fewer than two rows, different widths, or features that are not finite.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features must be [N, d] and [M, d], got {a.shape} and {b.shape}")
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a covariance needs at least two rows, got {len(a)} and {len(b)}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not np.isfinite(a).all() or not np.isfinite(b).all():
        raise ValueError("features are not finite")
    mean_a, mean_b = a.mean(0), b.mean(0)
    a, b = (a - mean_a) / np.sqrt(len(a) - 1), (b - mean_b) / np.sqrt(len(b) - 1)
    product = np.linalg.qr(a, mode="r") @ np.linalg.qr(b, mode="r").T
    cross = np.linalg.svd(product, compute_uv=False).sum()
    return float(np.sum((mean_a - mean_b) ** 2) + np.sum(a**2) + np.sum(b**2) - 2 * cross)
