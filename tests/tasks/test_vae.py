"""Autoencoders beyond what every task promises: bounds against exact likelihoods, and what each setting does."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genmodels.core.guard import guarded
from genmodels.core.parallel import whole_view
from genmodels.errors import ConfigError
from genmodels.models.vae import Decoded
from genmodels.tasks import DataSpec, make_task
from genmodels.tasks.vae import watch
from genmodels.tasks.vae_predict import VAEFunctions
from genmodels.tasks.vae_settings import Model, VAEConfig
from tests.helpers import experiment, random_state

SPEC = DataSpec((8, 8, 1), 10)
STD, LEVEL = 0.2, 2 / 255
LOADING = np.float32([0.3, -0.2, 0.1, 0.25])  # of x = LOADING z + noise, images of 2x2


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear Gaussian model in place of the network; its posterior and its likelihood are known."""

    exact: bool  # whether it encodes to the posterior, or to the prior
    image_shape = (2, 2, 1)
    latent_shape = (1,)
    latent_dim = 1
    moments = 2

    def apply(self, params, x, method):
        if method == "decode":
            return Decoded((x @ LOADING[None]).reshape(-1, 2, 2, 1), jnp.log(jnp.float32(STD)))
        precision = 1 + LOADING @ LOADING / STD**2
        mean = x.reshape(-1, 4) @ LOADING / STD**2 / precision
        moments = jnp.stack([mean, jnp.full_like(mean, -jnp.log(precision))], axis=1)
        return moments if self.exact else jnp.zeros_like(moments)


IMAGES = jnp.float32(np.random.RandomState(0).choice(np.arange(100, 156), (40, 2, 2, 1)) / 127.5 - 1)
LOG_P = stats.multivariate_normal(np.zeros(4), np.outer(LOADING, LOADING) + STD**2 * np.eye(4)).logpdf(
    np.asarray(IMAGES).reshape(-1, 4)
) + 4 * math.log(LEVEL)  # of the grey levels


def bounds(name, exact, samples, rows=40):
    predict = VAEFunctions(Model(Linear(exact), VAEConfig(likelihood="gaussian"))).by_name()[name]
    inputs = {"image": IMAGES[:rows], "key": jax.random.split(jax.random.key(0), len(IMAGES))[:rows]}
    return predict.fn({"params": {"autoencoder": {}}, "extra": {}}, {}, inputs, None, samples=samples)


def test_both_bounds_are_the_likelihood_where_the_posterior_is_exact():
    for name, samples in (("elbo", 2000), ("iwae", 1), ("iwae", 7)):
        bound = bounds(name, exact=True, samples=samples)
        tolerance = 0.1 if name == "elbo" else 1e-3  # the ELBO's decoder term is a mean over draws
        np.testing.assert_allclose(-bound["nats"], LOG_P, atol=tolerance)
        np.testing.assert_allclose(bound["nll"], bound["nats"] / (4 * math.log(2)), rtol=1e-5)


def test_the_importance_weighted_bound_closes_the_gap_of_a_wrong_posterior():
    """With the prior as encoder the ELBO is E_z log p(x | z), in closed form; more latents bring it nearer to log p."""
    x = np.asarray(IMAGES).reshape(-1, 4)
    squares = (np.sum(np.square(x), axis=1) + LOADING @ LOADING) / STD**2
    elbo = -0.5 * squares - 2 * np.log(2 * np.pi * STD**2) + 4 * math.log(LEVEL)
    iwae = {samples: -bounds("iwae", False, samples)["nats"] for samples in (1, 20, 5000)}
    averaged = -bounds("elbo", False, 5000)["nats"]
    np.testing.assert_allclose(averaged, elbo, atol=0.4)  # the error of 5,000 draws for one image
    np.testing.assert_allclose(averaged.mean(), elbo.mean(), atol=0.05)
    assert elbo.mean() < iwae[20].mean() < iwae[5000].mean() + 0.01
    np.testing.assert_allclose(iwae[5000], LOG_P, atol=0.4)
    np.testing.assert_allclose(iwae[5000].mean(), LOG_P.mean(), atol=0.03)
    assert (LOG_P - elbo).mean() > 1


def test_bounds_do_not_depend_on_how_many_images_are_decoded_at_once():
    many, single = bounds("iwae", False, 61), bounds("iwae", False, 61, rows=1)  # two chunks of 51 draws; one of 61
    np.testing.assert_allclose(many["nats"][:1], single["nats"], rtol=1e-5)


