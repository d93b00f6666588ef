"""Terms of variational bounds with a standard normal prior, in nats.

ELBO: Kingma & Welling 2014 (appendix B). Free bits: Kingma et al. 2016, appendix C.8. Importance-weighted bound: Burda
et al. 2016, eq. 8.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PerExample = Float[Array, " batch"]


def bernoulli_nll(x: Float[Array, "..."], logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """-log Bernoulli(x; sigmoid(logits)), elementwise, x in [0, 1].

    For greys between 0 and 1 it is the cross-entropy that autoencoders are commonly trained with, and no likelihood.
    """
    return jax.nn.softplus(logits) - x * logits


def normal_log_prob(
    x: Float[Array, "..."], mean: Float[Array, "..."] | float = 0.0, log_variance: Float[Array, "..."] | float = 0.0
) -> Float[Array, "..."]:
    """log N(x; mean, exp log_variance), elementwise."""
    return -0.5 * (jnp.log(2 * jnp.pi) + log_variance + jnp.square(x - mean) * jnp.exp(-log_variance))


def kl_to_standard_normal(mean: Float[Array, "..."], log_variance: Float[Array, "..."]) -> Float[Array, "..."]:
    """KL(N(mean, exp log_variance) || N(0, 1)), elementwise."""
    return 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance)


def free_bits(kl: Float[Array, " dim"], least: float) -> Float[Array, ""]:
    """sum_j max(least, kl_j) of the batch's mean KL of each latent dimension: below `least` nats it costs the same."""
    return jnp.sum(jnp.maximum(kl, least))


def perplexity(shares: Float[Array, " codes"]) -> Float[Array, ""]:
    """exp of the entropy of shares that sum to 1: how many codes are in use, counted by how much."""
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(shares, shares)))
