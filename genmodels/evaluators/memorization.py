"""Memorisation: the distance of samples to the nearest training image, relative to that of held-out images."""

from collections.abc import Iterator

import numpy as np

from genmodels.errors import DataError
from genmodels.evaluators.base import Context, Result
from genmodels.metrics.nearest import nearest_neighbours

AS_NEW_AS_HELD_OUT = 1.0  # the ratio of images that the model has not copied and that are no farther than real ones


def nn_distance_ratio(context: Context) -> Iterator[Result]:
    """The mean distance of samples to the nearest training image, divided by that of held-out images.

    The ratio is 0 if samples are copies of training images, and about 1 if they are as new as held-out images. It is
    above 1 if they are farther from the training images than held-out images are, as noise is.

    Raises:
      DataError: the sets have images of different shapes, or there are no training images.
    """
    generated, reference, training = map(context.require_images, ("generated", "reference", "training"))
    try:
        samples, _ = nearest_neighbours(generated.gathered(), training.of_one_size())
        held_out, _ = nearest_neighbours(reference.gathered(), training.of_one_size())
    except ValueError as error:
        raise DataError(f"nn_distance_ratio: {error}") from error
    protocol = {
        **context.protocol,
        **generated.origin,
        **reference.origin,
        **training.origin,
        "distance": "Euclidean over pixels",
        "n_generated": len(samples),
        "n_reference": len(held_out),
        "n_training": len(training),
        "mean_distance_generated": float(samples.mean()),
        "mean_distance_reference": float(held_out.mean()),
    }
    yield Result("nn_distance_ratio", float(np.mean(samples) / np.mean(held_out)), protocol)
