"""Accuracy of a run that classifies."""

from collections.abc import Iterator

import numpy as np

from genmodels.evaluators.base import Context, Result


def accuracy(context: Context) -> Iterator[Result]:
    """Share of the reference images whose largest logit is at their label."""
    reference = context.reference
    logits = context.predict("classify", len(reference.images), {"image": reference.images}, seed=context.seed)[
        "logits"
    ]
    protocol = {**context.protocol, **reference.origin, "n_reference": len(reference.images)}
    yield Result("accuracy", float(np.mean(np.argmax(logits, -1) == reference.labels)), protocol)
