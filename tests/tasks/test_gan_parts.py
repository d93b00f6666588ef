"""The losses and updates of a GAN one by one, with networks of one parameter each."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.core.guard import finish
from genmodels.core.optim import Frozen, make_optimizer
from genmodels.core.parallel import whole_view
from genmodels.core.rng import fold
from genmodels.core.state import TrainState
from genmodels.models.gan import Networks
from genmodels.nn.batch_norm import COLLECTION
from genmodels.nn.diff_augment import augment
from genmodels.tasks.gan import GAN, PENALTY_AUGMENT_SALT, GANConfig
from genmodels.tasks.gan_predict import LATENT_SALT, GANNetworks
from genmodels.tasks.network_optimizer import NetworkOptimizer
from tests.helpers import experiment

ROWS, SHAPE = 8, (8, 4, 4, 1)
KEYS = jax.random.split(jax.random.key(0), ROWS)
SLOPE = 3.0


class LinearNetworks(GANNetworks):
    """D scores an image by slope x the mean of its pixels; G draws grey images around one level."""

    def latents(self, keys):
        return jax.vmap(jax.random.normal)(keys)

    def generate_batch(self, params, extra, latents, labels, mean):
        return params["level"] + 0.1 * latents[:, None, None, None] * jnp.ones(SHAPE[1:]), {}

    def score(self, params, extra, images, labels, mean=None):
        return params["slope"] * jnp.mean(images, axis=(1, 2, 3)), {}


def gan(**settings):
    """The method, and a state in which D has the slope SLOPE and G the level 0."""
    config = experiment("gan_digits").optim.copy_and_resolve_references()
    config.update({"name": "sgd", "learning_rate": 0.1, "momentum": 0.0, "clip_norm": 0.0, "decay": "constant"})
    optimizers = {
        name: NetworkOptimizer(name, make_optimizer(config, 10), Frozen(), suffix=f"_{name}")
        for name in ("generator", "discriminator")
    }
    params = {"generator": {"level": jnp.zeros(())}, "discriminator": {"slope": jnp.float32(SLOPE)}}
    transformations = {name: optimizer.transformation for name, optimizer in optimizers.items()}
    state = TrainState.create(params, transformations, ema=False, extra={name: {} for name in params})
    return GAN(GANConfig(**settings), LinearNetworks(Networks(SHAPE[1:], 0, channels=(4,))), optimizers), state


def discriminator_loss(method, real, fake, penalize=False):
    """The loss and metrics of D on images of one grey level each."""
    rows = {"image": jnp.full(SHAPE, real), "fake": jnp.full(SHAPE, fake), "key": KEYS}
    params, dist = {"slope": jnp.float32(SLOPE)}, whole_view(rows)

    def loss(params, rows):
        return method.discriminator_loss(params, rows, extra={}, penalize=jnp.bool_(penalize), dist=dist)

    return jax.jit(loss)(params, rows)


def test_the_hinge_loss_of_known_scores():
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))); scores beyond the margin cost nothing."""
    method, _ = gan(loss="hinge")
    for real, fake, wanted in ((0.5, -0.25, 0.5 + 0.75), (2.0, -2.0, 0.0), (-1.0, 1.0, 4.0)):
        loss, metrics = discriminator_loss(method, real / SLOPE, fake / SLOPE)
        np.testing.assert_allclose(loss, wanted, atol=1e-6)
        assert metrics["discriminator_accuracy_real"] == (real > 0)
        assert metrics["discriminator_accuracy_fake"] == (fake < 0)


def test_the_accuracy_of_a_critic_is_relative_to_its_mean_score():
    method, _ = gan(loss="wasserstein")
    loss, metrics = discriminator_loss(method, 5.0, 4.0)
    np.testing.assert_allclose(loss, -SLOPE, rtol=1e-6)
    assert metrics["discriminator_accuracy_real"] == metrics["discriminator_accuracy_fake"] == 1


