"""The process of EDM: x = x_0 + sigma epsilon, and a network preconditioned by sigma (Karras et al. 2022, table 1).

    D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)                                       eq. 7
        c_skip  = sigma_data^2 / (sigma^2 + sigma_data^2)
        c_out   = sigma sigma_data / sqrt(sigma^2 + sigma_data^2)
        c_in    = 1 / sqrt(sigma^2 + sigma_data^2)
        c_noise = log(sigma) / 4
    log sigma ~ N(p_mean, p_std^2)            in training
    L = E lambda |D - x_0|^2, lambda = 1 / c_out^2, which is the plain squared error of F       eq. 8

D predicts x_0; the time is sigma.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genmodels.diffusion import spacing as spacing_lib
from genmodels.diffusion.process import Coefficient, Images, Network, Time
from genmodels.diffusion.spacing import Grid


@dataclasses.dataclass(frozen=True)
class EDM:
    """A `process.Process`; the defaults are the paper's values for CIFAR-10.

    Attributes:
      sigma_min, sigma_max: the noise levels at the ends of sampling.
      sigma_data: the standard deviation of the pixels.
      p_mean, p_std: the mean and standard deviation of log sigma in training.
    Raises:
      ValueError: 0 < sigma_min < sigma_max does not hold, or sigma_data or p_std is not positive.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    p_mean: float = -1.2
    p_std: float = 1.2
    num_steps = 1000
    spacings = tuple(spacing_lib.RATIOS)

    def __post_init__(self):
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min={self.sigma_min} must be positive and below sigma_max={self.sigma_max}")
        if not (self.sigma_data > 0 and self.p_std > 0):
            raise ValueError(f"sigma_data={self.sigma_data} and p_std={self.p_std} must be positive")

    @property
    def start_std(self) -> float:
        """sigma_max, which leaves the signal out of account (algorithm 1)."""
        return self.sigma_max

    @property
    def log_ratio_range(self) -> tuple[float, float]:
        """log sigma_min and log sigma_max."""
        return float(np.log(self.sigma_min)), float(np.log(self.sigma_max))

    def time(self, u: Float[Array, " batch"]) -> Time:
        """exp(p_mean + p_std Phi^-1(u)), which is log-normal for uniform `u`."""
        inside = jnp.clip(u, 1e-6, 1 - 1e-6)
        return jnp.exp(self.p_mean + self.p_std * jax.scipy.special.ndtri(inside))

    def alpha_sigma(self, time: Time) -> tuple[Coefficient, Coefficient]:
        """alpha is 1 and sigma is the time."""
        sigma = time[:, None, None, None]
        return jnp.ones_like(sigma), sigma

    def quantile(self, time: Time) -> Float[Array, " batch"]:
        """Phi((log sigma - p_mean) / p_std)."""
        return jax.scipy.special.ndtr((jnp.log(time) - self.p_mean) / self.p_std)

    def at_ratio(self, log_ratio: Float[Array, " batch"]) -> tuple[Time, Coefficient, Coefficient]:
        """sigma is exp(log_ratio), as alpha is 1."""
        time = jnp.exp(log_ratio)
        return time, *self.alpha_sigma(time)

    def apply(self, network: Network, xt: Images, time: Time) -> Images:
        """D, the preconditioned network's prediction of x_0 (eq. 7)."""
        sigma = time[:, None, None, None]
        total = sigma**2 + self.sigma_data**2
        c_skip, c_out = self.sigma_data**2 / total, sigma * self.sigma_data / jnp.sqrt(total)
        return c_skip * xt + c_out * network(xt / jnp.sqrt(total), jnp.log(time) / 4)

    def weight(self, time: Time) -> Float[Array, " batch"]:
        """lambda(sigma), the weight of the squared error of x_0 (eq. 8)."""
        return (time**2 + self.sigma_data**2) / (time * self.sigma_data) ** 2

    def grid(self, num_sample: int, spacing: str = "karras") -> Grid:
        """Noise levels from sigma_max to sigma_min by `spacing`, then 0."""
        spacing_lib.choose(spacing, self.spacings)
        spacing_lib.check_count(num_sample, self.num_steps)
        sigma = np.append(spacing_lib.RATIOS[spacing](self.sigma_max, self.sigma_min, num_sample), 0.0)
        return Grid(sigma, np.ones_like(sigma), sigma)
