"""Data whose denoiser is known exactly: independent N(mean, std^2) pixels."""

import jax
import jax.numpy as jnp
import numpy as np

from genmodels.diffusion.ddpm import DDPM
from genmodels.diffusion.edm import EDM
from genmodels.diffusion.flow import RectifiedFlow
from genmodels.diffusion.parameterization import Output
from genmodels.diffusion.schedules import Schedule

SHAPE = (3, 3, 2)


def ddpm(name="cosine", steps=1000, **options):
    return DDPM(Schedule.named(name, steps, **options))


PROCESSES = {"linear": ddpm("linear"), "cosine": ddpm("cosine"), "edm": EDM(), "flow": RectifiedFlow()}
PREDICTS = {"linear": "epsilon", "cosine": "epsilon", "edm": "x0", "flow": "flow"}


def keys_for(num, seed=0):
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(num))


def coefficients(process, time):
    """alpha and sigma at any time, also between the steps of a DDPM."""
    if not isinstance(process, DDPM):
        return process.alpha_sigma(time)
    log_ratio = jnp.interp(
        time, jnp.arange(process.num_steps), jnp.asarray(np.log(process.schedule.sigma / process.schedule.alpha))
    )
    _, alpha, sigma = process.at_ratio(log_ratio)
    return alpha, sigma


def exact_x0(x, alpha, sigma, mean, std):
    """E[x_0 | x] for data N(mean, std^2)."""
    return (alpha * std**2 * x + sigma**2 * mean) / (alpha**2 * std**2 + sigma**2)


def exact(process, parameterization, mean, std):
    """The exact denoiser of this data as a `predict` of `samplers.sample`, with predictions of `parameterization`."""

    def predict(x, time, condition=None):
        alpha, sigma = coefficients(process, time)
        x0 = exact_x0(x, alpha, sigma, mean, std)
        epsilon = sigma * (x - alpha * mean) / (alpha**2 * std**2 + sigma**2)
        targets = {"x0": x0, "epsilon": epsilon, "velocity": alpha * epsilon - sigma * x0, "flow": epsilon - x0}
        return Output(targets[parameterization])

    return predict
