"""Optimizers, learning-rate schedules and averaged weights (EMA) from a config, and the one gradient helper.

EMA: ema <- d ema + (1 - d) params, with d_t = min(decay, (1 + t) / (10 + t)) during warm-up. What matters to a short
run is the ratio of the averaging time 1 / (1 - decay) to the length of the run. `ema.horizon` sets that ratio and
derives the decay from it.

Frozen parameters are not differentiated: they have no gradient, no optimizer state and no average, and the backward
pass ends where only frozen parameters are left.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from genmodels.core import parameters
from genmodels.core.parallel import Dist
from genmodels.core.state import Average, PerRow, TrainState
from genmodels.errors import choose

PyTree = Any

SMALL_SIZE = 2**16  # elements; smaller leaves are joined before they are summed


def global_norm(tree: PyTree) -> Float[Array, ""]:
    """The L2 norm of all leaves together; 0 of no leaves.

    Small leaves are joined, because XLA's CPU backend compiles kernels of their own for the sum of each leaf. The sums
    are stacked, because it would copy a chain of additions into every kernel that reads the norm. Large leaves are not
    joined: that would take memory, and communication where they are sharded.
    """
    leaves = jax.tree.leaves(tree)
    small = [leaf.ravel() for leaf in leaves if leaf.size < SMALL_SIZE]
    parts = [leaf for leaf in leaves if leaf.size >= SMALL_SIZE] + ([jnp.concatenate(small)] if small else [])
    return jnp.sqrt(jnp.sum(jnp.stack([jnp.sum(jnp.square(part)) for part in parts]))) if parts else jnp.zeros(())


def clip_by_global_norm(limit: float) -> optax.GradientTransformationExtraArgs:
    """Scales gradients whose global L2 norm is above `limit` down to that norm (Pascanu et al. 2013).

    Its `update` takes the norm as `grad_norm` where it is known already.
    """

    def update(grads, state, params=None, *, grad_norm=None, **_):
        norm = global_norm(grads) if grad_norm is None else grad_norm
        scale = limit / jnp.maximum(norm, limit)
        return jax.tree.map(lambda g: g * scale, grads), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


PRECONDITIONERS = {
    "adam": lambda c, decays: [optax.scale_by_adam(c.b1, c.b2, c.eps)],
    "adamw": lambda c, decays: [optax.scale_by_adam(c.b1, c.b2, c.eps), decays],
    "lion": lambda c, decays: [optax.scale_by_lion(c.b1, c.b2), decays],
    "sgd": lambda c, decays: [optax.trace(c.momentum)] if c.momentum else [],
}

DECAYS = {
    "constant": lambda value, steps: optax.constant_schedule(value),
    "linear": lambda value, steps: optax.linear_schedule(value, 0.0, steps),
    "cosine": lambda value, steps: optax.cosine_decay_schedule(value, steps),
}


def learning_rate(config: Any, num_steps: int) -> optax.Schedule:
    """The learning rate of each update: linear warm-up from 0, then `config.optim.decay`, which ends at `num_steps`."""
    warmup = min(config.warmup, num_steps)
    decay = DECAYS[choose("config.optim.decay", config.decay, DECAYS)]
    after = decay(config.learning_rate, max(1, num_steps - warmup))
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, config.learning_rate, warmup), after], [warmup])


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Which parameters of a network are not trained: those whose name "network/module/leaf" matches a pattern.

    Attributes:
      network: name of the network, the first part of each parameter's name.
      patterns: regular expressions that must match the full name.
    """

    network: str = ""
    patterns: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Any, network: str) -> "Frozen":
        """The patterns of `config.frozen` for one network; a config that lacks the key freezes nothing."""
        return cls(network, tuple(config.get("frozen", ())))

    def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
        """The trained and the frozen parameters, see `parameters.split`."""
        return parameters.split(params, self.patterns, self.network)


NONE_FROZEN = Frozen()


