import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genmodels.diffusion import guidance, parameterization, schedules
from genmodels.diffusion.edm import EDM
from genmodels.diffusion.process import add_noise, posterior, simple_loss
from tests.diffusion.gaussian import PROCESSES, ddpm

TARGETS = ("epsilon", "x0", "velocity")
CONVERT = {
    "epsilon": parameterization.to_epsilon,
    "x0": parameterization.to_x0,
    "velocity": parameterization.to_velocity,
}


def pictures(seed, shape=(6, 4, 4, 2)):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("given", TARGETS)
@pytest.mark.parametrize("wanted", TARGETS)
def test_conversions_agree_with_the_definitions(given, wanted):
    process = ddpm("cosine", 10)
    x0, epsilon, t = pictures(0), pictures(1), jnp.arange(1.0, 7.0)
    alpha, sigma = process.alpha_sigma(t)
    xt = add_noise(process, x0, epsilon, t)
    prediction = parameterization.target(given, x0, epsilon, alpha, sigma)
    expected = parameterization.target(wanted, x0, epsilon, alpha, sigma)
    np.testing.assert_allclose(CONVERT[wanted](given, prediction, xt, alpha, sigma), expected, atol=1e-5)


def test_the_flow_is_the_slope_of_its_path_and_gives_both_ends():
    process, x0, epsilon, t = PROCESSES["flow"], pictures(0), pictures(1), jnp.linspace(0, 1, 6)
    alpha, sigma = process.alpha_sigma(t)
    xt, slope = jax.jvp(lambda time: add_noise(process, x0, epsilon, time), (t,), (jnp.ones(6),))
    flow = parameterization.target("flow", x0, epsilon, alpha, sigma)
    np.testing.assert_allclose(flow, slope, atol=1e-6)
    np.testing.assert_allclose(parameterization.to_x0("flow", flow, xt, alpha, sigma), x0, atol=1e-6)
    np.testing.assert_allclose(parameterization.to_epsilon("flow", flow, xt, alpha, sigma), epsilon, atol=1e-6)
    with pytest.raises(ValueError, match="alpha \\+ sigma = 1"):
        parameterization.to_velocity("flow", flow, xt, alpha, sigma)


def test_unknown_parameterization_is_refused():
    with pytest.raises(ValueError, match="epsilom"):
        parameterization.to_x0("epsilom", pictures(0), pictures(1), jnp.ones(1), jnp.ones(1))


def test_forward_steps_compose_to_the_marginal():
    """Mean and variance of the chain x_t = sqrt(1-beta) x_{t-1} + sqrt(beta) z are alpha_t and sigma_t^2."""
    schedule = schedules.Schedule.named("linear", 30)
    mean, variance = 1.0, 0.0
    for beta, alpha, sigma in zip(schedule.betas, schedule.alpha, schedule.sigma, strict=True):
        mean, variance = np.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        np.testing.assert_allclose([mean, variance], [alpha, sigma**2], rtol=1e-12)


