import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.diffusion import guidance, parameterization, process, schedules

KINDS = parameterization.PARAMETERIZATIONS
CONVERT = {
    "epsilon": parameterization.to_epsilon,
    "x0": parameterization.to_x0,
    "velocity": parameterization.to_velocity,
}


def pictures(seed, shape=(6, 4, 4, 2)):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("given", KINDS)
@pytest.mark.parametrize("wanted", KINDS)
def test_conversions_agree_with_the_definitions(given, wanted):
    schedule = schedules.Schedule.named("cosine", 10)
    x0, epsilon, t = pictures(0), pictures(1), jnp.arange(1, 7)
    alpha, sigma = process.alpha_sigma(schedule, t)
    xt = process.add_noise(schedule, x0, epsilon, t)
    prediction = parameterization.target(given, x0, epsilon, alpha, sigma)
    expected = parameterization.target(wanted, x0, epsilon, alpha, sigma)
    np.testing.assert_allclose(CONVERT[wanted](given, prediction, xt, alpha, sigma), expected, atol=1e-5)


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


@pytest.mark.parametrize(("t", "s"), [(9, 8), (9, 3), (4, -1), (0, -1)])
def test_posterior_is_gaussian_conditioning(t, s):
    """From the joint Gaussian of (x_s, x_t) given x_0, by the textbook formula for a conditional."""
    schedule = schedules.Schedule.named("cosine", 10)
    bar_t, bar_s = schedule.alphas_cumprod_at(np.array([t])), schedule.alphas_cumprod_at(np.array([s]))
    q = process.posterior(bar_t, bar_s)
    ratio = np.sqrt(bar_t / bar_s)
    gain = ratio * (1 - bar_s) / (1 - bar_t)
    np.testing.assert_allclose(q.xt_coefficient, gain, rtol=1e-12)
    np.testing.assert_allclose(q.x0_coefficient, np.sqrt(bar_s) - gain * np.sqrt(bar_t), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(q.variance, (1 - bar_s) * (1 - gain * ratio), rtol=1e-9, atol=1e-12)


def test_simple_loss_is_the_mean_over_pixels():
    target = jnp.zeros((2, 2, 2, 1))
    prediction = target.at[1, 0, 0, 0].set(2.0)
    np.testing.assert_allclose(process.simple_loss(prediction, target), [0.0, 1.0])


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
