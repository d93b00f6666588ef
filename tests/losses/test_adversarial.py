import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genmodels.losses.adversarial import LOSSES

REAL, FAKE = 2 * jax.random.normal(jax.random.key(0), (2, 50))
ONES, ZEROS = jnp.ones(50), jnp.zeros(50)


def test_non_saturating_is_cross_entropy():
    loss = LOSSES["non_saturating"]
    entropy = optax.sigmoid_binary_cross_entropy
    wanted = entropy(REAL, ONES).mean() + entropy(FAKE, ZEROS).mean()
    np.testing.assert_allclose(loss.discriminator(REAL, FAKE), wanted, rtol=1e-6)
    np.testing.assert_allclose(loss.generator(FAKE), entropy(FAKE, ONES).mean(), rtol=1e-6)
    np.testing.assert_allclose(loss.discriminator(ZEROS, ZEROS), 2 * np.log(2), rtol=1e-6)  # at the equilibrium


def test_hinge_is_the_loss_of_support_vector_machines():
    loss = LOSSES["hinge"]
    wanted = optax.hinge_loss(REAL, ONES).mean() + optax.hinge_loss(FAKE, -ONES).mean()
    np.testing.assert_allclose(loss.discriminator(REAL, FAKE), wanted, rtol=1e-6)
    np.testing.assert_allclose(loss.generator(FAKE), -FAKE.mean(), rtol=1e-6)
    assert loss.discriminator(ONES, -ONES) == 0


def test_least_squares_is_half_the_squared_error():
    loss = LOSSES["least_squares"]
    wanted = optax.l2_loss(REAL, ONES).mean() + optax.l2_loss(FAKE, ZEROS).mean()
    np.testing.assert_allclose(loss.discriminator(REAL, FAKE), wanted, rtol=1e-6)
    np.testing.assert_allclose(loss.generator(FAKE), optax.l2_loss(FAKE, ONES).mean(), rtol=1e-6)


def test_wasserstein_is_the_difference_of_means():
    loss = LOSSES["wasserstein"]
    np.testing.assert_allclose(loss.discriminator(REAL, FAKE), FAKE.mean() - REAL.mean(), rtol=1e-5)
    np.testing.assert_allclose(loss.discriminator(REAL + 7, FAKE + 7), FAKE.mean() - REAL.mean(), rtol=1e-4)
    np.testing.assert_allclose(loss.generator(FAKE), -FAKE.mean(), rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_generator_and_discriminator_move_scores_in_opposite_directions(name):
    """The discriminator would raise real scores and lower fake ones, the generator raise fake ones."""
    at = jnp.full(4, LOSSES[name].boundary or 0.0)
    on_real, on_fake = jax.grad(LOSSES[name].discriminator, (0, 1))(at, at)
    assert (on_real < 0).all()
    assert (on_fake > 0).all()
    assert (jax.grad(LOSSES[name].generator)(at) < 0).all()
