"""The process of DDPM: the T steps of a variance-preserving schedule, alpha^2 + sigma^2 = 1 (Ho et al. 2020)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from genmodels.diffusion import spacing as spacing_lib
from genmodels.diffusion.process import Coefficient, Images, Network, Time
from genmodels.diffusion.schedules import Schedule
from genmodels.diffusion.spacing import Grid


@dataclasses.dataclass(frozen=True, eq=False)
class DDPM:
    """A schedule as a `process.Process`; the times are the steps 0 .. T-1, the cleanest first.

    Between steps, which some spacings and the likelihood visit, log s is interpolated linearly in t.

    Attributes:
      time_scale: the network sees the time t as time_scale t.
    """

    schedule: Schedule
    time_scale: float = 1.0
    start_std = 1.0
    spacings = (*spacing_lib.TIMESTEPS, *spacing_lib.RATIOS)

    @property
    def num_steps(self) -> int:
        """The number of steps T."""
        return self.schedule.num_steps

    @functools.cached_property
    def _log_ratio(self) -> np.ndarray:
        """log s at every step of nonzero SNR, where it is finite; it increases with t."""
        alpha, sigma = self.schedule.alpha, self.schedule.sigma
        return np.log(sigma[alpha > 0] / alpha[alpha > 0])

    @property
    def log_ratio_range(self) -> tuple[float, float]:
        """log s at step 0 and at the last step of nonzero SNR."""
        return float(self._log_ratio[0]), float(self._log_ratio[-1])

    def time(self, u: Float[Array, " batch"]) -> Time:
        """floor(u T), which is uniform over the steps for uniform `u`."""
        return jnp.minimum(jnp.floor(u * self.num_steps), self.num_steps - 1)

    def alpha_sigma(self, time: Time | Integer[Array, " batch"]) -> tuple[Coefficient, Coefficient]:
        """alpha and sigma at whole steps."""
        step = time.astype(jnp.int32)
        alpha = jnp.asarray(self.schedule.alpha, jnp.float32)[step]
        sigma = jnp.asarray(self.schedule.sigma, jnp.float32)[step]
        return alpha[:, None, None, None], sigma[:, None, None, None]

    def quantile(self, time: Time) -> Float[Array, " batch"]:
        """t / T."""
        return time / self.num_steps

    def at_ratio(self, log_ratio: Float[Array, " batch"]) -> tuple[Time, Coefficient, Coefficient]:
        """The time may lie between two steps; ratios outside the schedule get its first or last step."""
        table = jnp.asarray(self._log_ratio, jnp.float32)
        time = jnp.interp(log_ratio, table, jnp.arange(len(table), dtype=jnp.float32))
        alpha, sigma = (jnp.sqrt(jax.nn.sigmoid(sign * 2 * log_ratio)) for sign in (-1, 1))
        return time, alpha[:, None, None, None], sigma[:, None, None, None]

    def apply(self, network: Network, xt: Images, time: Time) -> Float[Array, "batch height width out"]:
        """The network at the step; it may give more channels than the image has, for the variance."""
        return network(xt, time if self.time_scale == 1 else self.time_scale * time)

    def grid_at(self, timesteps: Integer[np.ndarray, " S"]) -> Grid:
        """The nodes of these training steps, followed by the data.

        Raises:
          ValueError: the timesteps do not fall strictly within [0, T).
        """
        t = np.asarray(timesteps)
        if t.size == 0 or t.max() >= self.num_steps or t.min() < 0 or (np.diff(t) >= 0).any():
            raise ValueError(f"timesteps must fall strictly and lie within [0, {self.num_steps}), got {t.tolist()}")
        nodes = np.append(t, -1)
        alphas_cumprod = self.schedule.alphas_cumprod_at(nodes)
        return Grid(nodes.astype(np.float64), np.sqrt(alphas_cumprod), np.sqrt(1 - alphas_cumprod))

    def grid(self, num_sample: int, spacing: str = "trailing") -> Grid:
        """Training steps by `spacing`, or noise-to-signal ratios between those of the last and of the first step."""
        spacing_lib.choose(spacing, self.spacings)
        if spacing in spacing_lib.TIMESTEPS:
            return self.grid_at(spacing_lib.sampling_timesteps(self.num_steps, num_sample, spacing))
        spacing_lib.check_count(num_sample, self.num_steps)
        clean, noisy = self.log_ratio_range
        ratio = spacing_lib.RATIOS[spacing](np.exp(noisy), np.exp(clean), num_sample)
        time = np.interp(np.log(ratio), self._log_ratio, np.arange(len(self._log_ratio)))
        alpha = 1 / np.sqrt(1 + ratio**2)
        return Grid(np.append(time, -1.0), np.append(alpha, 1.0), np.append(ratio * alpha, 0.0))
