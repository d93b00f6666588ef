"""What a diffusion network predicts, and the conversions among the targets, in one place.

    x_t      = alpha x_0 + sigma epsilon
    velocity = alpha epsilon - sigma x_0       where alpha^2 + sigma^2 = 1      (Salimans & Ho 2022, appendix D)
    flow     = epsilon - x_0                   where alpha + sigma = 1          (Liu et al. 2023)

    x_0      = (x_t - sigma epsilon) / alpha  =  alpha x_t - sigma velocity  =  x_t - sigma flow
    epsilon  = (x_t - alpha x_0) / sigma      =  sigma x_t + alpha velocity  =  x_t + alpha flow

epsilon and x0 mean the same in every process; velocity belongs to variance-preserving ones, flow to straight ones.
`alpha` and `sigma` broadcast against the images, e.g. shape [batch, 1, 1, 1] or scalars.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

Images = Float[Array, "batch height width channel"]
Coefficient = Float[Array, "*#coefficient"]

PARAMETERIZATIONS = ("epsilon", "x0", "velocity", "flow")


class Output(NamedTuple):
    """What a denoiser returns.

    Attributes:
      prediction: of the parameterization's kind.
      fraction: where the variance is learned, v of Improved DDPM's eq. 15 scaled to about [-1, 1]: -1 is the
        posterior variance, 1 is beta.
    """

    prediction: Images
    fraction: Images | None = None


class Denoised(NamedTuple):
    """What a denoiser's output says of the data and of the noise in x_t; x_t = alpha x0 + sigma epsilon."""

    x0: Images
    epsilon: Images
    fraction: Images | None = None


def _check(kind: str) -> None:
    if kind not in PARAMETERIZATIONS:
        raise ValueError(f"unknown parameterization {kind!r}; there are {', '.join(PARAMETERIZATIONS)}")


def target(kind: str, x0: Images, epsilon: Images, alpha: Coefficient, sigma: Coefficient) -> Images:
    """The regression target of the network for the true `x0` and `epsilon`."""
    _check(kind)
    if kind == "epsilon":
        return epsilon
    if kind == "flow":
        return epsilon - x0
    return x0 if kind == "x0" else alpha * epsilon - sigma * x0


def to_x0(kind: str, prediction: Images, xt: Images, alpha: Coefficient, sigma: Coefficient) -> Images:
    """The x0 that a `prediction` of the given kind means at `xt`."""
    _check(kind)
    if kind == "x0":
        return prediction
    if kind == "epsilon":
        return (xt - sigma * prediction) / alpha
    if kind == "flow":
        return xt - sigma * prediction
    return alpha * xt - sigma * prediction


def to_epsilon(kind: str, prediction: Images, xt: Images, alpha: Coefficient, sigma: Coefficient) -> Images:
    """The epsilon that a `prediction` of the given kind means at `xt`."""
    _check(kind)
    if kind == "epsilon":
        return prediction
    if kind == "x0":
        return (xt - alpha * prediction) / sigma
    if kind == "flow":
        return xt + alpha * prediction
    return sigma * xt + alpha * prediction


def to_velocity(kind: str, prediction: Images, xt: Images, alpha: Coefficient, sigma: Coefficient) -> Images:
    """The velocity that a `prediction` of the given kind means at `xt`, for alpha^2 + sigma^2 = 1."""
    _check(kind)
    if kind == "velocity":
        return prediction
    if kind == "epsilon":
        return (prediction - sigma * xt) / alpha
    if kind == "x0":
        return (alpha * xt - prediction) / sigma
    raise ValueError("flow belongs to processes with alpha + sigma = 1, velocity to those with alpha^2 + sigma^2 = 1")


def denoised(
    kind: str, output: Output, xt: Images, alpha: Coefficient, sigma: Coefficient, clip: float | None = None
) -> Denoised:
    """Reads an output; with `clip`, x0 is clipped to [-clip, clip] and epsilon re-derived from it."""
    x0 = to_x0(kind, output.prediction, xt, alpha, sigma)
    if clip is None:
        return Denoised(x0, to_epsilon(kind, output.prediction, xt, alpha, sigma), output.fraction)
    x0 = jnp.clip(x0, -clip, clip)
    return Denoised(x0, to_epsilon("x0", x0, xt, alpha, sigma), output.fraction)
