import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.diffusion import parameterization
from genmodels.diffusion.weighting import WEIGHTINGS, weight
from tests.diffusion.gaussian import ddpm

PROCESS = ddpm("cosine", 50)
ALPHA, SIGMA = (jnp.asarray(x, jnp.float32) for x in (PROCESS.schedule.alpha, PROCESS.schedule.sigma))
SNR = np.asarray(PROCESS.schedule.alphas_cumprod / (1 - PROCESS.schedule.alphas_cumprod))


@pytest.mark.parametrize(
    ("name", "of_x0"),
    [
        ("snr", lambda snr: snr),
        ("min_snr", lambda snr: np.minimum(snr, 5)),
        ("truncated_snr", lambda snr: np.maximum(snr, 1)),
    ],
)
@pytest.mark.parametrize("target_name", ["x0", "epsilon", "velocity"])
def test_every_target_gives_the_loss_that_is_defined_on_x0(name, of_x0, target_name):
    """The weighted squared error of a target equals the weighting times that of the x_0 it means."""
    x0, epsilon, wrong = (jax.random.normal(jax.random.key(i), (50, 2, 2, 1)) for i in range(3))
    alpha, sigma = (c[:, None, None, None] for c in (ALPHA, SIGMA))
    xt = alpha * x0 + sigma * epsilon
    target = parameterization.target(target_name, x0, epsilon, alpha, sigma)
    predicted = target + 0.1 * wrong
    x0_error = jnp.square(parameterization.to_x0(target_name, predicted, xt, alpha, sigma) - x0).mean((1, 2, 3))
    weighted = weight(name, target_name, ALPHA, SIGMA) * jnp.square(predicted - target).mean((1, 2, 3))
    np.testing.assert_allclose(weighted[:-1], (of_x0(SNR) * x0_error)[:-1], rtol=2e-3)


def test_snr_weighting_of_epsilon_is_the_simple_loss():
    np.testing.assert_allclose(weight("snr", "epsilon", ALPHA, SIGMA), 1)


def test_at_zero_snr_velocity_has_a_finite_weight():
    ends = jnp.array([0.0, 1e-3]), jnp.array([1.0, 1.0])
    np.testing.assert_allclose(weight("min_snr", "velocity", *ends), [0, 1e-6], rtol=1e-3)
    np.testing.assert_allclose(weight("truncated_snr", "velocity", *ends), [1, 1], rtol=1e-3)


def test_bad_weightings_are_refused():
    with pytest.raises(ValueError, match="snrr"):
        weight("snrr", "x0", ALPHA, SIGMA)
    with pytest.raises(ValueError, match="not for flow"):
        weight("snr", "flow", ALPHA, SIGMA)
    assert set(WEIGHTINGS) == {"uniform", "snr", "min_snr", "truncated_snr"}
