"""The targets that a diffusion network can predict, and the conversions between them.

    x_t      = alpha x_0 + sigma epsilon
    velocity = alpha epsilon - sigma x_0       where alpha^2 + sigma^2 = 1      (Salimans & Ho 2022, appendix D)
    flow     = epsilon - x_0                   where alpha + sigma = 1          (Liu et al. 2023)

    x_0      = (x_t - sigma epsilon) / alpha  =  alpha x_t - sigma velocity  =  x_t - sigma flow
    epsilon  = (x_t - alpha x_0) / sigma      =  sigma x_t + alpha velocity  =  x_t + alpha flow

epsilon and x0 exist in every process; velocity belongs to variance-preserving processes, flow to straight paths.
`alpha` and `sigma` broadcast against the images: they have shape [batch, 1, 1, 1] or are scalars.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

Images = Float[Array, "batch height width channel"]
Coefficient = Float[Array, "*#coefficient"]

PARAMETERIZATIONS = ("epsilon", "x0", "velocity", "flow")


class Output(NamedTuple):
    """The output of a denoiser.

    Attributes:
      prediction: the network's estimate of its target (epsilon, x0, velocity or flow).
      fraction: where the variance is learned, v of Improved DDPM's eq. 15 scaled to about [-1, 1]: -1 is the
        posterior variance, 1 is beta. None where the variance is fixed.
    """

    prediction: Images
    fraction: Images | None = None


class Denoised(NamedTuple):
    """The estimates of x_0 and epsilon that follow from a denoiser's output; x_t = alpha x0 + sigma epsilon."""

    x0: Images
    epsilon: Images
    fraction: Images | None = None


def _check(parameterization: str) -> None:
    if parameterization not in PARAMETERIZATIONS:
        raise ValueError(f"unknown parameterization {parameterization!r}; there are {', '.join(PARAMETERIZATIONS)}")


def target(parameterization: str, x0: Images, epsilon: Images, alpha: Coefficient, sigma: Coefficient) -> Images:
    """The regression target of the network for the true `x0` and `epsilon`.

    Raises:
      ValueError: the parameterization is unknown.
    """
    _check(parameterization)
    if parameterization == "epsilon":
        return epsilon
    if parameterization == "flow":
        return epsilon - x0
    return x0 if parameterization == "x0" else alpha * epsilon - sigma * x0


def to_x0(parameterization: str, prediction: Images, xt: Images, alpha: Coefficient, sigma: Coefficient) -> Images:
    """The x0 that follows from a `prediction` at `xt`."""
    _check(parameterization)
    if parameterization == "x0":
        return prediction
    if parameterization == "epsilon":
        return (xt - sigma * prediction) / alpha
    if parameterization == "flow":
        return xt - sigma * prediction
    return alpha * xt - sigma * prediction


def to_epsilon(parameterization: str, prediction: Images, xt: Images, alpha: Coefficient, sigma: Coefficient) -> Images:
    """The epsilon that follows from a `prediction` at `xt`."""
    _check(parameterization)
    if parameterization == "epsilon":
        return prediction
    if parameterization == "x0":
        return (xt - alpha * prediction) / sigma
    if parameterization == "flow":
        return xt + alpha * prediction
    return sigma * xt + alpha * prediction


def to_velocity(
    parameterization: str, prediction: Images, xt: Images, alpha: Coefficient, sigma: Coefficient
) -> Images:
    """The velocity that follows from a `prediction` at `xt`, for alpha^2 + sigma^2 = 1.

    Raises:
      ValueError: the prediction is of the flow, which has no velocity.
    """
    _check(parameterization)
    if parameterization == "velocity":
        return prediction
    if parameterization == "epsilon":
        return (prediction - sigma * xt) / alpha
    if parameterization == "x0":
        return (alpha * xt - prediction) / sigma
    raise ValueError("a flow (alpha + sigma = 1) has no velocity, which needs alpha^2 + sigma^2 = 1")


def denoised(
    parameterization: str, output: Output, xt: Images, alpha: Coefficient, sigma: Coefficient, clip: float | None = None
) -> Denoised:
    """The x0 and epsilon of an output; with `clip`, x0 is clipped to [-clip, clip] and epsilon follows from it."""
    x0 = to_x0(parameterization, output.prediction, xt, alpha, sigma)
    if clip is None:
        return Denoised(x0, to_epsilon(parameterization, output.prediction, xt, alpha, sigma), output.fraction)
    x0 = jnp.clip(x0, -clip, clip)
    return Denoised(x0, to_epsilon("x0", x0, xt, alpha, sigma), output.fraction)
