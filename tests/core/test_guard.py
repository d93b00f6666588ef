"""The guard, for every place where a step can go wrong, and the memory that it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from genmodels.config import defaults
from genmodels.core.guard import Update, guarded
from genmodels.core.parallel import whole_view
from genmodels.core.state import Average, TrainState
from genmodels.tasks.network_optimizer import network_optimizers
from tests.helpers import digest

GOOD, BAD = 1.0, jnp.inf


def moved(state, network, by):
    return state.replace(params=state.params | {network: state.params[network] - by})


def step_of(place, waits):
    """A step that updates two networks; what is called `place` is multiplied by the batch.

    Args:
      waits: whether the guard gets the second update, or the step applies both.
    """

    def train_step(state, frozen, batch, rng, dist):
        def value(name):
            return jnp.float32(2.0) * (batch if name == place else 1)

        extra = {"mean": state.extra["mean"] + value("extra"), "count": state.extra["count"] + 1}
        state = moved(state, "first", value("first")).replace(extra=extra)
        metrics = {"loss": value("loss"), "part": Average(value("part"), jnp.float32(1))}
        if not waits:
            return moved(state, "second", value("second")), metrics
        return (
            state,
            metrics,
            Update(value("second"), lambda s: (moved(s, "second", 2.0), {"moved": value("")}), ("moved",)),
        )

    return train_step


def stepped(train_step, batches):
    """The states and the metrics of the steps on these batches."""
    state = TrainState.create({"first": jnp.ones(3), "second": jnp.ones(3)}, {}, ema=False)
    state = state.replace(extra={"mean": jnp.zeros(2), "count": jnp.int32(0)})
    step = jax.jit(lambda s, b: guarded(train_step)(s, {}, b, jax.random.key(0), None))
    found = []
    for batch in batches:
        state, metrics = step(state, batch)
        found.append((state, metrics))
    return zip(*found, strict=True)


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("place", ["loss", "part", "extra", "first", "second"])
def test_whatever_is_not_finite_the_whole_step_is_refused(place, waits):
    states, metrics = stepped(step_of(place, waits), [GOOD, BAD, BAD, GOOD])
    first, *refused, last = (digest(state.replace(step=0, skipped={})) for state in states)
    assert refused == [first, first]
    assert last != first
    assert [int(state.step) for state in states] == [1, 2, 3, 4]
    assert [int(m["skipped_in_row"]) for m in metrics] == [0, 1, 2, 0]
    assert [int(m["skipped"]) for m in metrics] == [0, 1, 2, 2]
    if waits:
        np.testing.assert_array_equal([m["moved"] for m in metrics], [2, np.nan, np.nan, 2])


@pytest.mark.parametrize("waits", [True, False])
def test_a_good_step_is_what_it_would_be_without_the_guard(waits):
    (state,), _ = stepped(step_of("loss", waits), [GOOD])
    np.testing.assert_array_equal([*state.params["first"], *state.params["second"]], -1)
    np.testing.assert_array_equal(state.extra["mean"], 2)
    assert state.extra["count"] == 1


def test_deciding_takes_no_second_state():
    """Beside the donated state there is room for the gradient and the update, and for nothing else of its size."""
    size = 512
    params = {"net": {name: jnp.ones((size, size)) for name in "abcd"}}
    config = ConfigDict(defaults())
    config.update_from_flattened_dict({"optim.name": "adam", "ema.decay": 0.9})
    optimizer = network_optimizers(config, {"net": 1}, ("net",), 10)["net"]
    state = TrainState.create(params, {"net": optimizer.transformation}, ema=True)

    def loss(params, rows):
        for weights in params.values():
            rows = jnp.tanh(rows @ weights)
        return jnp.mean(rows), {}

    def train_step(state, frozen, batch, rng, dist):
        update, metrics = optimizer.update(state, loss, batch, dist)
        return state, metrics, update

    batch = jnp.ones((1, size))
    step = jax.jit(lambda s, b: guarded(train_step)(s, {}, b, jax.random.key(0), whole_view(b)), donate_argnums=0)
    memory = step.lower(state, batch).compile().memory_analysis()
    of_params = 4 * size * size * 4
    assert memory.alias_size_in_bytes >= 4 * of_params  # parameters, two moments and the average are overwritten
    assert memory.temp_size_in_bytes < 2.1 * of_params
