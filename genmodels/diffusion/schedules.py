"""Noise schedules of discrete-time diffusion: the betas, and the tables that follow from them.

    q(x_t | x_{t-1}) = N(sqrt(1 - betas_t) x_{t-1}, betas_t I)          t = 0 .. T-1
    alphas_cumprod_t = prod_{s <= t} (1 - betas_s)
    q(x_t | x_0)     = N(alpha_t x_0, sigma_t^2 I),    alpha_t = sqrt(alphas_cumprod_t),
                                                       sigma_t = sqrt(1 - alphas_cumprod_t)

t = 0 is the least noisy step and "t = -1" is the data, with alphas_cumprod = 1. The paper's t is this t plus one.
Tables are float64 on the host: in float32, 1 - alphas_cumprod has a relative error of 6e-4 at the first step.
Ho et al. 2020 (DDPM) section 4; Nichol & Dhariwal 2021 (Improved DDPM) eq. 17; Lin et al. 2024 algorithm 1.
"""

import dataclasses
import functools
import math

import numpy as np
from jaxtyping import Float64, Integer


def linear_betas(num_steps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Float64[np.ndarray, " T"]:
    """Evenly spaced betas from `beta_start` to `beta_end`, both included, for every T (DDPM, section 4).

    The end points do not depend on T, so at T well below 1000 the last x_t still shows the image.
    """
    return np.linspace(beta_start, beta_end, num_steps, dtype=np.float64)


def cosine_betas(num_steps: int, s: float = 0.008, max_beta: float = 0.999) -> Float64[np.ndarray, " T"]:
    """betas_t = 1 - f((t+1)/T) / f(t/T), f(u) = cos^2((u + s)/(1 + s) pi/2), clipped at `max_beta` (eq. 17)."""
    u = np.arange(num_steps + 1, dtype=np.float64) / num_steps
    f = np.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], max_beta)


def rescale_to_zero_terminal_snr(betas: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, " T"]:
    """Betas whose last x_t is pure noise (Lin et al. 2024, algorithm 1).

    sqrt(alphas_cumprod) is shifted so that it is 0 at T-1, then scaled so that its value at 0 stays the same. The last
    beta becomes 1; at that step x_0 cannot be computed from epsilon.

    Raises:
      ValueError: there are fewer than two steps.
    """
    if len(betas) < 2:
        raise ValueError("a schedule needs at least two steps to end at zero SNR")
    alpha = np.sqrt(np.cumprod(1 - betas))
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    alphas_cumprod = alpha**2
    return 1 - alphas_cumprod / np.append(1.0, alphas_cumprod[:-1])


BETAS = {"linear": linear_betas, "cosine": cosine_betas}


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """The tables of one schedule, float64 numpy of shape [T].

    Attributes:
      betas: shape [T], in (0, 1); the last one may be 1.
    Raises:
      ValueError: betas are empty or outside this range.
    """

    betas: Float64[np.ndarray, " T"]

    def __post_init__(self):
        good = self.betas.ndim == 1 and self.betas.size > 0 and (self.betas > 0).all()
        if not good or not (self.betas[:-1] < 1).all() or self.betas[-1] > 1:
            raise ValueError(
                "betas must be a non-empty vector with values strictly between 0 and 1 (the last may be 1)"
            )

    @classmethod
    def named(cls, name: str, num_steps: int, zero_terminal_snr: bool = False) -> "Schedule":
        """The schedule `name` ("linear" or "cosine") of `num_steps` steps.

        Args:
          zero_terminal_snr: rescales the schedule so that its last step is pure noise.
        Raises:
          ValueError: the name is unknown, or there are too few steps.
        """
        if name not in BETAS:
            raise ValueError(f"unknown schedule {name!r}; there are {', '.join(sorted(BETAS))}")
        if num_steps < 1:
            raise ValueError(f"a schedule needs at least one step, got {num_steps}")
        betas = BETAS[name](num_steps)
        return cls(rescale_to_zero_terminal_snr(betas) if zero_terminal_snr else betas)

    @property
    def num_steps(self) -> int:
        """The number of steps T."""
        return len(self.betas)

    @functools.cached_property
    def alphas_cumprod(self) -> Float64[np.ndarray, " T"]:
        """prod_{s <= t} (1 - betas_s)."""
        return np.cumprod(1 - self.betas)

    @property
    def alpha(self) -> Float64[np.ndarray, " T"]:
        """sqrt(alphas_cumprod), the scale of the data in x_t."""
        return np.sqrt(self.alphas_cumprod)

    @property
    def sigma(self) -> Float64[np.ndarray, " T"]:
        """sqrt(1 - alphas_cumprod), the scale of the noise in x_t."""
        return np.sqrt(1 - self.alphas_cumprod)

    def alphas_cumprod_at(self, t: Integer[np.ndarray, " S"]) -> Float64[np.ndarray, " S"]:
        """alphas_cumprod at the steps `t`; t = -1 is the data, with the value 1."""
        return np.append(self.alphas_cumprod, 1.0)[t]
