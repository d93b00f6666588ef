"""Nearest neighbours in pixel space: are samples copies of training images?"""

import numpy as np
from jaxtyping import Float64, Int64, UInt8

Images = UInt8[np.ndarray, "_ height width channel"]


def nearest_neighbours(
    queries: Images, references: Images, block: int = 256
) -> tuple[Float64[np.ndarray, " Q"], Int64[np.ndarray, " Q"]]:
    """Euclidean distance to, and index of, the nearest reference of each query; pixels scaled to [0, 1].

    |q - r|^2 = |q|^2 + |r|^2 - 2 q.r on integers, so that copies are at distance exactly 0. Memory is bounded
    by `block`.

    Raises:
      ValueError: image shapes differ, or there are no references.
    """
    if queries.shape[1:] != references.shape[1:] or not len(references):
        raise ValueError(f"cannot compare images {queries.shape} with {references.shape}")
    flat_r = references.reshape(len(references), -1).astype(np.float64)
    norms_r = np.sum(flat_r**2, axis=1)
    distances, indices = [], []
    for start in range(0, len(queries), block):
        q = queries[start : start + block].reshape(-1, flat_r.shape[1]).astype(np.float64)
        squared = np.sum(q**2, axis=1)[:, None] + norms_r - 2 * q @ flat_r.T
        best = np.argmin(squared, axis=1)
        indices.append(best)
        distances.append(np.sqrt(np.maximum(squared[np.arange(len(q)), best], 0)) / 255)
    return np.concatenate(distances), np.concatenate(indices)
