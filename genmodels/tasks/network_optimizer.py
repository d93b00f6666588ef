"""One network's optimizer, together with everything else in the config that decides how its parameters move."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import optax

from genmodels.core import optim
from genmodels.core.parallel import Dist
from genmodels.core.state import TrainState

Loss = Callable[[Any, Any], tuple[jax.Array, dict[str, Any]]]


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkOptimizer:
    """How the parameters of one network are updated.

    Attributes:
      network: the name of the network in the state's `params`, `opt_state` and `ema_params`.
      transformation: the optax chain, see `optim.make_optimizer`.
      frozen: which parameters stay as they are.
      ema_decay: the decay of the averaged parameters by step; None keeps no average of this network.
      accumulate: the number of micro-batches in one update.
    """

    network: str
    transformation: optax.GradientTransformation
    frozen: optim.Frozen
    ema_decay: Callable[[jax.Array], jax.Array] | None = None
    accumulate: int = 1

    def update(self, state: TrainState, loss: Loss, rows: Any, dist: Dist) -> tuple[TrainState, dict, dict]:
        """One update that lowers the mean of `loss` over the global batch.

        Args:
          loss: (the network's parameters, rows) to (mean loss over these rows, metrics), see `optim.gradients`.
          rows: a pytree whose arrays have one row for each example of this view.
        Returns:
          The new state; the metrics of `loss`, with the loss itself as "loss"; and the gradient norm, the update norm
          and the learning rate.
        """
        params = state.params[self.network]
        grads, metrics = optim.gradients(loss, params, rows, dist, self.accumulate, self.frozen)
        state, norms = optim.apply_gradients(state, self.network, self.transformation, grads, self.ema_decay)
        return state, metrics, norms


def network_optimizers(
    config: Any, updates_per_step: Mapping[str, int], averaged: Collection[str], num_steps: int
) -> dict[str, NetworkOptimizer]:
    """The optimizer of each network, by the sections `optim`, `ema`, `train` and the key `frozen` of the config.

    Args:
      updates_per_step: the number of updates of each network in one training step.
      averaged: the networks whose parameters are averaged where `config.ema` asks for an average.
    Raises:
      ConfigError: `config.optim` has a section for a network that is not there, or a key that it does not know.
    """
    transformations = optim.make_optimizers(config, updates_per_step, num_steps)
    decay = optim.ema_decay(config.ema, num_steps)
    return {
        network: NetworkOptimizer(
            network,
            transformation,
            optim.Frozen.of(config, network),
            decay if network in averaged else None,
            config.train.accumulate,
        )
        for network, transformation in transformations.items()
    }
