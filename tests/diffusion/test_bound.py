import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genmodels.diffusion import bound
from genmodels.diffusion.parameterization import Output
from genmodels.diffusion.process import posterior
from tests.diffusion.gaussian import ddpm, exact, exact_x0, keys_for

LEVELS = np.arange(256) / 127.5 - 1


def test_kl_between_gaussians_is_the_integral():
    (m1, s1), (m2, s2) = (0.3, 0.7), (-0.2, 1.1)
    x = np.linspace(-12, 12, 200_001)
    p, q = stats.norm(m1, s1), stats.norm(m2, s2)
    integral = np.trapezoid(p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), x)
    found = bound.normal_kl(jnp.float32(m1), 2 * jnp.log(s1), jnp.float32(m2), 2 * jnp.log(s2))
    np.testing.assert_allclose(found, integral, rtol=1e-5)


@pytest.mark.parametrize("std", [1.0, 0.05, 0.007, 0.0005])
@pytest.mark.parametrize("mean", [-1.3, -1.0, 0.123, 0.999])
def test_the_masses_of_the_256_levels_are_those_of_the_normal_cdf_and_sum_to_one(mean, std):
    x = jnp.asarray(LEVELS, jnp.float32).reshape(256, 1, 1, 1)
    found = np.asarray(bound.discretized_gaussian_nll(x, jnp.full_like(x, mean), jnp.float32(math.log(std)))).reshape(
        -1
    )
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(-found.astype(np.float64)).sum(), 1, rtol=2e-3)
    edges = np.append(-np.inf, np.append((LEVELS[:-1] + LEVELS[1:]) / 2, np.inf))
    z = (edges - mean) / std
    upper, lower = np.where(z[:-1] > 0, -z[:-1], z[1:]), np.where(z[:-1] > 0, -z[1:], z[:-1])
    log_upper, log_lower = stats.norm.logcdf(upper), stats.norm.logcdf(lower)
    with np.errstate(divide="ignore"):
        wanted = -(log_upper + np.log1p(-np.exp(log_lower - log_upper)))
    straddles = (z[:-1] <= 0) & (z[1:] > 0)
    wanted[straddles] = -np.log((stats.norm.cdf(z[1:]) - stats.norm.cdf(z[:-1]))[straddles])
    np.testing.assert_allclose(found, wanted, rtol=5e-3, atol=5e-3)


def test_gradients_far_from_the_mean_are_finite():
    x = jnp.asarray(LEVELS, jnp.float32).reshape(256, 1, 1, 1)
    for std in (1e-3, 1.0, 50.0):
        gradient = jax.grad(lambda m, s: bound.discretized_gaussian_nll(x, m * jnp.ones_like(x), s).sum(), (0, 1))
        assert np.isfinite(gradient(jnp.float32(0.9), jnp.float32(math.log(std)))).all()


def standard_nodes(count):
    """Quantiles of N(0, 1) in the middle of equal parts, scaled to unit variance: exact for quadratic averages."""
    nodes = stats.norm.ppf((np.arange(count) + 0.5) / count)
    return nodes / nodes.std()


def gaussian_images(num, std):
    """Images at grey levels whose pixels are quantiles of N(0, std^2) in random order."""
    values = np.random.default_rng(0).permutation(standard_nodes(num * 16)) * std
    return jnp.asarray(np.round((values + 1) * 127.5) / 127.5 - 1, jnp.float32).reshape(num, 4, 4, 1)


def learned(process, std):
    """The exact denoiser of N(0, std^2), and the exact variance of x_{t-1} given x_t as its fraction."""
    schedule = process.schedule
    alpha, sigma = schedule.alpha, schedule.sigma
    table = bound.Bound(schedule, "learned_range", "x0")._table
    x0_variance = sigma**2 * std**2 / (alpha**2 * std**2 + sigma**2)
    small = np.append(0.0, np.exp(table["log_small"][1:]))
    true = np.log(small + table["x0"] ** 2 * x0_variance)
    f = jnp.asarray(2 * (true - table["log_small"]) / (table["log_large"] - table["log_small"]) - 1, jnp.float32)

    def predict(x, time):
        a, s = process.alpha_sigma(time)
        fraction = f[time.astype(jnp.int32)][:, None, None, None]
        return Output(exact_x0(x, a, s, 0.0, std), jnp.broadcast_to(fraction, x.shape))

    return predict


def expected_terms(measured, predict, process, std):
    """E L_t of every step over data and noise: one image whose pixels are all pairs of their quantiles."""
    x0, noise = (jnp.asarray(x, jnp.float32)[None, :, :, None] for x in np.meshgrid(*[standard_nodes(200)] * 2))
    x0 = std * x0

    def expected_term(t):
        alpha, sigma = process.alpha_sigma(t[None])
        xt = alpha * x0 + sigma * noise
        return measured.step(predict(xt, t[None].astype(jnp.float32)), x0, xt, t[None])[0]

    steps = jax.jit(lambda: jax.lax.map(expected_term, jnp.arange(process.num_steps)))()
    return np.append(np.asarray(steps, np.float64), float(measured.prior(x0)[0]))


