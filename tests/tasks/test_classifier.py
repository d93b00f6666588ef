"""The classification task: its targets, its loss, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genmodels.core.guard import finish
from genmodels.core.parallel import AXIS, device_view, whole_view
from genmodels.errors import ConfigError
from genmodels.nn.mixup import mix
from genmodels.tasks import DataSpec, FrozenNetwork, make_task
from tests.helpers import experiment

SPEC = DataSpec((8, 8, 1), 10)
KEYS = jax.random.split(jax.random.key(3), 16)
IMAGES = jax.random.normal(jax.random.key(0), (16, 8, 8, 1))
LABELS = jnp.arange(16) % 10
PLAIN = {"channels": (4, 4), "features": 8, "dropout": 0.0}


def test_mixup_blends_images_and_labels_alike_with_a_row_of_the_global_batch():
    """Images that are one-hot rows show the share of each row."""
    images, targets = jnp.eye(16).reshape(16, 4, 4, 1), jnp.eye(16)
    mixed, labels = mix(images, targets, KEYS, 0.4, whole_view(images))
    np.testing.assert_array_equal(mixed.reshape(16, 16), labels)
    np.testing.assert_allclose(labels.sum(-1), 1, atol=1e-6)
    share = jnp.diagonal(labels)
    np.testing.assert_allclose(jnp.diagonal(labels[:, ::-1]), 1 - share, atol=1e-6)
    split = lambda x: x.reshape(8, 2, *x.shape[1:])  # noqa: E731
    fn = lambda i, t, k: mix(i, t, k, 0.4, device_view(i))  # noqa: E731
    apart = jax.pmap(fn, AXIS)(split(images), split(targets), split(KEYS))
    np.testing.assert_allclose(apart[1].reshape(16, 16), labels, atol=1e-6)


def test_shares_of_mixup_are_beta_distributed():
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1))."""
    images, keys = jnp.zeros((4000, 1, 1, 1)), jax.random.split(jax.random.key(0), 4000)
    targets = jnp.stack([jnp.arange(4000) < 2000, jnp.arange(4000) >= 2000], -1) * 1.0  # row i meets row 3999 - i
    share = mix(images, targets, keys, 0.4, whole_view(images))[1][:2000, 0]
    np.testing.assert_allclose([share.mean(), share.var()], [0.5, 1 / 7.2], atol=0.02)


def loss_of(frozen=None, **sections):
    """(metrics, logits) of one step from the initial parameters."""
    config = experiment("classifier_digits")
    config.update(sections)
    task = make_task(config, SPEC, 10)
    batch = {"image": IMAGES, "label": LABELS}
    state = jax.jit(task.init)(jax.random.key(1), batch)
    step = jax.jit(lambda s, f, b: finish(*task.train_step(s, f, b, jax.random.key(4), whole_view(b))))
    _, metrics = step(state, frozen or {}, batch)
    logits = task.predict["classify"].fn(state.variables(), {}, batch, whole_view(batch))["logits"]
    return metrics, 1.0 * logits


def test_label_smoothing_moves_a_share_of_the_target_to_all_classes():
    metrics, logits = loss_of(model=PLAIN, loss={"label_smoothing": 0.2})
    log_q = jax.nn.log_softmax(logits)
    wanted = -0.8 * log_q[jnp.arange(16), LABELS] - 0.2 * log_q.mean(-1)
    np.testing.assert_allclose(metrics["loss"], wanted.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], np.mean(logits.argmax(-1) == LABELS))


@pytest.mark.parametrize("hard", [False, True])
def test_alpha_is_the_share_of_the_teacher_in_the_loss(hard):
    teacher_logits = 3 * jax.random.normal(jax.random.key(9), (16, 10))
    teacher = FrozenNetwork(teacher_logits, lambda name, variables, inputs, dist: {"logits": variables})
    distill = {"teacher": "w", "alpha": 0.3, "temperature": 2.0, "hard": hard}
    metrics, logits = loss_of({"teacher": teacher}, model=PLAIN, distill=distill)
    labels = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()
    q, p = jax.nn.log_softmax(logits / 2), jax.nn.log_softmax(teacher_logits / 2)
    soft = 4 * (jnp.exp(p) * (p - q)).sum(-1).mean()
    hard_loss = optax.softmax_cross_entropy_with_integer_labels(logits, teacher_logits.argmax(-1)).mean()
    np.testing.assert_allclose(metrics["loss"], 0.7 * labels + 0.3 * (hard_loss if hard else soft), rtol=1e-4)


def test_a_teachers_arrays_are_arguments_of_the_compiled_step():
    config = experiment("classifier_digits")
    config.distill = {"teacher": "w"}
    task = make_task(config, SPEC, 10)
    batch = {"image": IMAGES, "label": LABELS}
    state = jax.jit(task.init)(jax.random.key(1), batch)
    step = jax.jit(
        lambda s, f, b: finish(*task.train_step(s, f, b, jax.random.key(4), whole_view(b)))[1]["loss_teacher"]
    )
    teacher = FrozenNetwork(jnp.zeros((16, 10)), lambda name, variables, inputs, dist: {"logits": variables})
    losses = [
        step(state, {"teacher": teacher.replace(variables=x)}, batch) for x in (jnp.eye(16, 10), jnp.ones((16, 10)))
    ]
    assert abs(losses[0] - losses[1]) > 1e-3
    assert step._cache_size() == 1


def test_a_way_to_resize_positions_needs_positions_to_resize():
    values = {"model.resize_positions": "linear"}
    with pytest.raises(ConfigError, match=r"resize_positions=linear is about .* that config\.init_from brings"):
        make_task(experiment("vit_digits", **values), DataSpec((8, 8, 1), 10), 10)
    assert make_task(experiment("vit_digits", init_from="runs/x", **values), DataSpec((8, 8, 1), 10), 10)
    fixed = {"model.positions": "sincos", "init_from": "runs/x"}
    with pytest.raises(ConfigError, match="applies to positions=learned only"):
        make_task(experiment("vit_digits", **fixed, **values), DataSpec((8, 8, 1), 10), 10)


def test_the_default_network_is_a_convnet():
    config = experiment("classifier_digits")
    del config.model["name"]  # as in the work directories of runs that began before there was a choice
    task = make_task(config, SPEC, 10)
    assert set(task.init(jax.random.key(0), {"image": IMAGES}).params["classifier"]) >= {"conv_0", "hidden", "logits"}


@pytest.mark.parametrize(
    ("values", "spec", "words"),
    [
        ({"model.name": "vti"}, SPEC, r"config\.model\.name 'vti': did you mean 'vit'"),
        ({"model.dtype": "float31"}, SPEC, "float31"),
        ({"loss.mixup": -1.0}, SPEC, r"config\.loss: mixup"),
        ({"loss.label_smoothing": 1.0}, SPEC, "label_smoothing must be within"),
        ({"distill.alpha": 1.5}, SPEC, "alpha must be within"),
        ({"distill.temperature": 0.0}, SPEC, "temperature must be positive"),
        ({"model.pooling": "max"}, SPEC, r"config\.model: unknown pooling"),
        ({}, DataSpec((8, 8, 1), 0), "has no labels, which config.task=classifier needs"),
    ],
)
def test_wrong_settings_are_named(values, spec, words):
    with pytest.raises(ConfigError, match=words):
        make_task(experiment("vit_digits", **values), spec, 10)
