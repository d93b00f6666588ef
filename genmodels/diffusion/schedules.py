"""Noise schedules of discrete-time diffusion: the betas, and what follows from them.

    q(x_t | x_{t-1}) = N(sqrt(1 - betas_t) x_{t-1}, betas_t I)          t = 0 .. T-1
    alphas_cumprod_t = prod_{s <= t} (1 - betas_s)
    q(x_t | x_0)     = N(alpha_t x_0, sigma_t^2 I),    alpha_t = sqrt(alphas_cumprod_t),
                                                       sigma_t = sqrt(1 - alphas_cumprod_t)

t = 0 is the least noisy step and "t = -1" is the data, with alphas_cumprod = 1. The paper's t is ours plus one.
Tables are float64 on the host: 1 - alphas_cumprod in float32 is wrong by 6e-4 (relative) at the first step.
Ho et al. 2020 (DDPM) section 4; Nichol & Dhariwal 2021 (Improved DDPM) eq. 17.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float64, Integer


def linear_betas(num_steps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Float64[np.ndarray, " T"]:
    """Evenly spaced betas from `beta_start` to `beta_end`, both included, whatever T is (DDPM, section 4).

    The end points are not rescaled with T: at T well below 1000 the last x_t still shows the image.
    """
    return np.linspace(beta_start, beta_end, num_steps, dtype=np.float64)


def cosine_betas(num_steps: int, s: float = 0.008, max_beta: float = 0.999) -> Float64[np.ndarray, " T"]:
    """betas_t = 1 - f((t+1)/T) / f(t/T), f(u) = cos^2((u + s)/(1 + s) pi/2), clipped at `max_beta` (eq. 17)."""
    u = np.arange(num_steps + 1, dtype=np.float64) / num_steps
    f = np.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], max_beta)


BETAS = {"linear": linear_betas, "cosine": cosine_betas}


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """The tables of one schedule, float64 numpy of shape [T].

    Attributes:
      betas: in (0, 1), shape [T].
    Raises:
      ValueError: betas are empty or leave (0, 1).
    """

    betas: Float64[np.ndarray, " T"]

    def __post_init__(self):
        if self.betas.ndim != 1 or not self.betas.size or not ((self.betas > 0) & (self.betas < 1)).all():
            raise ValueError("betas must be a non-empty vector with values strictly between 0 and 1")

    @classmethod
    def named(cls, name: str, num_steps: int) -> "Schedule":
        """The schedule called `name` ("linear" or "cosine") with `num_steps` steps."""
        if name not in BETAS:
            raise ValueError(f"unknown schedule {name!r}; there are {', '.join(sorted(BETAS))}")
        if num_steps < 1:
            raise ValueError(f"a schedule needs at least one step, got {num_steps}")
        return cls(BETAS[name](num_steps))

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.betas)

    @property
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
        """alphas_cumprod at the steps `t`, where t = -1 stands for the data (value 1)."""
        return np.append(self.alphas_cumprod, 1.0)[t]


def linspace_timesteps(num_train: int, num_sample: int) -> np.ndarray:
    """Both ends included, evenly spaced and rounded."""
    return np.round(np.linspace(num_train - 1, 0, num_sample)).astype(np.int64)


def leading_timesteps(num_train: int, num_sample: int) -> np.ndarray:
    """Multiples of floor(T / S): ends at 0 and starts below T-1 (the DDIM code's "uniform")."""
    return (np.arange(num_sample) * (num_train // num_sample))[::-1].astype(np.int64)


def trailing_timesteps(num_train: int, num_sample: int) -> np.ndarray:
    """round(T - i T/S) - 1: starts at T-1, where sampling starts from pure noise (Lin et al. 2024, table 2)."""
    return np.round(num_train - np.arange(num_sample) * (num_train / num_sample)).astype(np.int64) - 1


SPACINGS = {"linspace": linspace_timesteps, "leading": leading_timesteps, "trailing": trailing_timesteps}


def sampling_timesteps(num_train: int, num_sample: int, spacing: str = "trailing") -> Integer[np.ndarray, " S"]:
    """`num_sample` training steps to visit when sampling, strictly decreasing, by the named spacing.

    Raises:
      ValueError: an unknown spacing, or not 1 <= num_sample <= num_train.
    """
    if spacing not in SPACINGS:
        raise ValueError(f"unknown spacing {spacing!r}; there are {', '.join(sorted(SPACINGS))}")
    if not 1 <= num_sample <= num_train:
        raise ValueError(f"sampling steps must be between 1 and the {num_train} training steps, got {num_sample}")
    return SPACINGS[spacing](num_train, num_sample)
