"""The diffusion task beyond what every task promises: guidance, label dropout, the loss by timestep."""

import jax
import jax.numpy as jnp
import numpy as np

from genmodels.parallel import whole_view
from genmodels.tasks import DataSpec, make_task
from tests.helpers import experiment

SPEC = DataSpec((8, 8, 1), 10)
LABELS = jnp.arange(6, dtype=jnp.int32)


def built(**overrides):
    """The task, and a state whose zero-initialised layers do not hide everything."""
    task = make_task(experiment("ddpm_digits", **overrides), SPEC, 10)
    batch = {"image": jnp.zeros((1, 8, 8, 1)), "label": jnp.zeros(1, jnp.int32)}
    state = jax.jit(task.init)(jax.random.key(0), batch)
    moved = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(1), p.shape), state.params)
    return task, state.replace(params=moved, ema_params=moved)


def test_guidance_goes_from_the_null_label_through_the_condition_with_a_scale_for_every_sample():
    task, state = built()
    images = jax.random.uniform(jax.random.key(2), (6, 8, 8, 1), minval=-1)
    inputs = {"key": jax.random.split(jax.random.key(3), 6), "image": images}
    denoise = jax.jit(
        lambda more: task.predict["denoise"].fn(state.variables(), {}, inputs | more, whole_view(inputs), timestep=10)[
            "image"
        ]
    )

    def guided(scale, labels=LABELS):
        return denoise({"label": labels, "guidance_scale": jnp.asarray(scale) * jnp.ones(6)})

    none, full = guided(0.0), guided(1.0)
    np.testing.assert_allclose(full, denoise({"label": LABELS}), atol=1e-5)
    np.testing.assert_array_equal(none, guided(0.0, LABELS[::-1]))
    for label in range(10):  # the null label is none of them
        assert np.abs(none - denoise({"label": jnp.full(6, label)})).max() > 1e-3
    scales = jnp.linspace(-1, 3, 6)
    expected = none + scales[:, None, None, None] * (full - none)
    np.testing.assert_allclose(guided(scales), expected, atol=1e-4)


def stepped(task, state, labels):
    images = jax.random.uniform(jax.random.key(2), (64, 8, 8, 1), minval=-1)
    batch = {"image": images, "label": labels}
    return jax.jit(lambda s, b: task.train_step(s, {}, b, jax.random.key(4), whole_view(b)))(state, batch)


def test_dropped_labels_do_not_reach_the_loss_and_others_do():
    labels = [jnp.arange(64, dtype=jnp.int32) % 10, jnp.full(64, 3, jnp.int32)]
    losses = {}
    for rate in (0.0, 0.5, 1.0):
        task, state = built(**{"diffusion.label_dropout": rate})
        losses[rate] = [float(stepped(task, state, each)[1]["loss"]) for each in labels]
    assert losses[1.0][0] == losses[1.0][1]
    assert losses[0.0][0] != losses[0.0][1]
    assert len({losses[rate][0] for rate in losses}) == 3


def test_the_quartiles_of_the_loss_make_up_the_loss():
    task, state = built()
    _, metrics = stepped(task, state, jnp.zeros(64, jnp.int32))
    quartiles = [metrics[f"loss_quartile_{q}"] for q in range(4)]
    np.testing.assert_allclose(sum(q.total for q in quartiles), metrics["loss"], rtol=1e-5)
    np.testing.assert_allclose(sum(q.count for q in quartiles), 1, rtol=1e-6)
    assert all(4 <= 64 * q.count <= 32 for q in quartiles)  # 16 expected of uniform timesteps
