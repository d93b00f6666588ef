"""Quality of drawn samples by the digits classifier: Frechet distance, and whether a sample shows what was asked."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from genmodels.errors import ConfigError, DataError
from genmodels.evaluators.base import Context, Result
from genmodels.extractors import digits
from genmodels.metrics import frechet


def _protocol(context: Context) -> dict[str, Any]:
    return {
        **context.protocol,
        **context.generated.origin,
        "extractor": digits.ID,
        "extractor_sha256": digits.SHA256,
        "resize": "none",
        "value_range": "uint8 0-255, x / 127.5 - 1",
        "n_generated": len(context.generated.images),
        "comparable_to_published": False,
        "reason": "the extractor is this project's digits classifier, not the FID Inception",
    }


def fd_digits(context: Context) -> Iterator[Result]:
    """Frechet distance between features of the samples and of the reference images."""
    generated, _ = digits.extract(context.generated.images)
    reference, _ = digits.extract(context.reference.images)
    try:
        value = frechet.frechet_distance(generated, reference)
    except ValueError as error:
        raise DataError(f"fd_digits: {error}") from error
    protocol = {
        "layer": digits.LAYER,
        "dimension": digits.DIMENSION,
        "n_reference": len(context.reference.images),
        "covariance_divisor": frechet.COVARIANCE_DIVISOR,
        "solver": frechet.SOLVER,
        "dtype": "features float32, statistics float64",
    }
    yield Result("fd_digits", value, _protocol(context) | dict(context.reference.origin) | protocol)


def agreement_digits(context: Context) -> Iterator[Result]:
    """Share of the samples that the classifier labels as they were asked for."""
    labels = context.generated.labels
    if labels is None:
        raise ConfigError(
            "metric agreement_digits needs labels: samples of a conditional model, or an .npz with `labels`"
        )
    _, logits = digits.extract(context.generated.images)
    yield Result("agreement_digits", float(np.mean(np.argmax(logits, -1) == labels)), _protocol(context))
