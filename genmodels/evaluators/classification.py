"""Accuracy of a run that classifies, and what it takes for what."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from genmodels.evaluators.base import Context, Result

MOST_CLASSES = 100  # of a table that someone will read


def confusion(
    labels: Int[np.ndarray, " N"], decided: Int[np.ndarray, " N"], names: Sequence[str]
) -> Int[np.ndarray, "classes classes"]:
    """How many images of each class (rows) were taken for each class (columns)."""
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (labels, decided), 1)
    return counts


def _table(labels: np.ndarray, decided: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    return {
        "title": "Confusion matrix",
        "row_label": "true class",
        "column_label": "predicted class",
        "names": list(names),
        "counts": confusion(labels, decided, names).tolist(),
    }


def accuracy(context: Context) -> Iterator[Result]:
    """Share of the reference images whose largest logit is at their label; the confusion matrix is its table."""
    reference = context.reference
    logits = context.predict("classify", len(reference.images), {"image": reference.images}, seed=context.seed)[
        "logits"
    ]
    decided, classes = np.argmax(logits, -1), logits.shape[-1]
    protocol = {**context.protocol, **reference.origin, "n_reference": len(reference.images)}
    numbers = tuple(map(str, range(classes)))
    names = reference.class_names if len(reference.class_names) == classes else numbers
    table = _table(reference.labels, decided, names) if classes <= MOST_CLASSES else None
    yield Result("accuracy", float(np.mean(decided == reference.labels)), protocol, table=table)
