"""The interface of a diffusion process to losses, samplers and likelihoods, and the Gaussian algebra that they share.

    q(x_t | x_0)      = N(alpha_t x_0, sigma_t^2 I)                                         DDPM eq. 4
    q(x_t | x_s)      = N(r x_s, beta I),        r = alpha_t / alpha_s, s cleaner than t
        beta          = sigma_t^2 - r^2 sigma_s^2
    q(x_s | x_t, x_0) = N(c_0 x_0 + c_t x_t, v I)                                           DDPM eq. 6-7
        c_0           = alpha_s beta / sigma_t^2
        c_t           = r sigma_s^2 / sigma_t^2
        v             = beta sigma_s^2 / sigma_t^2
    L_simple          = E |prediction - target|^2                                           DDPM eq. 14

For s = t-1 in a DDPM these are the coefficients of its paper, and beta is beta_t. For larger strides they are those of
the respaced process that visits only the chosen steps (Nichol & Dhariwal 2021, section 4). Written in alpha and sigma
they hold for every Gaussian process (Kingma et al. 2021, appendix A).
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
    """A Gaussian process from data to noise: DDPM (`ddpm.py`), EDM (`edm.py`) or rectified flow (`flow.py`).

    The unit of `time` depends on the process: a training step, a noise level, or a number in [0, 1]. In each of them
    the noise-to-signal ratio s = sigma / alpha grows with time.

    Attributes:
      num_steps: the number of different times; nominally 1000 where time is continuous.
      start_std: the standard deviation of x at the noisy end.
      spacings: the spacings that `grid` accepts.
      log_ratio_range: log s at the clean end and at the noisy end.
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
        """The time at the quantile `u`, in [0, 1), of the distribution that training draws from."""

    def alpha_sigma(self, time: Time) -> tuple[Coefficient, Coefficient]:
        """alpha and sigma at each example's time, float32, in a shape that multiplies images."""

    def quantile(self, time: Time) -> Float[Array, " batch"]:
        """The inverse of `time`: 0 at the cleanest time, 1 at the noisiest."""

    def at_ratio(self, log_ratio: Float[Array, " batch"]) -> tuple[Time, Coefficient, Coefficient]:
        """Time, alpha and sigma at log(sigma / alpha) = `log_ratio`, also between the steps of a discrete process."""

    def apply(self, network: Network, xt: Images, time: Time) -> Images:
        """The prediction at (x_t, time): the network with its input, time and output scaled as in the paper."""

    def grid(self, num_sample: int, spacing: str) -> Grid:
        """The nodes of `num_sample` steps down to the data.

        Raises:
          ValueError: the spacing is unknown, or num_sample is out of range.
        """


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
    """The posterior q(x_s | x_t, x_0) for S pairs of a time t and a cleaner time s."""
    ratio = alpha_t / alpha_s
    beta = sigma_t**2 - ratio**2 * sigma_s**2
    return Posterior(
        x0_coefficient=alpha_s * beta / sigma_t**2,
        xt_coefficient=ratio * sigma_s**2 / sigma_t**2,
        variance=beta * sigma_s**2 / sigma_t**2,
        beta=beta,
    )


def simple_loss(prediction: Images, target: Images) -> Float[Array, " batch"]:
    """The squared error of each example, averaged over its pixels and channels (DDPM eq. 14)."""
    return jnp.mean(jnp.square(prediction - target), axis=(1, 2, 3))
