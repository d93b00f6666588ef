"""The forward process of discrete-time diffusion, its posterior, and the simple training loss.

    q(x_t | x_0)          = N(alpha_t x_0, sigma_t^2 I)                                     DDPM eq. 4
    q(x_s | x_t, x_0)     = N(c_0 x_0 + c_t x_t, v I)      for s < t, any sub-sequence      DDPM eq. 6-7
        beta = 1 - abar_t / abar_s
        c_0  = sqrt(abar_s) beta / (1 - abar_t)
        c_t  = sqrt(abar_t / abar_s) (1 - abar_s) / (1 - abar_t)
        v    = beta (1 - abar_s) / (1 - abar_t)
    L_simple = E |prediction - target|^2                                                    DDPM eq. 14

abar is alphas_cumprod. With s = t-1 these are the DDPM's own coefficients; with larger strides those of the
respaced process that visits only the chosen steps (Nichol & Dhariwal 2021, section 4).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Integer

from genmodels.diffusion.schedules import Schedule

Images = Float[Array, "batch height width channel"]


def alpha_sigma(
    schedule: Schedule, t: Integer[Array, " batch"]
) -> tuple[Float[Array, "batch 1 1 1"], Float[Array, "batch 1 1 1"]]:
    """alpha and sigma at each example's step, ready to multiply images; float32."""
    alpha = jnp.asarray(schedule.alpha, jnp.float32)[t]
    sigma = jnp.asarray(schedule.sigma, jnp.float32)[t]
    return alpha[:, None, None, None], sigma[:, None, None, None]


def add_noise(schedule: Schedule, x0: Images, epsilon: Images, t: Integer[Array, " batch"]) -> Images:
    """x_t = alpha_t x_0 + sigma_t epsilon (DDPM eq. 4)."""
    alpha, sigma = alpha_sigma(schedule, t)
    return alpha * x0 + sigma * epsilon


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) = N(x0_coefficient x_0 + xt_coefficient x_t, variance I), each of shape [S]."""

    x0_coefficient: np.ndarray
    xt_coefficient: np.ndarray
    variance: np.ndarray
    beta: np.ndarray


def posterior(alphas_cumprod: Float64[np.ndarray, " S"], alphas_cumprod_prev: Float64[np.ndarray, " S"]) -> Posterior:
    """Coefficients of the posterior between the steps t (`alphas_cumprod`) and s < t (`alphas_cumprod_prev`)."""
    beta = 1 - alphas_cumprod / alphas_cumprod_prev
    total = 1 - alphas_cumprod
    return Posterior(
        x0_coefficient=np.sqrt(alphas_cumprod_prev) * beta / total,
        xt_coefficient=np.sqrt(alphas_cumprod / alphas_cumprod_prev) * (1 - alphas_cumprod_prev) / total,
        variance=beta * (1 - alphas_cumprod_prev) / total,
        beta=beta,
    )


def simple_loss(prediction: Images, target: Images) -> Float[Array, " batch"]:
    """Squared error averaged over pixels and channels, per example (DDPM eq. 14)."""
    return jnp.mean(jnp.square(prediction - target), axis=(1, 2, 3))
