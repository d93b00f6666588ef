"""Count, mean and covariance of features that arrive in batches, in float64 on the host.

Two parts with n_1 and n_2 rows, means m_1 and m_2 and scatters C = sum (x - m)(x - m)^T merge to (Chan et al. 1983)

    m = m_1 + n_2/n (m_2 - m_1)        C = C_1 + C_2 + n_1 n_2/n (m_2 - m_1)(m_2 - m_1)^T

The order and grouping do not matter, so that batches, shards and processes can be merged. As long as there are no more
rows than dimensions, the rows themselves are kept. They take no more memory than the scatter, and keep full accuracy,
whereas a square root of a rank-deficient covariance loses half of the digits.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Float64, Shaped

COVARIANCE_DIVISOR = "N-1"


@dataclasses.dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian fitted to features; its covariance is stored either as it is or as a factor.

    Attributes:
      mean: of the features.
      matrix: the covariance [d, d], or if `factored` a factor F [k, d] with covariance = F^T F.
      factored: whether `matrix` is a factor.
      count: number of rows to which it was fitted; None if a statistics file does not state it.
    """

    mean: Float64[np.ndarray, " d"]
    matrix: Float64[np.ndarray, "k d"]
    factored: bool
    count: int | None

    def full(self) -> Float64[np.ndarray, "d d"]:
        """The covariance."""
        return self.matrix.T @ self.matrix if self.factored else self.matrix

    @classmethod
    def given(
        cls, mean: Shaped[np.ndarray, "..."], covariance: Shaped[np.ndarray, "..."], count: int | None = None
    ) -> "Gaussian":
        """A Gaussian from a mean [d] and a covariance [d, d], such as a statistics file contains.

        Raises:
          ValueError: the shapes do not fit, a value is not a finite real number, or the covariance is none: it is not
            symmetric, or it has a negative eigenvalue that rounding does not explain (see `_check_eigenvalues`).
        """
        if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
            raise ValueError(f"a mean [d] and a covariance [d, d] are needed, got {mean.shape} and {covariance.shape}")
        for name, values in (("mean", mean), ("covariance", covariance)):
            if not np.issubdtype(values.dtype, np.floating) and not np.issubdtype(values.dtype, np.integer):
                raise ValueError(f"the {name} must be real numbers, got {values.dtype}")
        mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
        if not np.isfinite(mean).all() or not np.isfinite(covariance).all():
            raise ValueError("the mean or the covariance has values that are not finite")
        if not np.allclose(covariance, covariance.T, rtol=1e-5, atol=1e-5 * np.abs(covariance).max()):
            raise ValueError("the covariance is not symmetric")
        covariance = (covariance + covariance.T) / 2
        _check_eigenvalues(covariance)
        return cls(mean, covariance, False, count)


def _check_eigenvalues(covariance: Float64[np.ndarray, "d d"]) -> None:
    """Raises ValueError if a symmetric matrix has a negative eigenvalue that rounding does not explain.

    Rounding the entries of S to float32, in which some tools store covariances, moves its eigenvalues by at most
    |S - rounded S|_F <= eps/2 |S|_F <= eps/2 sqrt(d) max |eigenvalue| (Weyl's inequality), with eps = 2^-23. Twice that
    is allowed. Covariances of fewer images than dimensions, which are singular, stay a thousand times below it even if
    all their arithmetic is done in float32.
    """
    dimension = len(covariance)
    tolerance = np.sqrt(dimension) * np.finfo(np.float32).eps
    least = np.max(np.diag(covariance))  # no more than the largest eigenvalue
    try:  # takes a tenth of the time of the eigenvalues, and succeeds if none is below -tolerance * least
        np.linalg.cholesky(covariance + tolerance * least * np.eye(dimension))
    except np.linalg.LinAlgError:
        values = np.linalg.eigvalsh(covariance)
        if values[0] < -tolerance * values[-1]:
            raise ValueError(
                f"the covariance is invalid: it has negative eigenvalues down to {values[0]:.3g}, with the largest at "
                f"{values[-1]:.3g}"
            ) from None


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """The first two moments of N rows of d features.

    Attributes:
      count: N.
      mean: over the rows.
      kept: all rows [N, d] if N <= d, otherwise their scatter [d, d], the sum of (x - mean)(x - mean)^T.
    """

    count: int
    mean: Float64[np.ndarray, " d"]
    kept: Float64[np.ndarray, "k d"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "N d"], mask: Bool[np.ndarray, " N"] | None = None) -> "Moments":
        """The moments of a batch of features.

        Args:
          features: one row per image.
          mask: False for rows that are padding and do not count.
        Raises:
          ValueError: features are not [N, d], or a row that counts is not finite.
        """
        if features.ndim != 2 or not features.shape[1]:
            raise ValueError(f"features must be [N, d], got shape {features.shape}")
        rows = (features if mask is None else features[mask]).astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if bad.size:
            raise ValueError(f"features of {len(bad)} of {len(rows)} images are not finite, first of image {bad[0]}")
        mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
        return cls(len(rows), mean, rows if len(rows) <= len(mean) else _scatter(rows, mean))

    @property
    def dimension(self) -> int:
        """d, the number of features."""
        return len(self.mean)

    @property
    def keeps_rows(self) -> bool:
        """Whether `kept` are the rows, not their scatter."""
        return self.count <= self.dimension

    def scattered(self) -> Float64[np.ndarray, "d d"]:
        """The scatter matrix, computed from the rows if these are kept."""
        return _scatter(self.kept, self.mean) if self.keeps_rows else self.kept

    def merge(self, other: "Moments") -> "Moments":
        """The moments of the rows of both parts.

        Raises:
          ValueError: the parts have different dimensions.
        """
        if self.dimension != other.dimension:
            raise ValueError(f"features of {self.dimension} and of {other.dimension} dimensions cannot be merged")
        count = self.count + other.count
        if not self.count or not other.count:
            return other if other.count else self
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        if count <= self.dimension:
            return Moments(count, mean, np.concatenate([self.kept, other.kept]))  # both parts have fewer rows still
        scatter = self.scattered() + other.scattered()
        scatter += np.outer(shift, shift * (self.count * other.count / count))
        return Moments(count, mean, scatter)

    def gaussian(self) -> Gaussian:
        """The fitted Gaussian, whose covariance has the divisor N - 1.

        Raises:
          ValueError: there are fewer than two rows.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least two images, got {self.count}")
        if self.keeps_rows:
            return Gaussian(self.mean, (self.kept - self.mean) / np.sqrt(self.count - 1), True, self.count)
        return Gaussian(self.mean, self.kept / (self.count - 1), False, self.count)


def _scatter(rows: Float64[np.ndarray, "N d"], mean: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, "d d"]:
    deviations = rows - mean
    return deviations.T @ deviations


def merged(parts: Iterable[Moments]) -> Moments:
    """The moments of the rows of all parts, of which there must be at least one."""
    first, *rest = parts
    for part in rest:
        first = first.merge(part)
    return first
