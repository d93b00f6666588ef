"""The guard, for every place where a step can go wrong, and the memory that it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from genmodels.config import defaults
from genmodels.core.guard import Update, guarded
from genmodels.core.parallel import Parallel, whole_view
from genmodels.core.state import Average, TrainState
from genmodels.tasks.network_optimizer import network_optimizers
from tests.helpers import digest

GOOD, BAD = 1.0, jnp.inf


def minus(state, network, by):
    return state.replace(params=state.params | {network: state.params[network] - by})


def step_of(place, hands_over):
    """A step that updates two networks by 2; the number that is called `place` is multiplied by the batch.

    Args:
      hands_over: whether the guard gets the second update, or the step applies both.
    """

    def train_step(state, frozen, batch, rng, dist):
        def two(name):
            return jnp.float32(2.0) * (batch[0] if name == place else 1)

        extra = {"mean": state.extra["mean"] + two("extra"), "count": state.extra["count"] + 1}
        state = minus(state, "first", two("first")).replace(extra=extra)
        metrics = {"loss": two("loss"), "part": Average(two("part"), jnp.float32(1))}
        if not hands_over:
            return minus(state, "second", two("second")), metrics
        apply = lambda state: (minus(state, "second", 2.0), {"size": jnp.float32(2)})  # noqa: E731
        return state, metrics, Update(two("second"), apply, ("size",))

    return train_step


def stepped(train_step, batches):
    """The states and the metrics of the steps on these batches."""
    state = TrainState.create({"first": jnp.ones(3), "second": jnp.ones(3)}, {}, ema=False)
    state = state.replace(extra={"mean": jnp.zeros(2), "count": jnp.int32(0)})
    step = jax.jit(lambda s, b: guarded(train_step)(s, {}, b, jax.random.key(0), whole_view(b)))
    found = []
    for batch in batches:
        state, metrics = step(state, jnp.array([batch]))
        found.append((state, metrics))
    return zip(*found, strict=True)


@pytest.mark.parametrize("hands_over", [True, False])
@pytest.mark.parametrize("place", ["loss", "part", "extra", "first", "second"])
def test_whatever_is_not_finite_the_whole_step_is_refused(place, hands_over):
    states, metrics = stepped(step_of(place, hands_over), [GOOD, BAD, BAD, GOOD])
    first, *refused, last = (digest(state.replace(step=0, skipped={})) for state in states)
    assert refused == [first, first]
    assert last != first
    assert [int(state.step) for state in states] == [1, 2, 3, 4]
    assert [int(m["skipped_in_row"]) for m in metrics] == [0, 1, 2, 0]
    assert [int(m["skipped"]) for m in metrics] == [0, 1, 2, 2]
    if hands_over:
        np.testing.assert_array_equal([m["size"] for m in metrics], [2, np.nan, np.nan, 2])


@pytest.mark.parametrize("hands_over", [True, False])
def test_a_good_step_is_what_it_would_be_without_the_guard(hands_over):
    (state,), _ = stepped(step_of("loss", hands_over), [GOOD])
    np.testing.assert_array_equal([*state.params["first"], *state.params["second"]], -1)
    np.testing.assert_array_equal(state.extra["mean"], 2)
    assert state.extra["count"] == 1


def trained_by(loss, params, local=False):
    """A state with averages, and the step of one network that `NetworkOptimizer` trains with Adam.

    Args:
      local: whether there is a metric that is not averaged over devices.
    """
    config = ConfigDict(defaults())
    config.update_from_flattened_dict({"optim.name": "adam", "ema.decay": 0.9})
    optimizer = network_optimizers(config, {"net": 1}, ("net",), 10)["net"]
    state = TrainState.create({"net": params}, {"net": optimizer.transformation}, ema=True)

    def train_step(state, frozen, batch, rng, dist):
        update, metrics = optimizer.update(state, loss, {"x": batch["x"]}, dist)
        return state, metrics | ({"largest": jnp.max(batch["x"])} if local else {}), update

    return state, guarded(train_step)


@pytest.mark.parametrize("mode", ["pmap", "sharded"])
@pytest.mark.parametrize(
    ("loss", "bad"),
    [
        (lambda params, rows: (jnp.mean(jnp.sqrt(rows["x"] * params["w"])), {}), 0.0),  # 0, with an infinite derivative
        (lambda params, rows: (jnp.mean(rows["x"] * params["w"]), {}), 1e25),  # a finite derivative, an infinite norm
        (lambda params, rows: (jnp.mean(rows["x"] * params["w"]), {}), np.nan),
    ],
)
def test_one_bad_row_of_one_device_changes_nothing_on_any(loss, bad, mode):
    state, step = trained_by(loss, {"w": jnp.float32(1)})
    parallel = Parallel(mode)
    compiled, placed = parallel.compile_step(step, state), parallel.place(state)
    good_rows = np.ones(16, np.float32)
    bad_rows = np.where(np.arange(16) == 5, bad, good_rows).astype(np.float32)
    states = []
    for rows in (good_rows, bad_rows, good_rows):
        placed, metrics = compiled(placed, {}, {"x": rows}, parallel.place(jax.random.key(0)))
        states.append(jax.device_get(placed))
        replicas = [np.asarray(shard.data) for shard in placed.params["net"]["w"].addressable_shards]
        assert len(replicas) == 8
        assert len(set(map(float, replicas))) == 1
    first, refused, last = (digest(state.replace(step=0, skipped={})) for state in states)
    assert refused == first != last
    assert int(metrics["skipped"]) == 1


def test_devices_agree_on_a_metric_that_differs_from_one_to_another():
    """Row 5 is on the third device; the metric of the other devices is finite."""
    state, step = trained_by(lambda params, rows: (jnp.square(params["w"]), {}), {"w": jnp.float32(1)}, local=True)
    parallel = Parallel("pmap")
    compiled, placed = parallel.compile_step(step, state), parallel.place(state)
    rows = np.where(np.arange(16) == 5, np.inf, 1).astype(np.float32)
    placed, _ = compiled(placed, {}, {"x": rows}, parallel.place(jax.random.key(0)))
    replicas = [float(np.asarray(shard.data)) for shard in placed.params["net"]["w"].addressable_shards]
    assert replicas == [1.0] * 8


def test_the_decision_takes_no_second_state():
    """Beside the donated state there is room for the gradient and the update, and for nothing else of its size."""
    size = 512
    params = {f"{i}": {"kernel": jnp.ones((size, size)), "bias": jnp.zeros(size)} for i in range(8)}

    def loss(params, rows):
        x = rows["x"]
        for layer in params.values():
            x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
        return jnp.mean(x), {}

    state, step = trained_by(loss, params)
    run = jax.jit(lambda s, b: step(s, {}, b, jax.random.key(0), whole_view(b)), donate_argnums=0)
    memory = run.lower(state, {"x": jnp.ones((1, size))}).compile().memory_analysis()
    of_params = 4 * sum(leaf.size for leaf in jax.tree.leaves(params))
    assert memory.alias_size_in_bytes >= 4 * of_params  # parameters, two moments and the average are overwritten
    assert memory.temp_size_in_bytes < 2.1 * of_params
