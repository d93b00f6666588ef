import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from genmodels.losses import variational


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 0.3), (-0.7, 2.0)])
def test_kl_is_the_integral_of_the_log_ratio(mean, std):
    q, p = stats.norm(mean, std), stats.norm()
    wanted, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), mean - 12 * std, mean + 12 * std)
    found = variational.kl_to_standard_normal(jnp.float32(mean), jnp.float32(2 * np.log(std)))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_log_densities_and_masses_equal_those_of_scipy():
    x, mean, std = np.linspace(-3, 3, 7), np.linspace(1, -1, 7), np.linspace(0.2, 2, 7)
    found = variational.normal_log_prob(*(jnp.float32(v) for v in (x, mean, 2 * np.log(std))))
    np.testing.assert_allclose(found, stats.norm.logpdf(x, mean, std), rtol=1e-5)
    logits = np.float32([-90, -4, 0, 2, 90])
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    inside = slice(1, 4)  # where p is neither 0 nor 1 in float64
    for black in (0, 1):
        found = variational.bernoulli_nll(jnp.full(5, 1.0 * black), jnp.asarray(logits))
        np.testing.assert_allclose(found[inside], -stats.bernoulli.logpmf(black, p[inside]), rtol=1e-5)
        assert np.isfinite(found).all()  # even where the probability is 0 in float32
    greys = variational.bernoulli_nll(jnp.full(5, 0.25), jnp.asarray(logits))
    np.testing.assert_allclose(greys[inside], -0.25 * np.log(p[inside]) - 0.75 * np.log1p(-p[inside]), rtol=1e-5)


def test_free_bits_cost_the_minimum_below_it_and_the_kl_above():
    assert variational.free_bits(jnp.float32([0.0, 0.1, 0.5]), 0.5) == 1.5
    np.testing.assert_allclose(variational.free_bits(jnp.float32([0.2, 0.7]), 0.5), 1.2)


def test_perplexity_is_the_number_of_equally_used_codes():
    np.testing.assert_allclose(variational.perplexity(jnp.full(64, 1 / 64)), 64, rtol=1e-5)
    assert variational.perplexity(jnp.float32([0, 1, 0])) == 1
    np.testing.assert_allclose(variational.perplexity(jnp.float32([0.5, 0, 0.5])), 2, rtol=1e-6)
