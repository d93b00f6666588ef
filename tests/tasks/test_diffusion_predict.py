"""Predict functions around an exact network: the pixels of a label are N(mean of the label, STD^2)."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.diffusion import bound
from genmodels.tasks.diffusion_predict import Denoiser, DiffusionFunctions
from genmodels.tasks.diffusion_settings import DDPMConfig, EDMConfig, FlowConfig, LikelihoodConfig, SamplerConfig
from tests.diffusion.gaussian import coefficients, exact_x0, keys_for

MEANS, STD = jnp.array([-0.2, 0.1, 0.0]), 0.15  # of two classes, and of the null label
SETTINGS = {"ddpm": DDPMConfig(parameterization="velocity"), "edm": EDMConfig(sigma_data=0.4), "flow": FlowConfig()}
SHAPE = (6, 6, 1)


@dataclasses.dataclass(frozen=True)
class Exact:
    """The exact network in place of the U-Net; it sees only the inputs that the process gives it."""

    settings: object

    def clone(self, **changes):
        return self

    def apply(self, variables, x, t, labels, keys):
        mean = MEANS[labels][:, None, None, None]
        if self.settings.process == "edm":
            sigma, data = jnp.exp(4 * t)[:, None, None, None], self.settings.sigma_data
            total = sigma**2 + data**2
            xt = x * jnp.sqrt(total)
            x0 = exact_x0(xt, 1.0, sigma, mean, STD)
            return (x0 - data**2 / total * xt) * jnp.sqrt(total) / (sigma * data)
        flow = self.settings.process == "flow"
        alpha, sigma = coefficients(self.settings.make(), t / 1000 if flow else t)
        x0 = exact_x0(x, alpha, sigma, mean, STD)
        epsilon = sigma * (x - alpha * mean) / (alpha**2 * STD**2 + sigma**2)
        return epsilon - x0 if flow else alpha * epsilon - sigma * x0


def call(name, process, inputs, **options):
    settings = SETTINGS[process]
    sampling = SamplerConfig(sampler="heun", steps=40, spacing=settings.make().spacings[0], clip=0.0)
    denoiser = Denoiser(Exact(settings), settings.make(), False, 2)
    predict = DiffusionFunctions(denoiser, settings, sampling, LikelihoodConfig(), SHAPE).by_name()[name]
    chosen = dict(predict.options) | options
    return jax.jit(lambda given: predict.fn({"params": {"denoiser": None}}, {}, given, None, **chosen))(inputs)


@pytest.mark.parametrize("process", SETTINGS)
@pytest.mark.parametrize("scale", [None, 0.0, 2.0])
def test_samples_have_the_mean_of_their_label_and_guidance_extrapolates_it(process, scale):
    """The labels differ in their means only, so guidance moves the mean alone, away from that of the null label."""
    labels = jnp.arange(600) % 2
    inputs = {"key": keys_for(600), "label": labels}
    if scale is not None:
        inputs["guidance_scale"] = jnp.full(600, scale)
    images = np.asarray(call("sample", process, inputs)["image"], np.float64)
    for label in range(2):
        pixels = images[np.asarray(labels) == label]
        assert abs(pixels.mean() - float(MEANS[label]) * (1.0 if scale is None else scale)) < 0.01
        assert abs(pixels.std() / STD - 1) < 0.03


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
        nll = np.asarray(call(name, process, inputs, **({"strata": 0} if name == "vlb" else {}))["nll"])
        if name == "ode":  # the noise of dequantisation moves single images a little
            np.testing.assert_allclose(nll, bits(label), atol=0.06)
            np.testing.assert_allclose(nll.mean(), bits(label).mean(), atol=5e-3)
        elif label == 0:  # a bound, which is loose for a fixed variance
            assert bits(0).mean() < nll.mean() < bits(0).mean() + 1.5
            bound_of_true_label = nll.mean()
        else:
            assert nll.mean() > bound_of_true_label + 0.5 * (bits(1).mean() - bits(0).mean())


@pytest.mark.parametrize("process", SETTINGS)
def test_every_key_of_the_ode_draws_its_own_dequantisation(process):
    """The Jacobian of `Exact` is diagonal, so every probe gives the true trace and a key changes the noise alone."""
    images, labels = images_of(0, 8), jnp.zeros(8, jnp.int32)
    first, second = (
        np.asarray(call("ode", process, {"key": keys, "image": images, "label": labels})["nll"])
        for keys in jnp.split(keys_for(16), 2)
    )
    assert np.abs(first - second).max() > 1e-4


@pytest.mark.parametrize("process", SETTINGS)
def test_reconstructions_come_from_the_noise_of_their_timestep(process):
    """Reconstructed from little noise it is the image, from the most noise the mean of the label."""
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
