"""Predict functions around a network that knows the answer: each label's pixels are N(mean of the label, STD^2)."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.diffusion import bound
from genmodels.tasks.diffusion_predict import Denoiser, predict_functions
from genmodels.tasks.diffusion_settings import DDPMConfig, EDMConfig, FlowConfig, LikelihoodConfig, SamplerConfig
from tests.diffusion.gaussian import coefficients, exact_x0, keys_for

MEANS, STD = jnp.array([-0.2, 0.1, 0.0]), 0.15  # of two classes, and of the null label
SETTINGS = {"ddpm": DDPMConfig(parameterization="velocity"), "edm": EDMConfig(sigma_data=0.4), "flow": FlowConfig()}
SHAPE = (6, 6, 1)


@dataclasses.dataclass(frozen=True)
class Exact:
    """Stands for the U-Net: what the process hands it and asks of it is all it has."""

    settings: object

    def clone(self, **changes):
        return self

    def apply(self, variables, x, t, labels, keys):
        mean = MEANS[labels][:, None, None, None]
        kind, way = self.settings.process, self.settings.make()
        if kind == "edm":
            sigma, data = jnp.exp(4 * t)[:, None, None, None], self.settings.sigma_data
            total = sigma**2 + data**2
            xt = x * jnp.sqrt(total)
            x0 = exact_x0(xt, 1.0, sigma, mean, STD)
            return (x0 - data**2 / total * xt) * jnp.sqrt(total) / (sigma * data)
        alpha, sigma = coefficients(way, t / 1000 if kind == "flow" else t)
        x0 = exact_x0(x, alpha, sigma, mean, STD)
        epsilon = sigma * (x - alpha * mean) / (alpha**2 * STD**2 + sigma**2)
        return epsilon - x0 if kind == "flow" else alpha * epsilon - sigma * x0


def call(name, process, inputs, **options):
    settings = SETTINGS[process]
    way = settings.make()
    sampling = SamplerConfig(sampler="heun", steps=40, spacing=way.spacings[0], clip=0.0)
    denoiser = Denoiser(Exact(settings), way, False, 2)
    predict = predict_functions(denoiser, settings, sampling, LikelihoodConfig(), SHAPE)[name]
    chosen = dict(predict.options) | options
    return jax.jit(lambda given: predict.fn({"params": {"denoiser": None}}, {}, given, None, **chosen))(inputs)


@pytest.mark.parametrize("process", SETTINGS)
@pytest.mark.parametrize("scale", [None, 0.0, 2.0])
def test_samples_are_of_the_label_and_guidance_goes_beyond_it(process, scale):
    """With equal spreads guidance moves the mean alone: from that of the null label by the scale."""
    labels = jnp.arange(600) % 2
    inputs = {"key": keys_for(600), "label": labels}
    if scale is not None:
        inputs["guidance_scale"] = jnp.full(600, scale)
    images = np.asarray(call("sample", process, inputs)["image"], np.float64)
    for label in range(2):
        found = images[np.asarray(labels) == label]
        assert abs(found.mean() - float(MEANS[label]) * (1.0 if scale is None else scale)) < 0.01
        assert abs(found.std() / STD - 1) < 0.03


def images_of(label, num=64):
    pixels = MEANS[label] + STD * jax.random.normal(jax.random.key(7), (num, *SHAPE))
    return jnp.round((jnp.clip(pixels, -1, 1) + 1) * 127.5) / 127.5 - 1


@pytest.mark.parametrize(("name", "process"), [("ode", "ddpm"), ("ode", "edm"), ("ode", "flow"), ("vlb", "ddpm")])
def test_likelihoods_are_those_of_the_label(name, process):
    images = images_of(0)
    x = np.asarray(images, np.float64)

    def bits(label):
        z = (x - float(MEANS[label])) / STD
        nats = (0.5 * z**2 + math.log(STD) + 0.5 * math.log(2 * math.pi)).mean((1, 2, 3))
        return nats / math.log(2) - math.log2(bound.LEVEL)

    for label in range(2):
        inputs = {"key": keys_for(64), "image": images, "label": jnp.full(64, label)}
        found = np.asarray(call(name, process, inputs, **({"strata": 0} if name == "vlb" else {}))["nll"])
        if name == "ode":  # the noise of dequantisation moves single images a little
            np.testing.assert_allclose(found, bits(label), atol=0.06)
            np.testing.assert_allclose(found.mean(), bits(label).mean(), atol=5e-3)
        elif label == 0:  # a bound, with a fixed variance a loose one
            assert bits(0).mean() < found.mean() < bits(0).mean() + 1.5
            right = found.mean()
        else:
            assert found.mean() > right + 0.5 * (bits(1).mean() - bits(0).mean())


@pytest.mark.parametrize("process", SETTINGS)
def test_the_ode_dequantises_anew_with_every_key(process):
    """The score of `Exact` makes every probe's trace the true one: a key changes only the noise of levels."""
    images, labels = images_of(0, 8), jnp.zeros(8, jnp.int32)
    one, two = (
        np.asarray(call("ode", process, {"key": keys, "image": images, "label": labels})["nll"])
        for keys in jnp.split(keys_for(16), 2)
    )
    assert np.abs(one - two).max() > 1e-4


@pytest.mark.parametrize("process", SETTINGS)
def test_reconstructions_come_from_the_noise_level_asked_for(process):
    """At little noise the image comes back; at most noise the label's mean does."""
    images = images_of(0)
    inputs = {"key": keys_for(64), "image": images, "label": jnp.ones(64, jnp.int32)}
    near, far = (call("denoise", process, inputs, timestep=t)["image"] for t in (0, 999))
    np.testing.assert_allclose(near, images, atol=0.1)
    np.testing.assert_allclose(far, MEANS[1], atol=0.05)


def test_guidance_leaves_the_variance_of_the_label():
    class Marked(Exact):
        def apply(self, variables, x, t, labels, keys):
            fraction = jnp.broadcast_to(labels[:, None, None, None].astype(jnp.float32), x.shape)
            return jnp.concatenate([super().apply(variables, x, t, labels, keys), fraction], axis=-1)

    settings = SETTINGS["ddpm"]
    denoiser = Denoiser(Marked(settings), settings.make(), True, 2)
    labels = jnp.array([0, 1, 1])
    output = denoiser.guided({"denoiser": None}, jnp.zeros((3, *SHAPE)), jnp.full(3, 500.0), labels, jnp.full(3, 3.0))
    np.testing.assert_array_equal(output.fraction[:, 0, 0, 0], labels)
