"""Loss weightings by noise level, as defined on the squared error of x_0 (Hang et al. 2023, section 3.3).

    snr            alpha^2 / sigma^2                 the plain loss of epsilon
    min_snr        min(snr, gamma)                   Hang et al. 2023
    truncated_snr  max(snr, 1)                       Salimans & Ho 2022
    uniform        weight 1 on the network's own target, whatever that is

|epsilon error|^2 = snr |x_0 error|^2 and |velocity error|^2 = (snr + 1) |x_0 error|^2, so the weight of the squared
error of another target is the weight for x_0 divided by that factor.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

Levels = Float[Array, " batch"]

WEIGHTINGS = ("uniform", "snr", "min_snr", "truncated_snr")


def weight(name: str, parameterization: str, alpha: Levels, sigma: Levels, gamma: float = 5.0) -> Levels:
    """The factor of each example's squared error, for a network that predicts `parameterization`.

    It is finite at every noise level, except for epsilon at zero SNR under min_snr and truncated_snr.

    Args:
      name: one of WEIGHTINGS.
      parameterization: epsilon, x0 or velocity; the uniform weighting takes any.
      gamma: the largest SNR that counts under min_snr.
    Raises:
      ValueError: the weighting is unknown, or it is not defined for the parameterization.
    """
    if name not in WEIGHTINGS:
        raise ValueError(f"unknown weighting {name!r}; there are {', '.join(WEIGHTINGS)}")
    if name == "uniform":
        return jnp.ones_like(alpha)
    # Numerator and denominator are both multiplied by sigma^2, which keeps them finite at both ends of the schedule.
    signal, noise = alpha**2, sigma**2
    factors = {"x0": noise, "epsilon": signal, "velocity": signal + noise}
    if parameterization not in factors:
        raise ValueError(f"weighting {name} is defined for {', '.join(factors)}, not for {parameterization}")
    if name == "snr":
        weighted = signal
    elif name == "min_snr":
        weighted = jnp.minimum(signal, gamma * noise)
    else:
        weighted = jnp.maximum(signal, noise)
    return weighted / factors[parameterization]
