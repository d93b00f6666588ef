import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from genmodels.diffusion import bound, likelihood
from genmodels.diffusion.parameterization import Output
from tests.diffusion.gaussian import PREDICTS, PROCESSES, ddpm, exact, keys_for


def closed_form(process, images, mean, std):
    """log p in bits/dim under the ODE of N(mean, std^2) data, whose map from image to noise is affine."""
    ends = [process.at_ratio(jnp.array([end]))[1:] for end in process.log_ratio_range]
    (alpha_c, sigma_c), (alpha_n, sigma_n) = [[float(x.squeeze()) for x in end] for end in ends]
    stretch = np.sqrt((alpha_n**2 * std**2 + sigma_n**2) / (alpha_c**2 * std**2 + sigma_c**2))
    size = np.sqrt(alpha_n**2 + sigma_n**2)
    z = (alpha_n * mean + stretch * alpha_c * (images - mean)) / size
    return (stats.norm.logpdf(z) + np.log(stretch * alpha_c / size)).mean((1, 2, 3)) / math.log(2)


@pytest.mark.parametrize("trace", likelihood.TRACES)
@pytest.mark.parametrize("name", PROCESSES)
def test_the_density_of_gaussian_data_has_its_closed_form(name, trace):
    """It equals that of the data to 1e-3 bits/dim, and that of the ODE from first noise level to prior to 2e-4."""
    process, std = PROCESSES[name], 0.4
    images = jax.random.normal(jax.random.key(0), (6, 3, 3, 2)) * 0.5

    @jax.jit
    def density(images, mean):
        predict = exact(process, PREDICTS[name], mean, std)
        options = {"trace": trace, "rtol": 1e-5, "atol": 1e-5}
        return likelihood.log_density(predict, process, PREDICTS[name], images, None, keys_for(6), **options)

    for mean, wanted, tolerance in [
        (0.0, stats.norm(0, std).logpdf(images).mean((1, 2, 3)) / math.log(2), 1e-3),
        (0.2, closed_form(process, np.asarray(images, np.float64), 0.2, std), 2e-4),
    ]:
        found = density(images, mean)
        np.testing.assert_allclose(found.log_density / 18 / math.log(2), wanted, atol=tolerance)
        assert (np.asarray(found.evaluations) > 20).all()


def test_the_density_is_that_of_x_over_alpha_where_the_first_step_is_visibly_noisy():
    """The first of 20 cosine steps is 1% noise, so x / alpha and x at unit variance have different densities."""
    process, images = ddpm("cosine", 20), jax.random.normal(jax.random.key(0), (6, 3, 3, 2)) * 0.5
    found = jax.jit(
        lambda images: likelihood.log_density(
            exact(process, "epsilon", 0.2, 0.4),
            process,
            "epsilon",
            images,
            None,
            keys_for(6),
            trace="exact",
            rtol=1e-5,
            atol=1e-5,
        )
    )(images).log_density
    wanted = closed_form(process, np.asarray(images, np.float64), 0.2, 0.4)
    np.testing.assert_allclose(found / 18 / math.log(2), wanted, atol=2e-4)


def mixing(process, strength):
    """A nonlinear denoiser that couples pixels, so that its Jacobian is not diagonal."""

    def predict(x, time, condition):
        _, sigma = process.alpha_sigma(time)
        smooth = (x + jnp.roll(x, 1, 1) + jnp.roll(x, 1, 2)) / 3
        return Output(sigma * x + strength * jnp.tanh(smooth) * condition[:, None, None, None])

    return predict


def test_hutchinsons_estimate_is_unbiased_for_the_exact_trace_and_conditions_reach_the_model():
    process = PROCESSES["edm"]
    image = jax.random.normal(jax.random.key(1), (1, 3, 3, 1)) * 0.3
    many = jnp.broadcast_to(image, (400, 3, 3, 1))

    def density(images, strength, trace):
        return jax.jit(
            lambda images: (
                likelihood.log_density(
                    mixing(process, 0.2),
                    process,
                    "x0",
                    images,
                    jnp.full(len(images), strength),
                    keys_for(len(images)),
                    trace=trace,
                ).log_density
            )
        )(images)

    exact_value = density(image, 1.0, "exact")[0]
    estimates = np.asarray(density(many, 1.0, "hutchinson"), np.float64)
    assert estimates.std() > 1e-3
    assert abs(estimates.mean() - exact_value) < 4 * estimates.std() / 20 + 2e-3
    assert abs(density(image, 0.0, "exact")[0] - exact_value) > 0.05


def test_the_tolerance_holds_for_the_integral_however_many_pixels_there_are(monkeypatch):
    """The field is zero while its divergence oscillates, so only the integral can be wrong."""
    process, shape, log_times = PROCESSES["edm"], (1, 32, 32, 3), []

    def predict(x, time, condition):
        log_times.append(jnp.log(time[0]))
        return Output(x)

    def peaked(field, z, probe, trace):
        field(z)
        return jnp.zeros_like(z), z.size * jnp.exp(-jnp.square(log_times[-1] + 3) / 2) * jnp.cos(6 * log_times[-1])

    monkeypatch.setattr(likelihood, "_divergence", peaked)
    found = likelihood.log_density(predict, process, "x0", jnp.zeros(shape), None, keys_for(1))
    still = -0.5 * math.log(2 * math.pi) - 0.5 * math.log1p(math.exp(2 * process.log_ratio_range[0]))
    clean, noisy = process.log_ratio_range
    wanted = integrate.quad(lambda lam: math.exp(-((lam + 3) ** 2) / 2) * math.cos(6 * lam), clean, noisy)[0]
    np.testing.assert_allclose(found.log_density / math.prod(shape) - still, wanted, atol=5e-4)


def test_dequantised_images_fill_the_levels_evenly():
    images = jnp.asarray(np.array([0, 128, 255]) / 127.5 - 1, jnp.float32)[:, None, None, None] * jnp.ones(
        (3, 40, 40, 1)
    )
    noise = np.asarray(likelihood.dequantize(images, keys_for(3)) - images) / bound.LEVEL
    assert np.abs(noise).max() <= 0.5001
    np.testing.assert_allclose(noise.var(), 1 / 12, rtol=0.05)


def test_bits_of_a_uniform_density_over_all_levels_are_eight():
    width = 256 * bound.LEVEL
    np.testing.assert_allclose(likelihood.bits_per_dim(jnp.array([-12 * math.log(width)]), 12), 8, rtol=1e-6)


def test_a_solver_that_reaches_its_step_limit_returns_nan(monkeypatch):
    monkeypatch.setattr(likelihood, "MAX_SOLVER_STEPS", 3)
    process = PROCESSES["flow"]
    found = likelihood.log_density(
        exact(process, "flow", 0, 0.5), process, "flow", jnp.ones((1, 2, 2, 1)), None, keys_for(1)
    )
    assert np.isnan(found.log_density).all()


def test_an_unknown_trace_is_refused():
    with pytest.raises(ValueError, match="trace"):
        likelihood.log_density(
            exact(PROCESSES["edm"], "x0", 0, 1),
            PROCESSES["edm"],
            "x0",
            jnp.ones((1, 2, 2, 1)),
            None,
            keys_for(1),
            trace="full",
        )
