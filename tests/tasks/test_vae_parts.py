"""The parts of an autoencoder's loss one by one, without any network."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.core.optim import Frozen, make_optimizer
from genmodels.core.parallel import whole_view
from genmodels.nn.quantize import Codebook
from genmodels.tasks.network_optimizer import NetworkOptimizer
from genmodels.tasks.vae import VAE
from genmodels.tasks.vae_predict import RunningBound
from genmodels.tasks.vae_settings import Model, VAEConfig
from tests.helpers import experiment

KEYS = jax.random.split(jax.random.key(0), 2000)
DIST = whole_view({"key": KEYS})
VECTORS = jnp.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]])
CODEBOOK = Codebook(jnp.full(4, 0.25), 0.25 * VECTORS)


def vae(**settings):
    optimizer = NetworkOptimizer("autoencoder", make_optimizer(experiment("vae_digits").optim, 10), Frozen())
    return VAE(Model(SimpleNamespace(latent_dim=2), VAEConfig(**settings)), optimizer)


@pytest.mark.parametrize(("likelihood", "std"), [("gaussian", 0.5), ("bernoulli", 0.25)])
def test_noise_is_relative_to_images_in_minus_one_to_one(likelihood, std):
    """Targets of a Bernoulli model are in [0, 1], half as wide."""
    target = jnp.zeros((2000, 2, 2, 1))
    noise = vae(likelihood=likelihood, noise=0.5).corrupt(target, KEYS)
    np.testing.assert_allclose(noise.std(), std, rtol=0.03)
    np.testing.assert_array_equal(vae(likelihood=likelihood).corrupt(target, KEYS), target)


def test_the_weight_of_the_kl_rises_linearly_to_beta():
    weights = [float(vae(beta=2.0, kl_warmup=4).beta(jnp.int32(step))) for step in range(6)]
    np.testing.assert_allclose(weights, [0.5, 1, 1.5, 2, 2, 2])


def test_a_dimension_below_its_free_bits_costs_them_and_has_no_gradient():
    kl = jnp.array([[0.02, 1.0], [0.04, 3.0]])  # means 0.03 and 2
    method = vae(free_bits=0.5)
    cost, gradient = jax.value_and_grad(lambda kl: method.kl_cost(kl, jnp.float32(1), whole_view(kl))[0])(kl)
    np.testing.assert_allclose(cost, 0.5 + 2.0)
    np.testing.assert_allclose(gradient, [[0, 0.5], [0, 0.5]])


def test_dimensions_are_counted_as_active_by_their_mean_kl():
    kl = jnp.array([[0.0, 0.015, 1.0], [0.0, 0.003, 3.0]])  # means 0, 0.009 and 2
    cost, metrics = vae().kl_cost(kl, jnp.float32(3), whole_view(kl))
    assert metrics["active_units"] == 1
    np.testing.assert_allclose([cost, metrics["kl"]], [3 * 2.009, 2.009], rtol=1e-6)


def test_gaussian_latents_have_the_moments_of_the_encoder():
    mean, log_variance = jnp.full((2000, 3), 1.5), jnp.full((2000, 3), 2 * math.log(0.2))
    options = {"beta": jnp.float32(1), "codebook": None, "dist": DIST}
    latent, _, metrics = jax.jit(lambda moments: vae().sample_latent(moments, KEYS, **options))((mean, log_variance))
    np.testing.assert_allclose([latent.mean(), latent.std()], [1.5, 0.2], rtol=0.02)
    np.testing.assert_allclose(metrics["kl"], 3 * 0.5 * (1.5**2 + 0.2**2 - 1 - 2 * math.log(0.2)), rtol=1e-5)


def test_quantised_latents_are_the_nearest_codes_and_pass_gradients_on():
    method, latents = vae(latent="vq", codebook_size=4, commitment=0.25), jnp.array([[0.5, 0.0], [3.0, 4.5]])
    options = {"beta": jnp.float32(1), "codebook": CODEBOOK, "dist": DIST}

    def quantised(latents):
        return method.sample_latent((latents,), KEYS[:2], **options)[:2]

    codes, cost = jax.jit(quantised)(latents)
    np.testing.assert_allclose(codes, [[0, 0], [4, 4]], atol=1e-6)
    np.testing.assert_allclose(cost, 0.25 * (0.5**2 + 1.0**2 + 0.5**2) / 2)
    weights = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(quantised(z)[0] * weights)))(latents)
    np.testing.assert_array_equal(gradient, weights)


def test_a_codebook_stays_where_the_latents_are_its_codes():
    method = vae(latent="vq", codebook_size=4)
    update = jax.jit(lambda book, z: method.update_codebook(book, z, jax.random.key(0), whole_view(z)))
    codebook, metrics = update(CODEBOOK, VECTORS)
    np.testing.assert_allclose(codebook.vectors, VECTORS, atol=1e-6)
    np.testing.assert_allclose([metrics["perplexity"], metrics["revived"]], [4, 0], rtol=1e-6)


def test_a_running_bound_is_the_log_of_the_sum_of_weights_however_they_are_split():
    rng = np.random.default_rng(0)
    log_weights, nll = jnp.asarray(rng.normal(-300, 40, (3, 12)), jnp.float32), jnp.asarray(rng.uniform(1, 2, (3, 12)))
    bound = RunningBound(jnp.full(3, -jnp.inf), jnp.zeros(3), jnp.zeros(3))
    for part in (slice(0, 1), slice(1, 8), slice(8, 12)):
        bound = jax.jit(RunningBound.add)(bound, log_weights[:, part], nll[:, part])
    wanted = jax.scipy.special.logsumexp(log_weights, axis=1)
    np.testing.assert_allclose(bound.largest + jnp.log(bound.total), wanted, rtol=1e-6)
    np.testing.assert_allclose(bound.distortion, nll.sum(axis=1), rtol=1e-6)
