"""What a diffusion process is to losses, samplers and likelihoods, and the Gaussian algebra that all of them share.

    q(x_t | x_0)      = N(alpha_t x_0, sigma_t^2 I)                                         DDPM eq. 4
    q(x_t | x_s)      = N(r x_s, beta I),        r = alpha_t / alpha_s, s cleaner than t
        beta          = sigma_t^2 - r^2 sigma_s^2
    q(x_s | x_t, x_0) = N(c_0 x_0 + c_t x_t, v I)                                           DDPM eq. 6-7
        c_0           = alpha_s beta / sigma_t^2
        c_t           = r sigma_s^2 / sigma_t^2
        v             = beta sigma_s^2 / sigma_t^2
    L_simple          = E |prediction - target|^2                                           DDPM eq. 14

With s = t-1 in a DDPM these are its own coefficients and beta is beta_t; with larger strides those of the respaced
process that visits only the chosen steps (Nichol & Dhariwal 2021, section 4). Written in alpha and sigma they hold for
every Gaussian process (Kingma et al. 2021, appendix A).
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from genmodels.diffusion.spacing import Grid

Images = Float[Array, "batch height width channel"]
Coefficient = Float[Array, "batch 1 1 1"]
Time = Float[Array, " batch"]
Network = Callable[[Images, Time], Images]


@runtime_checkable
class Process(Protocol):
    """One way from data to noise: DDPM (`ddpm.py`), EDM (`edm.py`), rectified flow (`flow.py`).

    `time` is the process's own: a training step, a noise level, a number in [0, 1]. The noise-to-signal ratio
    s = sigma / alpha orders all of them.

    Attributes:
      num_steps: how many different times there are; nominally 1000 where they are continuous.
      start_std: the standard deviation of x at the noisy end.
      spacings: names that `grid` knows.
      log_ratio_range: log s at the clean and at the noisy end.
    """

    @property
    def num_steps(self) -> int: ...  # noqa: D102
    @property
    def start_std(self) -> float: ...  # noqa: D102
    @property
    def spacings(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def log_ratio_range(self) -> tuple[float, float]: ...  # noqa: D102

    def time(self, u: Float[Array, " batch"]) -> Time:
        """The time of the quantile `u` in [0, 1) of the distribution that training draws from."""

    def alpha_sigma(self, time: Time) -> tuple[Coefficient, Coefficient]:
        """alpha and sigma at each example's time, ready to multiply images; float32."""

    def quantile(self, time: Time) -> Float[Array, " batch"]:
        """The inverse of `time`: 0 is the cleanest, 1 the noisiest."""

    def at_ratio(self, log_ratio: Float[Array, " batch"]) -> tuple[Time, Coefficient, Coefficient]:
        """Time, alpha and sigma where log(sigma / alpha) is `log_ratio`, between steps where there are steps."""

    def apply(self, network: Network, xt: Images, time: Time) -> Images:
        """The prediction at (x_t, time), from a bare network: scales its input, time and output as the paper does."""

    def grid(self, num_sample: int, spacing: str) -> Grid:
        """Nodes of `num_sample` steps down to the data. Raises ValueError for an unknown spacing or a bad count."""


def add_noise(process: Process, x0: Images, epsilon: Images, time: Time) -> Images:
    """x_t = alpha_t x_0 + sigma_t epsilon (DDPM eq. 4)."""
    alpha, sigma = process.alpha_sigma(time)
    return alpha * x0 + sigma * epsilon


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) = N(x0_coefficient x_0 + xt_coefficient x_t, variance I); q(x_t | x_s) has variance beta."""

    x0_coefficient: np.ndarray
    xt_coefficient: np.ndarray
    variance: np.ndarray
    beta: np.ndarray


def posterior(
    alpha_t: Float64[np.ndarray, " S"],
    sigma_t: Float64[np.ndarray, " S"],
    alpha_s: Float64[np.ndarray, " S"],
    sigma_s: Float64[np.ndarray, " S"],
) -> Posterior:
    """Coefficients of the posterior between the times t and the cleaner times s."""
    ratio = alpha_t / alpha_s
    beta = sigma_t**2 - ratio**2 * sigma_s**2
    return Posterior(
        x0_coefficient=alpha_s * beta / sigma_t**2,
        xt_coefficient=ratio * sigma_s**2 / sigma_t**2,
        variance=beta * sigma_s**2 / sigma_t**2,
        beta=beta,
    )


def simple_loss(prediction: Images, target: Images) -> Float[Array, " batch"]:
    """Squared error averaged over pixels and channels, per example (DDPM eq. 14)."""
    return jnp.mean(jnp.square(prediction - target), axis=(1, 2, 3))