def test_samples_reconstructions_and_paths_of_a_linear_model_have_their_closed_forms():
    predict = VAEFunctions(Model(Linear(True), VAEConfig(likelihood="gaussian"))).by_name()
    variables = {"params": {"autoencoder": {}}, "extra": {}}
    keys = jax.random.split(jax.random.key(1), 4000)
    drawn = predict["sample"].fn(variables, {}, {"key": keys}, None)["image"].reshape(-1, 4)
    np.testing.assert_allclose(np.cov(drawn.T), np.outer(LOADING, LOADING), atol=0.01)
    ends = {"a": IMAGES[:5], "b": IMAGES[5:10]}
    for kind in ("linear", "spherical"):
        frames = predict["interpolate"].fn(variables, {}, ends, None, frames=6, kind=kind)["frames"]
        assert frames.shape == (5, 6, 2, 2, 1)
        for side, images in zip((0, -1), ends.values(), strict=True):
            reconstruction = predict["reconstruct"].fn(variables, {}, {"image": images}, None)["image"]
            np.testing.assert_allclose(frames[:, side], reconstruction, atol=1e-5)


def test_binarising_models_encode_greys_as_probabilities():
    model = Model(Linear(True), VAEConfig(binarize="dynamic"))
    variables = {"params": {"autoencoder": {}}, "extra": {}}
    latent = VAEFunctions(model).by_name()["encode"].fn(variables, {}, {"image": IMAGES}, None)["latent"]
    np.testing.assert_allclose(latent, model.encode({}, (IMAGES + 1) / 2)[0], atol=1e-6)


def built(**overrides):
    config = experiment("vae_digits", **overrides)
    task = make_task(config, SPEC, 100)
    images = jax.random.uniform(jax.random.key(2), (16, 8, 8, 1), minval=-1)
    state = random_state(task, {"image": images})

    def step(state, seed=0):
        batch = {"image": images}
        return guarded(task.train_step)(state, {}, batch, jax.random.key(seed), whole_view(batch))

    return task, state, jax.jit(step)


SGD = {"optim.name": "sgd", "optim.warmup": 0, "optim.clip_norm": 0.0, "optim.learning_rate": 1e-4, "ema.horizon": 0.0}
MLP = {"model.network": "mlp", "model.hidden": (16,), **SGD}


def test_every_binarisation_is_a_new_draw_with_the_greys_as_probabilities():
    model = Model(Linear(True), VAEConfig(binarize="dynamic"))
    grey = jnp.full((5000, 1, 1, 1), -0.4)  # a probability of 0.3 to be white
    first, second = (model.target(grey, jax.random.split(jax.random.key(seed), 5000)) for seed in range(2))
    assert set(np.unique(first)) == {0, 1}
    np.testing.assert_allclose(first.mean(), 0.3, atol=0.03)
    assert np.mean(first != second) == pytest.approx(2 * 0.3 * 0.7, abs=0.03)


def test_beta_weighs_the_kl_and_rises_with_the_warm_up():
    _, state, step = built(**MLP, **{"vae.beta": 3.0, "vae.kl_warmup": 4})
    for expected in (0.75, 1.5, 2.25, 3.0, 3.0):
        state, metrics = step(state)
        np.testing.assert_allclose(metrics["beta"], expected)
        np.testing.assert_allclose(metrics["loss"], metrics["reconstruction"] + expected * metrics["kl"], rtol=1e-5)
        np.testing.assert_allclose(metrics["elbo"], -metrics["reconstruction"] - metrics["kl"], rtol=1e-5)
        np.testing.assert_allclose(metrics["bits_per_dim"], -metrics["elbo"] / (64 * math.log(2)), rtol=1e-5)


