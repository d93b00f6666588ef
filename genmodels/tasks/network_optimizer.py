"""One network's optimizer, together with everything else in the config that decides how its parameters move."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax
import optax

from genmodels.core import optim
from genmodels.core.guard import Update
from genmodels.core.parallel import Dist
from genmodels.core.state import TrainState

MEASURED = ("update_norm", "learning_rate")  # the metrics of `optim.apply_gradients`

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
      suffix: the end of the names of the metrics grad_norm, update_norm and learning_rate: "_NETWORK" in a task of
        several networks, else nothing.
    """

    network: str
    transformation: optax.GradientTransformationExtraArgs
    frozen: optim.Frozen
    ema_decay: Callable[[jax.Array], jax.Array] | None = None
    accumulate: int = 1
    suffix: str = ""

    def update(self, state: TrainState, loss: Loss, rows: Any, dist: Dist) -> tuple[Update, dict[str, Any]]:
        """An update that lowers the mean of `loss` over the global batch. It is not applied yet.

        A step returns its last update, which the guard applies; earlier updates it applies itself, by `Update.apply`.

        Args:
          loss: (the network's parameters, rows) to (mean loss over these rows, metrics), see `optim.gradients`.
          rows: a pytree whose arrays have one row for each example of this view.
        Returns:
          The update, whose metrics are `update_norm` and `learning_rate`; and the metrics of `loss`, with the loss
          itself as "loss" and the gradient's norm as `grad_norm`. The names of norms and rate end with `suffix`.
        """
        params = state.params[self.network]
        grads, metrics = optim.gradients(loss, params, rows, dist, self.accumulate, self.frozen)
        metrics[f"grad_norm{self.suffix}"] = grad_norm = metrics.pop("grad_norm")
        return Update(grad_norm, functools.partial(self._apply, grads, grad_norm), self._names(MEASURED)), metrics

    def _names(self, metrics: Iterable[str]) -> tuple[str, ...]:
        return tuple(f"{name}{self.suffix}" for name in metrics)

    def _apply(self, grads: Any, grad_norm: jax.Array, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        state, metrics = optim.apply_gradients(
            state, self.network, self.transformation, grads, self.ema_decay, grad_norm
        )
        return state, dict(zip(self._names(metrics), metrics.values(), strict=True))


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
            f"_{network}" if len(transformations) > 1 else "",
        )
        for network, transformation in transformations.items()
    }
