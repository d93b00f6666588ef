"""Where samplers stop on their way from noise to data: step spacings, by name.

A grid is a table of nodes, noisy to clean, each with the time that the network is asked about and the alpha and sigma
of x = alpha x_0 + sigma epsilon. The last node is the data itself (alpha 1, sigma 0); no network is asked there.

    of training steps      linspace, leading, trailing              Lin et al. 2024, table 2
    of noise-to-signal     karras, logsnr: over s = sigma / alpha   Karras et al. 2022 eq. 5; Lu et al. 2022
    of time in [0, 1]      uniform                                  Liu et al. 2023
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Integer


class Grid(NamedTuple):
    """The nodes of a sampler's way, float64.

    Attributes:
      time: what the network is asked about at each node; that of the last node is not used.
      alpha, sigma: of x = alpha x_0 + sigma epsilon at each node; strictly less noise from one node to the next.
    """

    time: Float64[np.ndarray, " nodes"]
    alpha: Float64[np.ndarray, " nodes"]
    sigma: Float64[np.ndarray, " nodes"]

    @property
    def steps(self) -> int:
        """One fewer than the nodes."""
        return len(self.time) - 1


def linspace_timesteps(num_train: int, num_sample: int) -> np.ndarray:
    """Both ends included, evenly spaced and rounded."""
    return np.round(np.linspace(num_train - 1, 0, num_sample)).astype(np.int64)


def leading_timesteps(num_train: int, num_sample: int) -> np.ndarray:
    """Multiples of floor(T / S): ends at 0 and starts below T-1 (the DDIM code's "uniform")."""
    return (np.arange(num_sample) * (num_train // num_sample))[::-1].astype(np.int64)


def trailing_timesteps(num_train: int, num_sample: int) -> np.ndarray:
    """round(T - i T/S) - 1: starts at T-1, where sampling starts from pure noise (Lin et al. 2024, table 2)."""
    return np.round(num_train - np.arange(num_sample) * (num_train / num_sample)).astype(np.int64) - 1


def karras_ratios(largest: float, smallest: float, num_sample: int, rho: float = 7.0) -> np.ndarray:
    """Evenly spaced in s^(1/rho), both ends included (Karras et al. 2022, eq. 5); one step takes the largest."""
    return np.linspace(largest ** (1 / rho), smallest ** (1 / rho), num_sample) ** rho


def logsnr_ratios(largest: float, smallest: float, num_sample: int) -> np.ndarray:
    """Evenly spaced in log s, both ends included; one step takes the largest."""
    return np.exp(np.linspace(np.log(largest), np.log(smallest), num_sample))


TIMESTEPS = {"linspace": linspace_timesteps, "leading": leading_timesteps, "trailing": trailing_timesteps}
RATIOS = {"karras": karras_ratios, "logsnr": logsnr_ratios}


def choose(spacing: str, known: Collection[str]) -> None:
    """Raises ValueError unless `spacing` is one of `known`."""
    if spacing not in known:
        raise ValueError(f"unknown spacing {spacing!r} for this process; there are {', '.join(sorted(known))}")


def check_count(num_sample: int, most: int) -> None:
    """Raises ValueError unless 1 <= num_sample <= most."""
    if not 1 <= num_sample <= most:
        raise ValueError(f"sampling steps must be between 1 and the {most} training steps, got {num_sample}")


def sampling_timesteps(num_train: int, num_sample: int, spacing: str = "trailing") -> Integer[np.ndarray, " S"]:
    """`num_sample` training steps to visit when sampling, strictly decreasing, by the named spacing.

    Raises:
      ValueError: an unknown spacing, or not 1 <= num_sample <= num_train.
    """
    choose(spacing, TIMESTEPS)
    check_count(num_sample, num_train)
    return TIMESTEPS[spacing](num_train, num_sample)
