"""Terms of variational bounds with a standard normal prior, in nats.

ELBO: Kingma & Welling 2014 (appendix B). Free bits: Kingma et al. 2016, appendix C.8. Importance-weighted bound: Burda
et al. 2016, eq. 8.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PerExample = Float[Array, " batch"]


def bernoulli_nll(x: Float[Array, "..."], logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """-log Bernoulli(x; sigmoid(logits)), elementwise, in nats.

    For x between 0 and 1 this is the cross-entropy with which autoencoders are commonly trained on grey images. It is
    a likelihood only if x is 0 or 1.
    """
    return jax.nn.softplus(logits) - x * logits


def normal_log_prob(
    x: Float[Array, "..."], mean: Float[Array, "..."] | float = 0.0, log_variance: Float[Array, "..."] | float = 0.0
) -> Float[Array, "..."]:
    """log N(x; mean, exp(log_variance)), elementwise, in nats."""
    return -0.5 * (jnp.log(2 * jnp.pi) + log_variance + jnp.square(x - mean) * jnp.exp(-log_variance))


def kl_to_standard_normal(mean: Float[Array, "..."], log_variance: Float[Array, "..."]) -> Float[Array, "..."]:
    """KL(N(mean, exp(log_variance)) || N(0, 1)), elementwise, in nats."""
    return 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance)


def free_bits(kl: Float[Array, " dim"], minimum: float) -> Float[Array, ""]:
    """sum_j max(minimum, kl_j): a latent dimension costs no less than `minimum` nats (Kingma et al. 2016, C.8).

    Args:
      kl: KL divergence of each latent dimension, averaged over the batch, in nats.
      minimum: in nats.
    """
    return jnp.sum(jnp.maximum(kl, minimum))


def perplexity(shares: Float[Array, " codes"]) -> Float[Array, ""]:
    """The exponential of the entropy of shares that sum to 1: the effective number of codes in use, at least 1."""
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(shares, shares)))
