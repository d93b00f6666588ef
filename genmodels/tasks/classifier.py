"""Supervised classification as a Task: cross-entropy on labels. Its networks serve as feature extractors too."""

from typing import Any

import jax.numpy as jnp
import optax

from genmodels import optim
from genmodels.config import build
from genmodels.errors import ConfigError
from genmodels.models.convnet import ConvNet
from genmodels.state import TrainState
from genmodels.tasks.base import DataSpec, Predict, Task

NETWORK = "classifier"


def make(config: Any, data: DataSpec, num_steps: int) -> Task:
    """The classification task of a config with the section `model`.

    Raises:
      ConfigError: an unknown key, or data without labels.
    """
    data.require("classifier", "image")
    if not data.num_classes:
        raise ConfigError(f"config.data.source={config.data.source} has no labels, which config.task=classifier needs")
    model = build(ConvNet, config.model, "model", num_classes=data.num_classes)
    tx = optim.make_optimizer(config.optim, num_steps)
    decay = optim.ema_decay(config.ema, num_steps)

    def init(rng, batch) -> TrainState:
        params = {NETWORK: model.init(rng, batch["image"][:1])["params"]}
        return TrainState.create(params, {NETWORK: tx}, ema=decay is not None)

    def loss_fn(params, rows):
        logits, _ = model.apply({"params": params}, rows["image"], rows["key"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, rows["label"])
        return jnp.mean(losses), {"accuracy": jnp.mean(1.0 * (jnp.argmax(logits, -1) == rows["label"]))}

    def train_step(state, frozen, batch, rng, dist):
        rows = batch | {"key": dist.example_keys(rng)}
        grads, metrics = optim.gradients(loss_fn, state.params[NETWORK], rows, dist, config.train.accumulate)
        state, norms = optim.apply_gradients(state, NETWORK, tx, grads, decay)
        return state, metrics | norms

    def classify(variables, frozen, inputs, dist):
        logits, features = model.apply({"params": variables["params"][NETWORK]}, inputs["image"])
        return {"logits": logits, "features": features}

    return Task(
        init=init,
        train_step=train_step,
        optimizers={NETWORK: tx},
        predict={"classify": Predict(classify, ("image",), "logits")},
    )
