"""Mixup (Zhang et al. 2018): every example, with its label, is blended with another example of the global batch.

    x = lambda x_i + (1 - lambda) x_j,  y = lambda y_i + (1 - lambda) y_j,  lambda ~ Beta(alpha, alpha)

Row i of a global batch of B rows is blended with row B - 1 - i. Each row draws lambda from its own random key, so the
result does not depend on how the batch is split over devices.
"""

from typing import Any

import jax
from jaxtyping import Array, Float, Key

Images = Float[Array, "rows height width channel"]
Targets = Float[Array, "rows classes"]


def mix(images: Images, targets: Targets, keys: Key[Array, " rows"], alpha: float, dist: Any) -> tuple[Images, Targets]:
    """The blended images and targets of this view's rows.

    Args:
      images: this view's images, in any range.
      targets: probabilities of the classes.
      keys: one random key per row.
      alpha: positive parameter of the Beta distribution; 1 is the uniform distribution, small values blend little.
      dist: the view of the devices, `core.parallel.Dist`.
    """
    lambdas = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)

    def blend(x):
        global_batch = dist.all_gather(x)
        partner = global_batch[len(global_batch) - 1 - dist.example_ids]
        weight = lambdas.reshape(-1, *[1] * (x.ndim - 1))
        return weight * x + (1 - weight) * partner

    return blend(images), blend(targets)
