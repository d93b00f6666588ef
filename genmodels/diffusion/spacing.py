"""Step spacings by name: the noise levels that a sampler visits on its path from noise to data.

A grid is a table of nodes from noisy to clean. Each node has the time at which the network is evaluated and the alpha
and sigma of x = alpha x_0 + sigma epsilon. The last node is the data (alpha 1, sigma 0), where no network is evaluated.

    in training steps        linspace, leading, trailing              Lin et al. 2024, table 2
    in noise-to-signal       karras, logsnr: over s = sigma / alpha   Karras et al. 2022 eq. 5; Lu et al. 2022
    in time, within [0, 1]   uniform                                  Liu et al. 2023
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Integer


class Grid(NamedTuple):
    """The nodes of a sampler's path, float64.

    Attributes:
      time: the time at which the network is evaluated at each node; that of the last node is not used.
      alpha, sigma: the coefficients of x = alpha x_0 + sigma epsilon at each node; sigma / alpha falls strictly.
    """

    time: Float64[np.ndarray, " nodes"]
    alpha: Float64[np.ndarray, " nodes"]
    sigma: Float64[np.ndarray, " nodes"]

    @property
    def steps(self) -> int:
        """The number of steps: one fewer than the nodes."""
        return len(self.time) - 1


def linspace_timesteps(num_train: int, num_sample: int) -> np.ndarray:
    """Evenly spaced and rounded steps from T-1 to 0, both included."""
    return np.round(np.linspace(num_train - 1, 0, num_sample)).astype(np.int64)


def leading_timesteps(num_train: int, num_sample: int) -> np.ndarray:
    """Multiples of floor(T / S), which start below T-1 and end at 0 ("uniform" in the code of DDIM)."""
    return (np.arange(num_sample) * (num_train // num_sample))[::-1].astype(np.int64)


def trailing_timesteps(num_train: int, num_sample: int) -> np.ndarray:
    """round(T - i T/S) - 1: the first is T-1, the step of (almost) pure noise (Lin et al. 2024, table 2)."""
    return np.round(num_train - np.arange(num_sample) * (num_train / num_sample)).astype(np.int64) - 1


def karras_ratios(largest: float, smallest: float, num_sample: int, rho: float = 7.0) -> np.ndarray:
    """Evenly spaced in s^(1/rho), both ends included; a single step is the largest (Karras et al. 2022, eq. 5)."""
    return np.linspace(largest ** (1 / rho), smallest ** (1 / rho), num_sample) ** rho


def logsnr_ratios(largest: float, smallest: float, num_sample: int) -> np.ndarray:
    """Evenly spaced in log s, both ends included; a single step is the largest."""
    return np.exp(np.linspace(np.log(largest), np.log(smallest), num_sample))


TIMESTEPS = {"linspace": linspace_timesteps, "leading": leading_timesteps, "trailing": trailing_timesteps}
RATIOS = {"karras": karras_ratios, "logsnr": logsnr_ratios}


def choose(spacing: str, known: Collection[str]) -> None:
    """Raises ValueError unless `spacing` is one of `known`."""
    if spacing not in known:
        raise ValueError(f"unknown spacing {spacing!r} for this process; there are {', '.join(sorted(known))}")


def check_count(num_sample: int, num_train: int) -> None:
    """Raises ValueError unless 1 <= num_sample <= num_train."""
    if not 1 <= num_sample <= num_train:
        raise ValueError(
            f"the number of sampling steps must be between 1 and the {num_train} training steps, got {num_sample}"
        )


def sampling_timesteps(num_train: int, num_sample: int, spacing: str = "trailing") -> Integer[np.ndarray, " S"]:
    """The `num_sample` training steps that sampling visits under the named spacing, strictly decreasing.

    Raises:
      ValueError: the spacing is unknown, or num_sample is not within [1, num_train].
    """
    choose(spacing, TIMESTEPS)
    check_count(num_sample, num_train)
    return TIMESTEPS[spacing](num_train, num_sample)
