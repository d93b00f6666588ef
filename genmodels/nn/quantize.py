"""Vector quantisation with a codebook that is a running mean (van den Oord et al. 2017, section 3 and appendix A.1).

    q(z) = e_k, k = argmin_j |z - e_j|             gradients pass q as if it were the identity (straight-through)
    N_k <- d N_k + (1 - d) n_k,   m_k <- d m_k + (1 - d) sum of the z assigned to k,   e_k = m_k / N_k

Counts are kept as shares of all positions, so they do not depend on the batch size. A code whose share falls too low is
dead: no gradient ever reaches it; it is put on a latent of the present batch (Dhariwal et al. 2020, section 3.1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key

Rows = Float[Array, "rows dim"]
Codes = Integer[Array, " rows"]


class Codebook(NamedTuple):
    """Running shares and sums; `vectors` are the codes themselves."""

    share: Float[Array, " codes"]
    total: Float[Array, "codes dim"]

    @classmethod
    def init(cls, key: Key[Array, ""], codes: int, dim: int) -> "Codebook":
        """Normal vectors, each in use as much as the others."""
        vectors = jax.random.normal(key, (codes, dim)) / jnp.sqrt(dim)
        return cls(jnp.full(codes, 1 / codes), vectors / codes)

    @property
    def vectors(self) -> Float[Array, "codes dim"]:
        """The codes."""
        return self.total / self.share[:, None]


def nearest(vectors: Float[Array, "codes dim"], z: Rows) -> Codes:
    """Which code is nearest to each row."""
    return jnp.argmin(jnp.sum(jnp.square(vectors), axis=1) - 2 * jnp.matmul(z, vectors.T, precision="highest"), axis=1)


def straight_through(z: Array, quantized: Array) -> Array:
    """`quantized`, whose gradient is passed on to `z`."""
    return z + jax.lax.stop_gradient(quantized - z)


def shares_and_sums(z: Rows, codes: Codes, count: int) -> Codebook:
    """What the update needs of a batch: the share of rows with each of `count` codes, and the sums of them per row."""
    which = jax.nn.one_hot(codes, count)
    return Codebook(jnp.mean(which, axis=0), jnp.matmul(which.T, z, precision="highest") / z.shape[0])


def update(
    book: Codebook, batch: Codebook, candidates: Rows, key: Key[Array, ""], *, decay: float, revive_below: float
) -> tuple[Codebook, Float[Array, ""]]:
    """The codebook after a batch, and how many dead codes were revived.

    Args:
      batch: of `shares_and_sums`, over the global batch.
      candidates: latents of the global batch, on which dead codes are put.
      revive_below: a code is dead whose share is below this part of an equal share; 0 revives none.
    """
    share, total = (decay * old + (1 - decay) * new for old, new in zip(book, batch, strict=True))
    count = len(share)
    dead = share < revive_below / count
    fresh = candidates[jax.random.randint(key, (count,), 0, len(candidates))]
    share = jnp.where(dead, 1 / count, share)
    total = jnp.where(dead[:, None], fresh / count, total)
    floor = 1e-6 / count  # a share that decays for ever would end in 0 / 0
    kept = jnp.maximum(share, floor)
    return Codebook(kept, total * (kept / share)[:, None]), jnp.sum(1.0 * dead)
