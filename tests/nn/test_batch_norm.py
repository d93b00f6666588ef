import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.nn.batch_norm import COLLECTION, BatchNorm

X = 2 + 3 * jax.random.normal(jax.random.key(0), (16, 3, 5, 4))
LABELS = jnp.arange(16, dtype=jnp.int32) % 3
EPSILON = 1e-5


def alone(tree):
    return tree


def normalised(x):
    """By float64 statistics of all rows of a numpy array."""
    x = np.asarray(x, np.float64)
    return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + EPSILON)


def trained(norm, x, mean=alone, labels=None):
    variables = norm.init(jax.random.key(1), x, labels)
    return norm.apply(variables, x, labels, mean, mutable=[COLLECTION])


def on_eight_devices(norm):
    """Outputs of all rows, and the statistics of every device, where each device holds two rows."""

    def body(x):
        return trained(norm, x, lambda tree: jax.lax.pmean(tree, "d"))

    y, seen = jax.pmap(body, axis_name="d")(X.reshape(8, 2, *X.shape[1:]))
    return y.reshape(X.shape), seen[COLLECTION]


def test_the_group_is_the_batch_over_all_devices_by_default():
    y, seen = trained(BatchNorm(), X)
    np.testing.assert_allclose(y, normalised(X), atol=1e-5)
    np.testing.assert_allclose(seen[COLLECTION]["mean"], X.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(seen[COLLECTION]["variance"], X.var((0, 1, 2)), rtol=1e-5)
    spread, statistics = on_eight_devices(BatchNorm())
    np.testing.assert_allclose(spread, y, atol=1e-5)
    for name, value in seen[COLLECTION].items():
        np.testing.assert_allclose(statistics[name], np.broadcast_to(value, (8, 4)), rtol=1e-5)


def test_each_group_of_rows_is_normalised_separately_on_any_number_of_devices():
    y, seen = trained(BatchNorm(rows=2), X)
    pairs = np.asarray(X, np.float64).reshape(8, 2, 3, 5, 4)
    np.testing.assert_allclose(y, np.concatenate([normalised(pair) for pair in pairs]), atol=1e-5)
    np.testing.assert_allclose(seen[COLLECTION]["variance"], pairs.var((1, 2, 3)).mean(0), rtol=1e-5)
    spread, statistics = on_eight_devices(BatchNorm(rows=2))  # the rows of a device are a group
    np.testing.assert_allclose(spread, y, atol=1e-5)
    np.testing.assert_allclose(statistics["variance"], np.broadcast_to(pairs.var((1, 2, 3)).mean(0), (8, 4)), rtol=1e-5)
    assert np.abs(spread - trained(BatchNorm(), X)[0]).max() > 0.1


def test_gradients_pass_between_devices():
    weights = jax.random.normal(jax.random.key(2), X.shape)

    def body(x, w, mean):
        return jax.grad(lambda x: jnp.sum(trained(BatchNorm(), x, mean)[0] * w))(x)

    split = [a.reshape(8, 2, *a.shape[1:]) for a in (X, weights)]
    spread = jax.pmap(lambda x, w: body(x, w, lambda tree: jax.lax.pmean(tree, "d")), axis_name="d")(*split)
    np.testing.assert_allclose(spread.reshape(X.shape), body(X, weights, alone), atol=1e-5)


def test_evaluation_uses_the_stored_statistics():
    norm = BatchNorm()
    variables = norm.init(jax.random.key(1), X)
    given = {"mean": jnp.arange(4.0), "variance": jnp.full(4, 4 - EPSILON)}
    y = norm.apply(variables | {COLLECTION: given}, X)
    np.testing.assert_allclose(y, (X - jnp.arange(4.0)) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(norm.apply(variables | {COLLECTION: given}, X[3:4])[0], y[3])


def test_every_class_has_its_own_scale_and_shift():
    norm = BatchNorm(num_classes=3)
    variables = norm.init(jax.random.key(1), X, LABELS)
    scale, bias = jax.random.normal(jax.random.key(3), (2, 3, 4))
    params = {"params": {"scale": scale, "bias": bias}}
    y, _ = norm.apply(variables | params, X, LABELS, alone, mutable=[COLLECTION])
    for row, label in enumerate(LABELS):
        np.testing.assert_allclose(y[row], normalised(X)[row] * scale[label] + bias[label], atol=1e-4)


def test_statistics_of_bfloat16_are_float32():
    x = (100 + X).astype(jnp.bfloat16)
    y, seen = trained(BatchNorm(), x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(seen[COLLECTION]["variance"], x.astype(jnp.float32).var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize(
    ("norm", "labels", "words"),
    [
        (BatchNorm(num_classes=3), None, "labels=False"),
        (BatchNorm(), LABELS, "labels=True"),
        (BatchNorm(rows=3), None, "3 rows"),
    ],
)
def test_groups_and_labels_that_do_not_fit_are_refused(norm, labels, words):
    with pytest.raises(ValueError, match=words):
        norm.init(jax.random.key(0), X, labels, alone)