def make_optimizer(
    config: Any, num_steps: int, frozen: Frozen = NONE_FROZEN, updates: int = 1
) -> optax.GradientTransformationExtraArgs:
    """The optax chain of `config.optim`: clip by global norm, precondition, decay weights, scale by the rate.

    The optimizer state covers only the trained parameters, and `apply_gradients` passes only those. Weights whose
    names, "network/module/leaf", match `config.optim.no_decay` do not decay.

    Args:
      config: the section `config.optim`, or a network's own version of it.
      num_steps: training steps, at which the learning-rate decay ends.
      updates: updates per training step; all updates of a step use that step's learning rate.
    """
    name = choose("config.optim.name", config.name, PRECONDITIONERS)
    clip = [clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    scale_by_rate = optax.inject_hyperparams(optax.scale_by_learning_rate)  # keeps the rate in the state, for the log
    schedule = learning_rate(config, num_steps)
    rate = scale_by_rate(learning_rate=schedule if updates == 1 else lambda count: schedule(count // updates))
    no_decay = tuple(config.get("no_decay", ()))  # in older configs, which lack the key, all weights decay

    def decay_mask(params):
        return jax.tree.map(lambda hit: not hit, parameters.mask(params, no_decay, frozen.network))

    decays = optax.add_decayed_weights(config.weight_decay, decay_mask if no_decay else None)
    chain = optax.chain(*clip, *PRECONDITIONERS[name](config, decays), rate)
    return optax.GradientTransformationExtraArgs(lambda params: chain.init(frozen.split(params)[0]), chain.update)


def make_optimizers(
    config: ConfigDict, updates: Mapping[str, int], num_steps: int
) -> dict[str, optax.GradientTransformationExtraArgs]:
    """An optimizer for each network: `config.optim`, overridden by the section `config.optim.NETWORK` if there is one.

    A key that is None in such a section is not set.

    Args:
      config: the full config of the run.
      updates: network name to updates per training step.
      num_steps: training steps, at which the learning-rate decay ends.
    Raises:
      ConfigError: the name of a section is not a network of the task, or a section has a key that `config.optim` lacks.
    """
    shared = {key: value for key, value in config.optim.items() if not isinstance(value, ConfigDict)}
    sections = {key: value for key, value in config.optim.items() if key not in shared}
    for network, section in sections.items():
        choose("section config.optim." + network, network, updates)
        for key in section:
            choose(f"key config.optim.{network}.{key}", key, shared)
    chosen = {name: {key: value for key, value in part.items() if value is not None} for name, part in sections.items()}
    resolved = {network: ConfigDict(shared | chosen.get(network, {})) for network in updates}
    return {
        network: make_optimizer(resolved[network], num_steps, Frozen.of(config, network), count)
        for network, count in updates.items()
    }


def ema_decay(config: Any, num_steps: int) -> Callable[[jax.Array], jax.Array] | None:
    """The decay of `config.ema` as a function of the step; None if the run keeps no average."""
    if not config.horizon and not config.decay:
        return None
    decay = 1 - 1 / max(1.0, config.horizon * num_steps) if config.horizon else config.decay
    if not config.warmup:
        return lambda step: jnp.float32(decay)
    return lambda step: jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def gradients(
    loss_fn: Callable[[PyTree, PyTree], tuple[jax.Array, dict[str, jax.Array | Average | PerRow]]],
    params: PyTree,
    batch: PyTree,
    dist: Dist,
    accumulate: int = 1,
    frozen: Frozen = NONE_FROZEN,
) -> tuple[PyTree, dict[str, Any]]:
    """Gradient of the mean loss over the *global* batch, and the metrics; both are averaged over devices after `grad`.

    The gradient has None in place of each frozen parameter. Its global L2 norm is the metric "grad_norm".

    Args:
      loss_fn: maps (params, rows) to (mean loss over these rows, metrics). Metrics of type `PerRow` are returned
        unchanged, in the order of this view's rows.
      batch: arrays whose leading axis is the rows of this view, per-example random keys included.
      accumulate: number of micro-batches that are scanned one after another. Each takes every `accumulate`-th row, so
        that a batch sharded over devices keeps its sharding.
    """
    trained, untrained = frozen.split(params)
    value_and_grad = jax.value_and_grad(lambda p, rows: loss_fn(parameters.merge(p, untrained), rows), has_aux=True)

    def micro_batch(rows):
        (loss, metrics), grads = value_and_grad(trained, rows)
        per_row = {name: metrics.pop(name) for name in list(metrics) if isinstance(metrics[name], PerRow)}
        return (grads, {"loss": loss, **metrics}), per_row

    if accumulate == 1:
        averaged, per_row = micro_batch(batch)
    else:
        parts = jax.tree.map(lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch)
        shapes, _ = jax.eval_shape(micro_batch, jax.tree.map(lambda x: x[0], parts))
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

        def add(sums, rows):
            new, per_row = micro_batch(rows)
            return jax.tree.map(jnp.add, sums, new), per_row

        total, per_row = jax.lax.scan(add, zeros, parts)
        averaged = jax.tree.map(lambda x: x / accumulate, total)
        per_row = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), per_row)
    grads, metrics = dist.mean(averaged)
    return grads, metrics | per_row | {"grad_norm": global_norm(grads)}


def apply_gradients(
    state: TrainState,
    name: str,
    tx: optax.GradientTransformationExtraArgs,
    grads: PyTree,
    decay: Callable[[jax.Array], jax.Array] | None,
    grad_norm: Float[Array, ""] | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Updates the parameters, optimizer state and EMA of the network `name`.

    Args:
      tx: from `make_optimizer`; the last link of its chain holds the learning rate.
      grads: None in place of a parameter leaves that parameter and its average unchanged.
      decay: EMA decay as a function of the step, see `ema_decay`; None keeps no average.
      grad_norm: the global L2 norm of `grads`, if it is known.
    Returns:
      The new state, and the metrics `update_norm` (global L2 norm) and `learning_rate`.
    """
    trained = parameters.only(grads, state.params[name])
    updates, opt_state = tx.update(grads, state.opt_state[name], trained, grad_norm=grad_norm)
    trained = optax.apply_updates(trained, updates)
    params = parameters.merge(trained, state.params[name])
    changes = {
        "params": state.params | {name: params},
        "opt_state": state.opt_state | {name: opt_state},
    }
    if decay is not None:
        d = decay(state.step)
        before = state.ema_params[name]
        average = jax.tree.map(lambda e, p: d * e + (1 - d) * p, parameters.only(grads, before), trained)
        changes["ema_params"] = state.ema_params | {name: parameters.merge(average, before)}
    metrics = {
        "update_norm": global_norm(updates),
        "learning_rate": opt_state[-1].hyperparams["learning_rate"],
    }
    return state.replace(**changes), metrics
