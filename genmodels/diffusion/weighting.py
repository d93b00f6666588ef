"""Loss weightings by noise level, as defined on the squared error of x_0 (Hang et al. 2023, section 3.3).

    snr            alpha^2 / sigma^2                 the plain loss of epsilon
    min_snr        min(snr, gamma)                   Hang et al. 2023
    truncated_snr  max(snr, 1)                       Salimans & Ho 2022
    uniform        the plain loss of whatever the network predicts, i.e. weight 1 on its own target

|epsilon error|^2 = snr |x_0 error|^2 and |velocity error|^2 = (snr + 1) |x_0 error|^2, so the weight of another target
is that of x_0 divided by the same factor.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

Levels = Float[Array, " batch"]

WEIGHTINGS = ("uniform", "snr", "min_snr", "truncated_snr")


def weight(name: str, kind: str, alpha: Levels, sigma: Levels, gamma: float = 5.0) -> Levels:
    """What multiplies each example's squared error of the target `kind` (epsilon, x0, velocity).

    Finite wherever the answer is: epsilon at zero SNR has none under min_snr and truncated_snr.

    Raises:
      ValueError: an unknown weighting, or a `kind` that has no SNR factor.
    """
    if name not in WEIGHTINGS:
        raise ValueError(f"unknown weighting {name!r}; there are {', '.join(WEIGHTINGS)}")
    if name == "uniform":
        return jnp.ones_like(alpha)
    # Numerators and denominators times sigma^2, so that neither end of the schedule divides by zero early.
    signal, noise = alpha**2, sigma**2
    factors = {"x0": noise, "epsilon": signal, "velocity": signal + noise}
    if kind not in factors:
        raise ValueError(f"weighting {name} is defined for {', '.join(factors)}, not for {kind}")
    if name == "snr":
        weighted = signal
    elif name == "min_snr":
        weighted = jnp.minimum(signal, gamma * noise)
    else:
        weighted = jnp.maximum(signal, noise)
    return weighted / factors[kind]