def test_free_bits_have_no_gradient():
    free, none = (built(**MLP, **changes) for changes in ({"vae.free_bits": 1e3}, {"vae.beta": 0.0}))
    for a, b in zip(*(jax.tree.leaves(step(state)[0].params) for _, state, step in (free, none)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9)
    _, state, step = built(**MLP, **{"vae.free_bits": 1e-6})  # every dimension has more
    plain = built(**MLP)
    for a, b in zip(*(jax.tree.leaves(s(z)[0].params) for _, z, s in ((0, state, step), plain)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_noise_reaches_the_encoder_and_not_the_target():
    task, state, step = built(**MLP, **{"vae.latent": "none", "vae.noise": 0.5})
    changed = step(state, 1)[1]["reconstruction"]
    assert step(state)[1]["reconstruction"] != changed
    network = state.params["autoencoder"]
    constant_decoder = {"autoencoder": network | {"decoder": jax.tree.map(jnp.zeros_like, network["decoder"])}}
    first, second = (step(state.replace(params=constant_decoder), seed)[1]["reconstruction"] for seed in range(2))
    assert first == second  # the output does not depend on the input, so the targets are the same
    images = jnp.zeros((2000, 8, 8, 1))
    inputs = {"image": images, "key": jax.random.split(jax.random.key(0), 2000)}
    seen = task.predict["reconstruct"].fn(state.variables(), {}, inputs, None, noise=0.5)["seen"]
    np.testing.assert_allclose(seen.std(), 0.5, rtol=0.02)
    assert "sample" not in task.predict  # its latents have no distribution


def test_codes_follow_the_encoder_and_dead_ones_are_revived():
    changes = {"vae.latent": "vq", "vae.codebook_size": 64, "vae.codebook_decay": 0.5, "vae.revive_below": 0.1}
    task, state, step = built(**SGD, **changes, **{"model.grid": True})
    revived = []
    for seed in range(12):
        before = state
        state, metrics = step(state, seed)
        revived.append(float(metrics["revived"]))
    assert 1 <= metrics["perplexity"] <= 64
    np.testing.assert_allclose(metrics["loss"], metrics["reconstruction"] + 0.25 * metrics["commitment"], rtol=1e-5)
    assert sum(revived) > 0
    inputs = {"image": jax.random.uniform(jax.random.key(2), (16, 8, 8, 1), minval=-1)}
    encoded = task.predict["encode"].fn(before.variables(), {}, inputs, None)
    vectors = before.extra["codebook"].vectors
    np.testing.assert_array_equal(encoded["latent"], vectors[encoded["code"]])
    shares = np.bincount(encoded["code"].reshape(-1), minlength=64) / encoded["code"].size
    np.testing.assert_allclose(metrics["perplexity"], math.exp(stats.entropy(shares)), rtol=1e-4)


def test_warnings_name_unused_latents_and_unused_codes():
    assert not list(watch({"active_units": 3.0, "perplexity": 12.0, "loss": 1.0}))
    assert [line.partition(":")[0] for line in watch({"active_units": 0.0, "perplexity": 1.1})] == [
        "posterior collapse",
        "codebook",
    ]


@pytest.mark.parametrize("latent", ["gaussian", "vq"])
def test_bfloat16_trains_with_float32_parameters(latent):
    extra = {"model.grid": True, "ema.horizon": 0.0} if latent == "vq" else {}
    _, state, step = built(**{"model.dtype": "bfloat16", "vae.latent": latent}, **extra)
    new, metrics = step(state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((new.params, new.extra, metrics)))
    assert {leaf.dtype for leaf in jax.tree.leaves(new.params)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vae.binarize": "dynamic"}, "config.vae: binarize=dynamic makes black and white"),
        ({"vae.latent": "vq"}, r"codebook follows the encoder.*config\.ema\.horizon=0\.0"),
        ({"vae.latent": "vae"}, r"unknown config\.vae\.latent 'vae'.*gaussian, none, vq"),
        ({"vae.likelihood": "bernouli"}, "did you mean 'bernoulli'"),
        ({"vae.noise": -1.0}, "noise=-1.0 must be finite and not negative"),
        ({"vae.codebook_decay": 1.0}, "codebook_decay within"),
        ({"vae.free_bits": 0.1, "train.accumulate": 2}, "free_bits needs the mean KL of the whole batch"),
        ({"model.channels": (4, 4, 4, 4)}, "8x8 does not divide"),
        ({"model.grid": True, "model.network": "mlp"}, "grid needs network=conv"),
        ({"model.dtype": "float16"}, "there are bfloat16, float32"),
    ],
)
def test_contradictory_settings_are_refused_in_one_line(changes, words):
    with pytest.raises(ConfigError, match=words) as caught:
        make_task(experiment("vae_digits", **changes), SPEC, 10)
    assert "\n" not in str(caught.value)
