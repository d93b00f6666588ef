"""Vector quantisation with a codebook of running means (van den Oord et al. 2017, section 3 and appendix A.1).

    q(z) = e_k, k = argmin_j |z - e_j|             gradients pass q as if it were the identity (straight-through)
    N_k <- d N_k + (1 - d) n_k,   m_k <- d m_k + (1 - d) sum of the z assigned to k,   e_k = m_k / N_k

Counts are kept as shares of all positions, so that they do not depend on the batch size. A code whose share falls too
low is dead: hardly any latent is assigned to it. It is replaced by a random latent of the current batch (Dhariwal et
al. 2020, section 3.1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key

Rows = Float[Array, "rows dim"]
Codes = Integer[Array, " rows"]


class Codebook(NamedTuple):
    """Running averages of the assignments; the codes themselves are `vectors`.

    Attributes:
      share: N_k, the share of positions assigned to each code.
      total: m_k, the sum of the latents assigned to each code, divided by the number of positions.
    """

    share: Float[Array, " codes"]
    total: Float[Array, "codes dim"]

    @classmethod
    def init(cls, key: Key[Array, ""], codes: int, dim: int) -> "Codebook":
        """Random codes from N(0, 1 / dim), all with an equal share."""
        vectors = jax.random.normal(key, (codes, dim)) / jnp.sqrt(dim)
        return cls(jnp.full(codes, 1 / codes), vectors / codes)

    @property
    def vectors(self) -> Float[Array, "codes dim"]:
        """The codes e_k = m_k / N_k."""
        return self.total / self.share[:, None]


def nearest(vectors: Float[Array, "codes dim"], z: Rows) -> Codes:
    """The index of the nearest code for each row of `z`, by Euclidean distance."""
    return jnp.argmin(jnp.sum(jnp.square(vectors), axis=1) - 2 * jnp.matmul(z, vectors.T, precision="highest"), axis=1)


def straight_through(z: Array, quantized: Array) -> Array:
    """The value of `quantized`; the gradient of the result goes to `z` unchanged, and `quantized` gets none."""
    return z + jax.lax.stop_gradient(quantized - z)


def shares_and_sums(z: Rows, codes: Codes, count: int) -> Codebook:
    """The statistics of a batch for `update`: shares n_k and sums of the assigned rows, both divided by the rows.

    Args:
      z: latents.
      codes: index of the code of each row, below `count`.
      count: number of codes.
    """
    assignments = jax.nn.one_hot(codes, count)
    return Codebook(jnp.mean(assignments, axis=0), jnp.matmul(assignments.T, z, precision="highest") / z.shape[0])


def update(
    book: Codebook, batch: Codebook, candidates: Rows, key: Key[Array, ""], *, decay: float, revive_below: float
) -> tuple[Codebook, Float[Array, ""]]:
    """The codebook after a batch, and the number of dead codes that were revived.

    Args:
      batch: from `shares_and_sums`, averaged over the global batch.
      candidates: latents of the global batch, from which revived codes are drawn.
      key: equal on all devices.
      decay: d of the running averages, in [0, 1).
      revive_below: a code is dead if its share is below `revive_below / codes`; 0 revives no code.
    """
    share, total = (decay * old + (1 - decay) * new for old, new in zip(book, batch, strict=True))
    count = len(share)
    dead = share < revive_below / count
    fresh = candidates[jax.random.randint(key, (count,), 0, len(candidates))]
    share = jnp.where(dead, 1 / count, share)
    total = jnp.where(dead[:, None], fresh / count, total)
    floor = 1e-6 / count  # without it, an unused code's share would decay to 0 and its vector to 0 / 0
    kept = jnp.maximum(share, floor)
    return Codebook(kept, total * (kept / share)[:, None]), jnp.sum(1.0 * dead)
