"""Diagnostics of a GAN in training: the diversity of its samples, and the warnings that the log shows."""

import math
from collections.abc import Iterator, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from genmodels.core.parallel import Dist
from genmodels.core.state import Average

WATCH_AFTER_STEPS = 500  # earlier, a discriminator that is nearly always right is normal
MIN_SAMPLE_DIVERSITY = 0.25  # the variance of samples divided by that of real images
MAX_ACCURACY = 0.98  # of the discriminator, on real or on fake images
MIN_PIXEL_VARIANCE = 1e-10  # of real images in [-1, 1]; less is the rounding of equal images

Images = Float[Array, "batch height width channel"]


def watch(values: Mapping[str, float | int], boundary: float | None) -> Iterator[str]:
    """The warnings of a GAN, see `Task.watch`.

    Args:
      boundary: the score between real and fake. None is a critic, whose scores are only relative: it may be right on
        all images.
    """
    if values.get("step", WATCH_AFTER_STEPS) < WATCH_AFTER_STEPS:
        return
    diversity = values.get("sample_diversity", 1.0)
    if diversity < MIN_SAMPLE_DIVERSITY:
        yield (
            f"collapse: samples vary {diversity:.2g} times as much as real images (sample_diversity); a penalty, "
            "config.gan.augment or lower learning rates may help"
        )
    if boundary is None:
        return
    real, fake = (values.get(f"discriminator_accuracy_{label}", 0.5) for label in ("real", "fake"))
    accuracies = f"right on {real:.0%} of real and {fake:.0%} of fake images"
    if min(real, fake) > MAX_ACCURACY:
        yield (
            f"discriminator: {accuracies}, so the generator learns little from it; a penalty, config.gan.augment or a "
            "lower learning rate of the discriminator may help"
        )
    if max(real, fake) > MAX_ACCURACY and min(real, fake) < 1 - MAX_ACCURACY:
        yield (
            f"discriminator: {accuracies}, so it cannot tell them apart; more config.gan.discriminator_steps or a "
            "higher learning rate of the discriminator may help"
        )


def batch_variance(images: Images, dist: Dist) -> Float[Array, ""]:
    """E |x - E x|^2 over the global batch: half of the mean squared distance between two of its images."""
    deviation = images - dist.mean(jnp.mean(images, 0))
    return dist.mean(jnp.mean(jnp.sum(jnp.square(deviation), (1, 2, 3))))


def sample_diversity(fakes: Images, reals: Images, dist: Dist) -> Average:
    """The variance of generated images relative to that of real ones, in an update in which real images differ.

    An update of a single row says nothing of diversity: no image differs from itself.
    """
    real = batch_variance(reals, dist)
    differ = real > MIN_PIXEL_VARIANCE * math.prod(reals.shape[1:])
    ratio = batch_variance(fakes, dist) / jnp.where(differ, real, 1.0)
    return Average(jnp.where(differ, ratio, 0.0), 1.0 * differ)
