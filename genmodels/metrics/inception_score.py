"""The Inception Score: exp E KL(p(y | x) || p(y)) (Salimans et al. 2016), from sums that stream.

    E KL = E sum_y p(y|x) log p(y|x)  -  sum_y p(y) log p(y)          p(y) = E p(y|x)

so each split needs a count, one sum of numbers and one of distributions, in float64. Splits are runs of images in the
order given; with S of them, split s of N images begins at floor(s N / S), as in the original code. With any classifier
other than the FID Inception the same number is called a classifier score.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Float64
from scipy.special import log_softmax, xlogy

SPLITS = 10


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreSums:
    """Sums over the images of every split.

    Attributes:
      total: N, the images there will be.
      seen: how many have come.
    """

    total: int
    seen: int
    counts: Float64[np.ndarray, " splits"]
    negentropies: Float64[np.ndarray, " splits"]
    probabilities: Float64[np.ndarray, "splits classes"]

    @classmethod
    def empty(cls, total: int, classes: int, splits: int = SPLITS) -> "ScoreSums":
        """Nothing yet of `total` images.

        Raises:
          ValueError: fewer images than splits.
        """
        if not 1 <= splits <= total:
            raise ValueError(f"{splits} splits need at least as many images, got {total}")
        return cls(total, 0, np.zeros(splits), np.zeros(splits), np.zeros((splits, classes)))

    def add(self, logits: Float[np.ndarray, "rows classes"], first: int | None = None) -> "ScoreSums":
        """With more images.

        Args:
          first: the place of their first among all; by default they come in order.
        Raises:
          ValueError: logits that are not finite, or more images than were announced.
        """
        if not np.isfinite(logits).all():
            raise ValueError("logits are not finite")
        if self.seen + len(logits) > self.total:
            raise ValueError(f"more than the {self.total} images announced")
        log_p = log_softmax(logits.astype(np.float64), axis=-1)
        p = np.exp(log_p)
        places = (self.seen if first is None else first) + np.arange(len(logits))
        split = ((places + 1) * len(self.counts) - 1) // self.total
        counts, negentropies, probabilities = (x.copy() for x in (self.counts, self.negentropies, self.probabilities))
        np.add.at(counts, split, 1.0)
        np.add.at(negentropies, split, np.sum(p * log_p, axis=-1))
        np.add.at(probabilities, split, p)
        return ScoreSums(self.total, self.seen + len(logits), counts, negentropies, probabilities)

    def merge(self, other: "ScoreSums") -> "ScoreSums":
        """With the images of another part of the same set.

        Raises:
          ValueError: a set of another size or of other splits.
        """
        if self.total != other.total or self.probabilities.shape != other.probabilities.shape:
            raise ValueError(f"parts of {self.total} and of {other.total} images do not merge")
        sums = (getattr(self, name) + getattr(other, name) for name in ("counts", "negentropies", "probabilities"))
        return ScoreSums(self.total, self.seen + other.seen, *sums)

    def result(self) -> tuple[float, float]:
        """(mean, standard deviation) of the score over splits, between 1 and the number of classes.

        Raises:
          ValueError: images are missing, or came twice.
        """
        if self.seen != self.total:
            raise ValueError(f"{self.seen} of {self.total} images have come")
        ends = np.arange(len(self.counts) + 1) * self.total // len(self.counts)
        if (self.counts != np.diff(ends)).any():
            raise ValueError("some images came twice and others not at all")
        marginal = self.probabilities / self.counts[:, None]
        scores = np.exp(self.negentropies / self.counts - np.sum(xlogy(marginal, marginal), axis=-1))
        return float(scores.mean()), float(scores.std())
