"""One update of one network, on a quadratic loss whose minimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from genmodels.config import defaults
from genmodels.core.guard import finish
from genmodels.core.parallel import whole_view
from genmodels.core.state import TrainState
from genmodels.errors import ConfigError
from genmodels.tasks.network_optimizer import network_optimizers

ROWS = {"x": jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])}


def made(**overrides):
    """The optimizers of two networks with plain gradient steps of size 1, and a state of zeros."""
    sgd = {"optim.name": "sgd", "optim.momentum": 0.0, "optim.clip_norm": 0.0, "optim.learning_rate": 1.0}
    config = ConfigDict(defaults())
    config.update_from_flattened_dict(sgd | overrides)
    optimizers = network_optimizers(config, {"first": 1, "second": 2}, ("first",), 10)
    params = {name: {"w": jnp.zeros(2), "unused": jnp.zeros(2)} for name in optimizers}
    transformations = {name: optimizer.transformation for name, optimizer in optimizers.items()}
    averaged = [name for name, optimizer in optimizers.items() if optimizer.ema_decay is not None]
    return optimizers, TrainState.create(params, transformations, ema=averaged)


def loss(params, rows):
    """Its gradient step of size 1 from anywhere ends at the mean of the rows."""
    return jnp.mean(jnp.sum(jnp.square(params["w"] - rows["x"]), axis=1)) / 2, {"rows": 1.0 * len(rows["x"])}


def update(optimizers, state, name="first"):
    """The state after an update, and all its metrics."""

    def step(state, rows):
        update, metrics = optimizers[name].update(state, loss, rows, whole_view(rows))
        return finish(state, metrics, update)

    return jax.jit(step)(state, ROWS)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_update_follows_the_gradient_of_the_mean_loss(accumulate):
    optimizers, before = made(**{"train.accumulate": accumulate})
    state, metrics = update(optimizers, before)
    np.testing.assert_allclose(state.params["first"]["w"], [4, 5])
    np.testing.assert_allclose(metrics["loss"], np.square(ROWS["x"]).sum(1).mean() / 2)
    assert metrics["rows"] == 4 / accumulate
    norms = metrics["grad_norm_first"], metrics["update_norm_first"]
    np.testing.assert_allclose(norms, np.hypot(4, 5), rtol=1e-6)
    assert metrics["learning_rate_first"] == 1


def test_an_update_waits_until_it_is_applied_and_names_what_it_measures():
    optimizers, before = made()
    pending, metrics = optimizers["first"].update(before, loss, ROWS, whole_view(ROWS))
    assert pending.grad_norm == metrics["grad_norm_first"]
    assert not before.params["first"]["w"].any()
    state, measured = pending.apply(before)
    assert state.params["first"]["w"].all()
    assert set(measured) == set(pending.metrics)


def test_the_only_network_of_a_task_has_metrics_without_its_name():
    optimizer = network_optimizers(ConfigDict(defaults()), {"first": 1}, ("first",), 10)["first"]
    state = TrainState.create({"first": {"w": jnp.zeros(2)}}, {"first": optimizer.transformation}, ema=False)
    pending, metrics = optimizer.update(state, loss, ROWS, whole_view(ROWS))
    assert metrics.keys() == {"loss", "rows", "grad_norm"}
    assert pending.metrics == ("update_norm", "learning_rate")


def test_an_update_leaves_the_other_network_alone():
    optimizers, before = made()
    state, _ = update(optimizers, before, "second")
    assert (state.params["second"]["w"] != 0).all()
    np.testing.assert_array_equal(state.params["first"]["w"], before.params["first"]["w"])


def test_frozen_parameters_stay():
    optimizers, before = made(frozen=("first/w",))
    state, metrics = update(optimizers, before)
    np.testing.assert_array_equal(state.params["first"]["w"], 0)
    assert metrics["grad_norm_first"] == 0


def test_only_the_networks_named_are_averaged():
    optimizers, before = made(**{"ema.decay": 0.9, "ema.warmup": False})
    assert before.ema_params.keys() == {"first"}
    state, _ = update(optimizers, before)
    np.testing.assert_allclose(state.ema_params["first"]["w"], 0.1 * state.params["first"]["w"], rtol=1e-6)
    state, _ = update(optimizers, before, "second")
    np.testing.assert_array_equal(state.ema_params["first"]["w"], 0)


def test_a_section_of_an_unknown_network_is_refused():
    config = ConfigDict(defaults())
    config.optim.third = {"learning_rate": 1.0}
    with pytest.raises(ConfigError, match=r"config\.optim\.third"):
        network_optimizers(config, {"first": 1}, ("first",), 10)