def entropy(std):
    """The entropy of N(0, std^2) at 256 levels, in bits."""
    return 0.5 * math.log2(2 * math.pi * math.e * std**2) - math.log2(bound.LEVEL)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_bound_of_an_exact_model_is_the_entropy_of_the_data(name):
    """Reverse steps between Gaussians are Gaussian, so with their true variance the bound is tight at any T."""
    process, std = ddpm(name, 100), 0.2
    terms = expected_terms(bound.Bound(process.schedule, "learned_range", "x0"), learned(process, std), process, std)
    last = process.schedule.alphas_cumprod[-1]
    # linear betas of 100 steps keep 60% of the signal, which the prior N(0, 1) does not account for
    mismatch = 0.5 * (last * std**2 - last - math.log(last * std**2 + 1 - last)) / math.log(2)
    np.testing.assert_allclose(terms.sum(), entropy(std) + mismatch, atol=1e-3)
    np.testing.assert_allclose(
        terms[-1], 0.5 * (last * std**2 - last - math.log(1 - last)) / math.log(2), rtol=1e-3, atol=1e-7
    )


@pytest.mark.parametrize("strata", [0, 8])
def test_evaluate_is_an_unbiased_estimate_of_the_expected_bound(strata):
    process, std, num = ddpm("cosine", 60), 0.2, 2048
    measured = bound.Bound(process.schedule, "learned_range", "x0")
    expected = expected_terms(measured, learned(process, std), process, std)
    terms = jax.jit(measured.evaluate, static_argnums=(0, 3))(
        learned(process, std), gaussian_images(num, std), keys_for(num), strata
    )
    assert terms.steps.shape == terms.time.shape == (num, strata + 1 if strata else 60)
    error = float(terms.total.std()) / math.sqrt(num)
    assert error < 0.06
    assert abs(float(terms.total.mean()) - expected.sum()) < 4 * error
    np.testing.assert_allclose(terms.prior.mean(), expected[-1], rtol=1e-3)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_the_terms_of_a_fixed_variance_are_the_kl_between_gaussians_of_these_variances(variance):
    """E KL = (log v/q + (q + c_0^2 Var(x_0 | x_t)) / v - 1) / 2 for posterior variance q and the model's v."""
    process, std = ddpm("cosine", 50), 0.2
    measured = bound.Bound(process.schedule, variance, "x0")
    terms = expected_terms(measured, exact(process, "x0", 0.0, std), process, std)
    alpha, sigma = process.schedule.alpha, process.schedule.sigma
    q = posterior(alpha[1:], sigma[1:], alpha[:-1], sigma[:-1])
    v = q.variance if variance == "fixed_small" else q.beta
    x0_variance = (sigma**2 * std**2 / (alpha**2 * std**2 + sigma**2))[1:]
    wanted = 0.5 * (np.log(v / q.variance) + (q.variance + q.x0_coefficient**2 * x0_variance) / v - 1) / math.log(2)
    np.testing.assert_allclose(terms[1:-1], wanted, rtol=1e-3, atol=1e-6)
    # The first step has no posterior variance; either fixed variance uses that of the second step.
    first = 0.5 * (
        math.log(2 * math.pi * q.variance[0])
        + sigma[0] ** 2 * std**2 / (alpha[0] ** 2 * std**2 + sigma[0] ** 2) / q.variance[0]
    )
    np.testing.assert_allclose(terms[0], first / math.log(2) - math.log2(bound.LEVEL), atol=0.01)
    assert terms.sum() > entropy(std) + 0.005


@pytest.mark.parametrize("parameterization", ["epsilon", "velocity"])
def test_the_bound_does_not_depend_on_the_parameterization(parameterization):
    process, images = ddpm("linear", 30), gaussian_images(8, 0.2)
    totals = [
        jax.jit(bound.Bound(process.schedule, "fixed_small", target).evaluate, static_argnums=0)(
            exact(process, target, 0.0, 0.2), images, keys_for(8)
        ).total
        for target in ("x0", parameterization)
    ]
    np.testing.assert_allclose(*totals, rtol=1e-4)


def test_a_bound_does_not_depend_on_the_other_images():
    process, images = ddpm("cosine", 20), gaussian_images(8, 0.2)
    evaluate = jax.jit(bound.Bound(process.schedule, "fixed_large", "x0").evaluate, static_argnums=(0, 3))
    for strata in (0, 3):
        many = evaluate(exact(process, "x0", 0.0, 0.2), images, keys_for(8), strata)
        some = evaluate(exact(process, "x0", 0.0, 0.2), images[3:5], keys_for(8)[3:5], strata)
        np.testing.assert_allclose(some.total, many.total[3:5], rtol=1e-5)
    assert (np.asarray(many.time[:, 0]) == 0).all()
    low, high = np.asarray(many.time[:, 1:]).min(0), np.asarray(many.time[:, 1:]).max(0)
    assert (low >= [1, 3, 7]).all()  # intervals of steps 1-2, 3-6, 7-19
    assert (high <= [2, 6, 19]).all()
    assert (high - low > 0).all()


def test_bad_settings_are_refused():
    process = ddpm("cosine", 20)
    with pytest.raises(ValueError, match="variance"):
        bound.Bound(process.schedule, "learned", "x0")
    with pytest.raises(ValueError, match="two or more"):
        bound.Bound(ddpm("linear", 1).schedule, "fixed_small", "x0")
    with pytest.raises(ValueError, match="strata"):
        bound.Bound(process.schedule, "fixed_small", "x0").evaluate(
            exact(process, "x0", 0, 1), gaussian_images(1, 0.2), keys_for(1), 20
        )
