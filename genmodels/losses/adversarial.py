"""Adversarial losses: functions of the scores that a discriminator D gives to real and fake images.

The discriminator minimises one function of the scores of real and fake images, the generator another one of the scores
of fakes. Both are means over a batch of raw scores, before any sigmoid, so that any loss can be combined with any
network and any penalty.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jax.nn import relu, softplus
from jaxtyping import Array, Float

Scores = Float[Array, " batch"]
Loss = Float[Array, ""]


def non_saturating_discriminator(real: Scores, fake: Scores) -> Loss:
    """-E log s(D(x)) - E log(1 - s(D(G(z)))), s the logistic function (Goodfellow et al. 2014, equation 1)."""
    return jnp.mean(softplus(-real)) + jnp.mean(softplus(fake))


def non_saturating_generator(fake: Scores) -> Loss:
    """-E log s(D(G(z))) (Goodfellow et al. 2014, section 3)."""
    return jnp.mean(softplus(-fake))


def least_squares_discriminator(real: Scores, fake: Scores) -> Loss:
    """E (D(x) - 1)^2 / 2 + E D(G(z))^2 / 2 (Mao et al. 2017, equation 9)."""
    return 0.5 * jnp.mean(jnp.square(real - 1)) + 0.5 * jnp.mean(jnp.square(fake))


def least_squares_generator(fake: Scores) -> Loss:
    """E (D(G(z)) - 1)^2 / 2 (Mao et al. 2017, equation 9)."""
    return 0.5 * jnp.mean(jnp.square(fake - 1))


def hinge_discriminator(real: Scores, fake: Scores) -> Loss:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))) (Lim & Ye 2017; Miyato et al. 2018, equation 16)."""
    return jnp.mean(relu(1 - real)) + jnp.mean(relu(1 + fake))


def wasserstein_discriminator(real: Scores, fake: Scores) -> Loss:
    """E D(G(z)) - E D(x) (Arjovsky et al. 2017, equation 3).

    If D is 1-Lipschitz, this is minus a lower bound of the Wasserstein-1 distance.
    """
    return jnp.mean(fake) - jnp.mean(real)


def minus_score(fake: Scores) -> Loss:
    """-E D(G(z)), the generator's loss that belongs to both the hinge and the Wasserstein loss."""
    return -jnp.mean(fake)


@dataclasses.dataclass(frozen=True)
class Adversarial:
    """An adversarial loss: one function for the discriminator and one for the generator.

    Attributes:
      discriminator: maps (scores of real images, scores of fakes) to the discriminator's loss.
      generator: maps scores of fakes to the generator's loss.
      boundary: images with a score above this count as real; None if only differences of scores have a meaning.
    """

    discriminator: Callable[[Scores, Scores], Loss]
    generator: Callable[[Scores], Loss]
    boundary: float | None


LOSSES = {
    "non_saturating": Adversarial(non_saturating_discriminator, non_saturating_generator, 0.0),
    "least_squares": Adversarial(least_squares_discriminator, least_squares_generator, 0.5),
    "hinge": Adversarial(hinge_discriminator, minus_score, 0.0),
    "wasserstein": Adversarial(wasserstein_discriminator, minus_score, None),
}
