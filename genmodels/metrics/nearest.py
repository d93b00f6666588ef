"""Nearest neighbours in pixel space, which show whether samples are copies of training images."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64, UInt8

Images = UInt8[np.ndarray, "_ height width channel"]


@runtime_checkable
class Stack(Protocol):
    """Images that need not fit into memory, a part of `data.pixels.Stack`: `stack[indices]` returns their rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, height, width, channel)."""

    def __getitem__(self, indices: Int64[np.ndarray, " rows"], /) -> Images: ...


def nearest_neighbours(
    queries: Images, references: Images | Stack, memory: int = 2**27
) -> tuple[Float64[np.ndarray, " Q"], Int64[np.ndarray, " Q"]]:
    """The Euclidean distance from each query to its nearest reference, with pixels in [0, 1], and its index.

    |q - r|^2 = |q|^2 + |r|^2 - 2 q.r is computed on whole numbers, so that a copy has distance exactly 0. If several
    references are equally near, the first one is returned.

    Args:
      queries, references: uint8 images.
      memory: bytes of a block of references, as float64, that is held at once.
    Raises:
      ValueError: image shapes differ, or there are no references.
    """
    count = references.shape[0]
    if queries.shape[1:] != tuple(references.shape[1:]) or not count:
        raise ValueError(f"cannot compare images {queries.shape} with {references.shape}")
    block = max(1, memory // (8 * int(np.prod(queries.shape[1:]))))
    best, index = np.full(len(queries), np.inf), np.zeros(len(queries), np.int64)
    for start in range(0, count, block):
        r = references[np.arange(start, min(start + block, count))]
        r = r.reshape(len(r), -1).astype(np.float64)
        norms_r = np.sum(r**2, axis=1)
        for rows in (slice(i, i + 256) for i in range(0, len(queries), 256)):
            q = queries[rows].reshape(-1, r.shape[1]).astype(np.float64)
            squared = np.sum(q**2, axis=1)[:, None] + norms_r - 2 * q @ r.T
            candidates = np.argmin(squared, axis=1)
            nearest = squared[np.arange(len(q)), candidates]
            closer = nearest < best[rows]
            best[rows] = np.where(closer, nearest, best[rows])
            index[rows] = np.where(closer, start + candidates, index[rows])
    return np.sqrt(np.maximum(best, 0)) / 255, index
