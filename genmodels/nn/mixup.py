"""Mixup (Zhang et al. 2018): every example is blended with another of the global batch, and so are their labels.

    x = lambda x_i + (1 - lambda) x_j,  y = lambda y_i + (1 - lambda) y_j,  lambda ~ Beta(alpha, alpha)

Row i of a global batch of B meets row B - 1 - i; each row draws its own lambda from its own key. So the result does not
depend on how the batch is split over devices.
"""

from typing import Any

import jax
from jaxtyping import Array, Float, Key

Images = Float[Array, "rows height width channel"]
Targets = Float[Array, "rows classes"]


def mix(images: Images, targets: Targets, keys: Key[Array, " rows"], alpha: float, dist: Any) -> tuple[Images, Targets]:
    """This view's rows, blended.

    Args:
      targets: probabilities of the classes.
      keys: one a row.
      alpha: of the Beta distribution, positive; 1 is uniform, small values blend little.
      dist: the view of the devices, `core.parallel.Dist`.
    """
    share = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)

    def blend(x):
        every = dist.all_gather(x)
        other = every[len(every) - 1 - dist.example_ids]
        weight = share.reshape(-1, *[1] * (x.ndim - 1))
        return weight * x + (1 - weight) * other

    return blend(images), blend(targets)