@pytest.mark.parametrize(("interval", "penalize"), [(1, True), (4, True), (4, False)])
def test_the_penalty_is_added_with_its_weight_and_interval(interval, penalize):
    """The gradient of this score has the square SLOPE^2 / pixels, of which R1 is half."""
    plain, _ = gan(loss="hinge")
    penalized, _ = gan(loss="hinge", penalty="r1", penalty_weight=10.0, penalty_interval=interval)
    base = discriminator_loss(plain, 0.1, -0.1)[0]
    loss, metrics = discriminator_loss(penalized, 0.1, -0.1, penalize)
    r1 = 0.5 * SLOPE**2 / 16 if penalize else 0.0
    np.testing.assert_allclose(metrics["penalty"].total, r1, rtol=1e-5)
    assert metrics["penalty"].count == penalize
    np.testing.assert_allclose(loss, base + 10 * interval * r1, rtol=1e-5)


@pytest.mark.parametrize("penalty", ["r1", "wgan_gp"])
def test_a_penalty_is_on_the_gradient_with_respect_to_images_before_augmentation(penalty):
    """Pixels that a cutout covers have no gradient; each of the others has SLOPE / 16."""
    method, _ = gan(loss="hinge", penalty=penalty, augment=("cutout",))
    _, metrics = discriminator_loss(method, 0.1, -0.1, penalize=True)
    seen = augment(("cutout",), jnp.ones(SHAPE), fold(KEYS, PENALTY_AUGMENT_SALT)).sum((1, 2, 3))
    assert len(set(seen.tolist())) > 1
    squares = seen * (SLOPE / 16) ** 2
    wanted = {"r1": jnp.mean(squares) / 2, "wgan_gp": jnp.mean((jnp.sqrt(squares) - 1) ** 2)}
    np.testing.assert_allclose(metrics["penalty"].total, wanted[penalty], rtol=1e-5)


def test_the_generator_loss_is_minus_the_mean_score_of_its_images():
    method, state = gan(loss="hinge")
    rows = {"key": KEYS}
    loss, _ = method.generator_loss({"level": jnp.float32(0.5)}, rows, state=state, dist=whole_view(rows))
    latents = method.networks.latents(fold(KEYS, LATENT_SALT))
    np.testing.assert_allclose(loss, -SLOPE * (0.5 + 0.1 * latents.mean()), rtol=1e-5)


def test_a_generator_update_raises_the_score_of_its_images_and_leaves_the_discriminator():
    method, state = gan(loss="hinge")
    rows = {"image": jnp.ones(SHAPE), "key": KEYS}
    new, metrics = jax.jit(lambda s, r: finish(*method.generator_update(s, r, whole_view(r))))(state, rows)
    np.testing.assert_allclose(new.params["generator"]["level"], 0.1 * SLOPE, rtol=1e-5)
    assert new.params["discriminator"]["slope"] == SLOPE
    assert metrics["grad_norm_generator"] == pytest.approx(SLOPE)


def test_a_discriminator_update_separates_the_scores_and_leaves_the_generator():
    method, state = gan(loss="wasserstein")
    rows = {"image": jnp.ones(SHAPE), "key": KEYS}
    update = jax.jit(lambda s, r: method.discriminator_update(s, r, jnp.int32(0), whole_view(r)))
    new, metrics = update(state, rows)
    # The loss is slope (mean of fakes - mean of real images), the rate 0.1, and the fakes lie around level 0.
    latents = method.networks.latents(fold(KEYS, LATENT_SALT))
    np.testing.assert_allclose(
        new.params["discriminator"]["slope"], SLOPE + 0.1 * (1 - 0.1 * latents.mean()), rtol=1e-5
    )
    assert new.params["generator"]["level"] == 0
    assert "loss" not in metrics  # the loss in the log is the generator's


class NetworksWithStatistics(LinearNetworks):
    """Those whose discriminator's only batch statistic is the mean of the pixels."""

    def score(self, params, extra, images, labels, mean=None):
        return super().score(params, extra, images, labels, mean)[0], {COLLECTION: jnp.mean(images)}


def test_the_statistics_of_a_discriminator_update_are_those_of_real_and_fake_images_alike():
    method, _ = gan(loss="hinge")
    method = dataclasses.replace(method, networks=NetworksWithStatistics(method.networks.settings))
    _, metrics = discriminator_loss(method, 2.0, 4.0)
    np.testing.assert_allclose(metrics["statistics"][COLLECTION], 3.0)
