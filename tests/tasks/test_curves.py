"""Every curve that a task declares for the report shows metrics that the task logs."""

import jax
import jax.numpy as jnp
import pytest

from genmodels.core.guard import finish
from genmodels.core.parallel import whole_view
from genmodels.core.state import PerRow
from genmodels.tasks import DataSpec, make_task
from tests.helpers import experiment

EXPERIMENTS = {  # those whose metrics together are all that the task can log
    "classifier": [("classifier_digits", {})],
    "diffusion": [("ddpm_digits", {})],
    "gan": [("gan_digits", {"gan.penalty": "r1"})],
    "vae": [
        ("vae_digits", {}),
        ("vae_digits", {"vae.latent": "vq", "ema.horizon": 0.0, "model.grid": True}),
    ],
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_curve_has_metrics(name, small):
    curves, metrics = (), set()
    for file, overrides in EXPERIMENTS[name]:
        config = small(file, **overrides) if name == "diffusion" else experiment(file, **overrides)
        task = make_task(config, DataSpec((8, 8, 1), 10), 10)
        batch = {"image": jnp.zeros((4, 8, 8, 1)), "label": jnp.zeros(4, jnp.int32)}
        state = jax.eval_shape(task.init, jax.random.key(0), batch)
        _, logged = jax.eval_shape(
            lambda s, b, task=task: finish(*task.train_step(s, {}, b, jax.random.key(0), whole_view(b))), state, batch
        )
        assert not any(isinstance(value, PerRow) for value in logged.values())
        curves, metrics = task.curves, metrics | logged.keys()
    assert curves
    for curve in curves:
        for entry in curve.metrics:
            is_prefix = entry.endswith("_")
            assert [m for m in metrics if m == entry or (is_prefix and m.startswith(entry))], f"{curve.title}: {entry}"
    assert len({curve.title for curve in curves}) == len(curves)
