"""Rectified flow, also called flow matching with a linear path (Liu et al. 2023; Lipman et al. 2023).

    x_t = (1 - t) x_0 + t epsilon,    dx_t/dt = flow = epsilon - x_0,    t in [0, 1]; t = 1 is the noise
    L   = E |network(x_t, t) - flow|^2

The network predicts the flow. Its time input is 1000 t, which suits time embeddings made for a thousand steps.
"""

import dataclasses

import jax
import numpy as np
from jaxtyping import Array, Float

from genmodels.diffusion import spacing as spacing_lib
from genmodels.diffusion.process import Coefficient, Images, Network, Time
from genmodels.diffusion.spacing import Grid

TIME_SCALE = 1000.0
MIN_TIME = 1e-3  # grids over noise-to-signal ratios and likelihoods stay within [MIN_TIME, 1 - MIN_TIME]


@dataclasses.dataclass(frozen=True)
class RectifiedFlow:
    """A `process.Process` whose time is t in [0, 1]."""

    num_steps = 1000
    start_std = 1.0
    spacings = ("uniform", *spacing_lib.RATIOS)

    @property
    def log_ratio_range(self) -> tuple[float, float]:
        """log(t / (1 - t)) at t = MIN_TIME and at t = 1 - MIN_TIME."""
        end = float(np.log((1 - MIN_TIME) / MIN_TIME))
        return -end, end

    def time(self, u: Float[Array, " batch"]) -> Time:
        """The quantile `u`, as t is uniform."""
        return u

    def alpha_sigma(self, time: Time) -> tuple[Coefficient, Coefficient]:
        """alpha is 1 - t and sigma is t."""
        t = time[:, None, None, None]
        return 1 - t, t

    def quantile(self, time: Time) -> Float[Array, " batch"]:
        """The time, as t is uniform."""
        return time

    def at_ratio(self, log_ratio: Float[Array, " batch"]) -> tuple[Time, Coefficient, Coefficient]:
        """t = s / (1 + s), where s = sigma / alpha."""
        time = jax.nn.sigmoid(log_ratio)
        return time, *self.alpha_sigma(time)

    def apply(self, network: Network, xt: Images, time: Time) -> Images:
        """The network at 1000 t."""
        return network(xt, TIME_SCALE * time)

    def grid(self, num_sample: int, spacing: str = "uniform") -> Grid:
        """t evenly spaced from 1 to 0, or ratios between the ends of `log_ratio_range` followed by the data."""
        spacing_lib.choose(spacing, self.spacings)
        spacing_lib.check_count(num_sample, self.num_steps)
        if spacing == "uniform":
            t = np.linspace(1, 0, num_sample + 1)
        else:
            clean, noisy = np.exp(self.log_ratio_range)
            ratio = spacing_lib.RATIOS[spacing](noisy, clean, num_sample)
            t = np.append(ratio / (1 + ratio), 0.0)
        return Grid(t, 1 - t, t)
