"""The Inception Score: exp E KL(p(y | x) || p(y)) (Salimans et al. 2016), computed from running sums.

    E KL = E sum_y p(y|x) log p(y|x)  -  sum_y p(y) log p(y)          p(y) = E p(y|x)

Each split therefore needs only a count, a sum of numbers and a sum of distributions, in float64. A split is a run of
consecutive images: with S splits, split s of N images starts at floor(s N / S), as in the original code. With a
classifier other than the FID Inception the same number is called a classifier score.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Float64
from scipy.special import log_softmax, xlogy

SPLITS = 10


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreSums:
    """Running sums over the images of each split.

    Attributes:
      total: N, the number of images that the score is over.
      seen: number of images added so far.
      counts: number of images added to each split.
      negentropies: sums of sum_y p(y|x) log p(y|x), in nats.
      probabilities: sums of p(y|x).
    """

    total: int
    seen: int
    counts: Float64[np.ndarray, " splits"]
    negentropies: Float64[np.ndarray, " splits"]
    probabilities: Float64[np.ndarray, "splits classes"]

    @classmethod
    def empty(cls, total: int, classes: int, splits: int = SPLITS) -> "ScoreSums":
        """The sums before any image is added.

        Args:
          total: number of images that will be added.
          classes: number of logits.
          splits: number of splits, from 1 to `total`.
        Raises:
          ValueError: there are fewer images than splits.
        """
        if not 1 <= splits <= total:
            raise ValueError(f"{splits} splits need at least as many images, got {total}")
        return cls(total, 0, np.zeros(splits), np.zeros(splits), np.zeros((splits, classes)))

    def add(self, logits: Float[np.ndarray, "rows classes"], first: int | None = None) -> "ScoreSums":
        """The sums with more images added.

        Args:
          logits: of consecutive images.
          first: index of the first of these images among all; by default they follow the images added so far.
        Raises:
          ValueError: a logit is not finite, or there are more images than `total`.
        """
        if not np.isfinite(logits).all():
            raise ValueError("logits are not finite")
        if self.seen + len(logits) > self.total:
            raise ValueError(f"more than the {self.total} images that the score is over were added")
        log_p = log_softmax(logits.astype(np.float64), axis=-1)
        p = np.exp(log_p)
        indices = (self.seen if first is None else first) + np.arange(len(logits))
        split = ((indices + 1) * len(self.counts) - 1) // self.total
        counts, negentropies, probabilities = (x.copy() for x in (self.counts, self.negentropies, self.probabilities))
        np.add.at(counts, split, 1.0)
        np.add.at(negentropies, split, np.sum(p * log_p, axis=-1))
        np.add.at(probabilities, split, p)
        return ScoreSums(self.total, self.seen + len(logits), counts, negentropies, probabilities)

    def merge(self, other: "ScoreSums") -> "ScoreSums":
        """The sums over the images of two parts of the same set.

        Raises:
          ValueError: the parts belong to sets of different size, classes or splits.
        """
        if self.total != other.total or self.probabilities.shape != other.probabilities.shape:
            raise ValueError(f"parts of sets of {self.total} and of {other.total} images cannot be merged")
        sums = (getattr(self, name) + getattr(other, name) for name in ("counts", "negentropies", "probabilities"))
        return ScoreSums(self.total, self.seen + other.seen, *sums)

    def result(self) -> tuple[float, float]:
        """Mean and standard deviation of the score over splits; the score is between 1 and the number of classes.

        Raises:
          ValueError: images are missing, or were added twice.
        """
        if self.seen != self.total:
            raise ValueError(f"only {self.seen} of {self.total} images were added")
        ends = np.arange(len(self.counts) + 1) * self.total // len(self.counts)
        if (self.counts != np.diff(ends)).any():
            raise ValueError("some images were added twice and others not at all")
        marginal = self.probabilities / self.counts[:, None]
        scores = np.exp(self.negentropies / self.counts - np.sum(xlogy(marginal, marginal), axis=-1))
        return float(scores.mean()), float(scores.std())
