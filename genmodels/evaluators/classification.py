"""Accuracy of a run that classifies images, with its confusion matrix."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from genmodels.evaluators.base import Context, Result

MAX_TABLE_CLASSES = 100  # a larger confusion matrix is left out, because nobody can read it


def confusion(
    labels: Int[np.ndarray, " N"], predicted: Int[np.ndarray, " N"], names: Sequence[str]
) -> Int[np.ndarray, "classes classes"]:
    """The number of images for each true class (row) and predicted class (column)."""
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def _table(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    return {
        "title": "Confusion matrix",
        "row_label": "true class",
        "column_label": "predicted class",
        "names": list(names),
        "counts": confusion(labels, predicted, names).tolist(),
    }


def accuracy(context: Context) -> Iterator[Result]:
    """The share of reference images whose largest logit is that of their label; its table is the confusion matrix."""
    reference = context.require_images("reference")
    labels = reference.require_labels()
    logits = context.call("classify", len(reference), {"image": reference.of_one_size()})["logits"]
    predicted, classes = np.argmax(logits, -1), logits.shape[-1]
    protocol = {**context.protocol, **reference.origin, "n_reference": len(reference)}
    numbers = tuple(map(str, range(classes)))
    names = reference.class_names if len(reference.class_names) == classes else numbers
    table = _table(labels, predicted, names) if classes <= MAX_TABLE_CLASSES else None
    yield Result("accuracy", float(np.mean(predicted == labels)), protocol, table=table)
