import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.losses.penalties import PENALTIES, r1, wgan_gp

KEYS = jax.random.split(jax.random.key(0), 2000)
NOISE = jax.random.normal(jax.random.key(1), (2000, 2, 2, 1))
ZERO, ONE = jnp.zeros((2000, 2, 2, 1)), jnp.zeros((2000, 2, 2, 1)).at[:, 0, 0].set(1)


def linear(weights):
    return lambda images: jnp.einsum("bhwc,hwc->b", images, weights)


def bowl(images):
    return 0.5 * jnp.sum(jnp.square(images), axis=(1, 2, 3))


def test_penalties_of_a_linear_score_are_functions_of_its_slope():
    weights = jnp.array([[[3.0], [0.0]], [[0.0], [4.0]]])
    np.testing.assert_allclose(wgan_gp(linear(weights), NOISE, ZERO, KEYS), (5 - 1) ** 2, rtol=1e-5)
    np.testing.assert_allclose(r1(linear(weights), NOISE, ZERO, KEYS), 25 / 2, rtol=1e-5)
    np.testing.assert_allclose(wgan_gp(linear(weights / 5), NOISE, ZERO, KEYS), 0, atol=1e-6)


def test_r1_depends_on_real_images_only():
    np.testing.assert_allclose(r1(bowl, ONE, NOISE, KEYS), 0.5, rtol=1e-6)
    np.testing.assert_allclose(r1(bowl, NOISE, ONE, KEYS), 0.5 * np.square(NOISE).sum((1, 2, 3)).mean(), rtol=1e-5)


def test_wgan_gp_samples_uniformly_on_the_line_from_fake_to_real():
    """There |grad| of the bowl is u at u e_1, and E (u - 1)^2 = 1/3."""
    spread = np.sqrt((1 / 5 - 1 / 9) / 2000)
    np.testing.assert_allclose(wgan_gp(bowl, ONE, ZERO, KEYS), 1 / 3, atol=4 * spread)
    np.testing.assert_allclose(wgan_gp(bowl, ZERO, ONE, KEYS), 1 / 3, atol=4 * spread)


def test_each_row_draws_its_point_from_its_own_key():
    rows = [wgan_gp(bowl, ONE[:1], ZERO[:1], KEYS[i : i + 1]) for i in range(5)]
    np.testing.assert_allclose(np.mean(rows), wgan_gp(bowl, ONE[:5], ZERO[:5], KEYS[:5]), rtol=1e-5)
    assert len({float(row) for row in rows}) == 5


@pytest.mark.parametrize("name", PENALTIES)
def test_the_penalty_of_a_constant_score_has_finite_gradients(name):
    def value(scale):
        return PENALTIES[name](lambda images: scale * bowl(images), ZERO, ZERO, KEYS)

    assert jnp.isfinite(jax.grad(value)(0.0))