@pytest.mark.parametrize("name", PROCESSES)
def test_posterior_is_gaussian_conditioning(name):
    """From the joint Gaussian of (x_s, x_t) given x_0, by the textbook formula for a conditional."""
    grid = PROCESSES[name].grid(5, PROCESSES[name].spacings[0])
    a_t, s_t, a_s, s_s = grid.alpha[:-1], grid.sigma[:-1], grid.alpha[1:], grid.sigma[1:]
    q = posterior(a_t, s_t, a_s, s_s)
    ratio = a_t / a_s
    covariance = ratio * s_s**2
    gain = covariance / s_t**2
    np.testing.assert_allclose(q.xt_coefficient, gain, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(q.x0_coefficient, a_s - gain * a_t, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(q.variance, s_s**2 - gain * covariance, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(q.beta + ratio**2 * s_s**2, s_t**2, rtol=1e-12)


def test_with_neighbouring_steps_beta_is_the_schedules():
    schedule = schedules.Schedule.named("cosine", 50)
    alpha, sigma = np.append(1.0, schedule.alpha), np.append(0.0, schedule.sigma)
    np.testing.assert_allclose(posterior(alpha[1:], sigma[1:], alpha[:-1], sigma[:-1]).beta, schedule.betas, rtol=1e-9)


@pytest.mark.parametrize("name", PROCESSES)
def test_quantiles_and_ratios_lead_to_the_same_times(name):
    process = PROCESSES[name]
    u = jnp.linspace(0.05, 0.95, 19)
    time = process.time(u)
    assert (np.diff(time) > 0).all()
    np.testing.assert_allclose(process.quantile(time), u, atol=1e-3)
    alpha, sigma = process.alpha_sigma(time)
    same_time, a, s = process.at_ratio(jnp.log(sigma / alpha)[:, 0, 0, 0])
    np.testing.assert_allclose(same_time, time, rtol=2e-3)
    np.testing.assert_allclose(a, alpha, atol=1e-5)
    np.testing.assert_allclose(s, sigma, rtol=1e-4)


def test_edm_draws_log_normal_noise_levels():
    sigma = np.asarray(EDM().time(jax.random.uniform(jax.random.key(0), (20_000,))))
    assert stats.kstest(np.log(sigma), stats.norm(-1.2, 1.2).cdf).pvalue > 1e-3


def test_edm_preconditioning_makes_inputs_and_targets_of_unit_variance_and_the_loss_plain():
    """The three demands from which Karras et al. derive c_in, c_out, c_skip and lambda (appendix B.6)."""
    process = EDM(sigma_data=0.5)
    time = jnp.repeat(jnp.array([0.01, 0.5, 20.0]), 4000)
    x0, epsilon = 0.5 * pictures(0, (12_000, 2, 2, 1)), pictures(1, (12_000, 2, 2, 1))
    xt = add_noise(process, x0, epsilon, time)
    network_inputs = []

    def zero(x, c_noise):
        network_inputs.append((x, c_noise))
        return jnp.zeros_like(x)

    skip = process.apply(zero, xt, time)
    scale = process.apply(lambda x, c: jnp.ones_like(x), xt, time) - skip  # c_out
    target = (x0 - skip) / scale
    for group in np.split(np.arange(12_000), 3):
        np.testing.assert_allclose([network_inputs[0][0][group].std(), target[group].std()], 1, atol=0.02)
    np.testing.assert_allclose(network_inputs[0][1], np.log(time) / 4, rtol=1e-6)
    np.testing.assert_allclose(process.weight(time), scale[:, 0, 0, 0] ** -2.0, rtol=1e-5)


@pytest.mark.parametrize("bad", [{"sigma_min": 0.0}, {"sigma_min": 90.0}, {"sigma_data": 0.0}, {"p_std": -1.0}])
def test_bad_noise_levels_are_refused(bad):
    with pytest.raises(ValueError, match="sigma"):
        EDM(**bad)


def test_simple_loss_is_the_mean_over_pixels():
    target = jnp.zeros((2, 2, 2, 1))
    prediction = target.at[1, 0, 0, 0].set(2.0)
    np.testing.assert_allclose(simple_loss(prediction, target), [0.0, 1.0])


def test_guidance_scale_one_is_the_conditional_model_and_zero_the_unconditional():
    cond, uncond = pictures(0, (3, 2, 2, 1)), pictures(1, (3, 2, 2, 1))
    guided = guidance.guided_prediction(cond, uncond, jnp.array([1.0, 0.0, 3.0]))
    np.testing.assert_allclose(guided[0], cond[0], atol=1e-6)
    np.testing.assert_allclose(guided[1], uncond[1], atol=1e-6)
    np.testing.assert_allclose(guided[2], uncond[2] + 3 * (cond[2] - uncond[2]), atol=1e-6)


def test_label_dropout_has_its_rate_and_depends_on_the_examples_key_alone():
    keys = jax.random.split(jax.random.key(0), 4000)
    labels = jnp.arange(4000) % 10
    dropped = guidance.drop_labels(keys, labels, 0.1, 10)
    share = float(jnp.mean(dropped == 10))
    assert abs(share - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 4000)
    np.testing.assert_array_equal(jnp.where(dropped == 10, labels, dropped), labels)
    np.testing.assert_array_equal(guidance.drop_labels(keys[7:9], labels[7:9], 0.1, 10), dropped[7:9])
