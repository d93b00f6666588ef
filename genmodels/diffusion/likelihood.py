"""Exact likelihood by the probability-flow ODE (Song et al. 2021, section 4.3), for every process.

Up to the scale of x, all Gaussian processes follow the same path in lambda = log(sigma / alpha). For x scaled to unit
variance, z = x / sqrt(alpha^2 + sigma^2), with a = 1 / sqrt(1 + e^(2 lambda)) and b = e^lambda a, the ODE is

    dz/dlambda = b epsilon - b^2 z
    log p(z at the clean end) = log N(z at the noisy end; 0, I) + integral of div(dz/dlambda) dlambda

and the image is x / alpha at the clean end. The divergence is exact, from one Jacobian column for each dimension, or
Hutchinson's estimate, from one Rademacher vector for each image. diffrax (Kidger 2021) integrates with Dormand-Prince
5(4). Every image has its own step sizes, so its result does not depend on its batch.

Images have 256 levels, but a density is defined on a continuum. Uniform noise of the width of a level is added, and
-log p(image) <= -E log p(image + noise) - D log(width) (Theis et al. 2016).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from genmodels.diffusion.bound import LEVEL
from genmodels.diffusion.parameterization import Output, to_epsilon
from genmodels.diffusion.process import Process

Images = Float[Array, "batch height width channel"]
Image = Float[Array, "height width channel"]
Denoiser = Callable[[Images, Float[Array, " batch"], Any], Output]

TRACES = ("hutchinson", "exact")
MAX_SOLVER_STEPS = 4096  # for each image


class Likelihood(NamedTuple):
    """The likelihood of each image.

    Attributes:
      log_density: the log density of the given point, in nats; NaN where the solver did not reach the end.
      evaluations: the number of network evaluations.
    """

    log_density: Float[Array, " batch"]
    evaluations: Float[Array, " batch"]


def _divergence(field: Callable[[Image], Image], z: Image, probe: Image, trace: str) -> tuple[Image, Array]:
    """The value and the divergence of the field at z."""
    if trace == "hutchinson":
        value, product = jax.jvp(field, (z,), (probe,))
        return value, jnp.sum(product * probe)
    value, push = jax.linearize(field, z)
    basis = jnp.eye(z.size).reshape(z.size, *z.shape)
    return value, jnp.trace(jax.vmap(push)(basis).reshape(z.size, z.size))


def _max_error(error: tuple[Image, Array]) -> Array:
    """The larger of the scaled errors of z and of the integral; an average over all entries would hide the latter."""
    z, integral = error
    return jnp.maximum(jnp.sqrt(jnp.mean(jnp.square(z))), jnp.abs(integral))


def _ode_field(
    predict: Denoiser, process: Process, parameterization: str, condition: Any
) -> Callable[[Image, Float[Array, ""]], Image]:
    """dz/dlambda as a function of z and lambda, for one image; `condition` is its row, with a leading axis of 1."""

    def field(z, lam):
        time, alpha, sigma = process.at_ratio(lam[None])
        size = jnp.sqrt(alpha**2 + sigma**2)
        x = z[None] * size
        epsilon = to_epsilon(parameterization, predict(x, time, condition).prediction, x, alpha, sigma)
        b = sigma / size
        return (b * epsilon - b**2 * x / size)[0]

    return field


def log_density(
    predict: Denoiser,
    process: Process,
    parameterization: str,
    images: Images,
    condition: Any,
    keys: Key[Array, " batch"],
    *,
    trace: str = "hutchinson",
    rtol: float = 1e-4,
    atol: float = 1e-4,
) -> Likelihood:
    """log p of `images`, which are points x / alpha at the clean end of the process.

    Args:
      predict: the denoiser's output at (x, time, condition), for any batch.
      parameterization: the target that the denoiser predicts.
      condition: a pytree of arrays with one row for each image, e.g. labels; None for an unconditional model.
      keys: one key for each image, from which Hutchinson's vector is drawn.
      trace: hutchinson or exact.
      rtol, atol: tolerances of the adaptive step. They hold for z (root mean square) and separately for the integral of
        the divergence divided by D.
    Raises:
      ValueError: the trace is unknown.
    """
    import diffrax  # here, because its import takes half a second of every command's start

    if trace not in TRACES:
        raise ValueError(f"unknown trace {trace!r}; there are {', '.join(TRACES)}")
    clean, noisy = process.log_ratio_range
    dims = math.prod(images.shape[1:])

    def density(image, own_condition, key):
        probe = jax.random.rademacher(key, image.shape, jnp.float32)
        row = jax.tree.map(lambda leaf: leaf[None], own_condition)
        field = _ode_field(predict, process, parameterization, row)

        def slope(lam, state, args):
            velocity, divergence = _divergence(lambda z: field(z, lam), state[0], probe, trace)
            return velocity, divergence / dims

        scale = 0.5 * math.log1p(math.exp(2 * clean))  # the log of (x / alpha) / z
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(slope),
            diffrax.Dopri5(),
            clean,
            noisy,
            dt0=None,
            y0=(image * math.exp(-scale), jnp.float32(0)),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol, norm=_max_error),
            max_steps=MAX_SOLVER_STEPS,
            throw=False,
            adjoint=diffrax.ForwardMode(),
        )
        z, integral = jax.tree.map(lambda leaf: leaf[-1], solution.ys)
        prior = -0.5 * jnp.mean(jnp.square(z)) - 0.5 * math.log(2 * math.pi)
        solved = solution.result == diffrax.RESULTS.successful
        log_p = jnp.where(solved, dims * (prior + integral - scale), jnp.nan)
        return Likelihood(log_p, 6.0 * solution.stats["num_steps"])

    return jax.vmap(density)(images, condition, keys)


def dequantize(images: Images, keys: Key[Array, " batch"]) -> Images:
    """Images at the 256 levels k / 127.5 - 1, plus centred uniform noise of the width of a level."""
    noise = jax.vmap(lambda key: jax.random.uniform(key, images.shape[1:], minval=-0.5, maxval=0.5))(keys)
    return images + LEVEL * noise


def bits_per_dim(log_density: Float[Array, " batch"], dims: int) -> Float[Array, " batch"]:
    """Bits per dimension of the 256-level image, from the log density of its dequantised point in nats."""
    return -(log_density / dims + math.log(LEVEL)) / math.log(2)
