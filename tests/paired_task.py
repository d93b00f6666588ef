"""A whole task on pairs in a few lines: a 1x1 convolution a direction, which learns the mean of the other set."""

import flax.linen as nn
import jax.numpy as jnp

from genmodels.core import optim
from genmodels.core.state import TrainState
from genmodels.tasks import Predict, Task


def make(config, data, num_steps):
    data.require("paired", "a", "b")
    model = nn.Conv(data.image_shape[-1], (1, 1))
    optimizers = optim.make_optimizers(config, {"translator": 1}, num_steps)

    def init(rng, batch):
        params = {way: model.init(rng, batch[way[0]])["params"] for way in ("ab", "ba")}
        return TrainState.create({"translator": params}, optimizers, ema=False)

    def translate(params, way, images):
        return model.apply({"params": params["translator"][way]}, images)

    def loss_fn(params, rows):
        ways = (("ab", rows["a"], rows["b"]), ("ba", rows["b"], rows["a"]))
        return sum(jnp.mean(jnp.square(translate({"translator": params}, *way) - to)) for *way, to in ways), {}

    def train_step(state, frozen, batch, rng, dist):
        rows = {field: batch[field] for field in data.fields}
        grads, metrics = optim.gradients(loss_fn, state.params["translator"], rows, dist, config.train.accumulate)
        state, norms = optim.apply_gradients(state, "translator", optimizers["translator"], grads, None)
        return state, metrics | norms

    def direction(way):
        def fn(variables, frozen, inputs, dist):
            return {"image": jnp.clip(translate(variables["params"], way, inputs[way[0]]), -1, 1)}

        return Predict(fn, (way[0],), "image")

    return Task(init, train_step, optimizers, {f"translate_{way}": direction(way) for way in ("ab", "ba")})
