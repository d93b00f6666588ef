import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genmodels.nn.embeddings import sinusoidal_embedding
from genmodels.nn.norms import GroupNorm, num_groups
from genmodels.nn.stochastic import Dropout


class Two(nn.Module):
    @nn.compact
    def __call__(self, x, keys):
        return Dropout(0.25, name="first")(x, keys), Dropout(0.25, name="second")(x, keys)


def test_dropout_keeps_the_mean_and_its_mask_depends_on_example_and_layer_only():
    x = jnp.ones((8, 5000))
    keys = jax.random.split(jax.random.key(0), 8)
    first, second = Two().apply({}, x, keys)
    assert set(np.unique(first).tolist()) == {0.0, float(np.float32(1) / np.float32(0.75))}
    assert abs(float(first.mean()) - 1) < 0.02
    assert (first != second).any()
    np.testing.assert_array_equal(Two().apply({}, x[3:5], keys[3:5])[0], first[3:5])
    np.testing.assert_array_equal(Two().apply({}, x, None)[0], x)


def test_a_sinusoidal_embedding_equals_a_calculation_by_hand():
    embedding = sinusoidal_embedding(jnp.array([0, 10]), 4)
    np.testing.assert_allclose(embedding[0], [0, 0, 1, 1], atol=1e-7)
    np.testing.assert_allclose(embedding[1], [np.sin(10), np.sin(1e-3), np.cos(10), np.cos(1e-3)], atol=1e-6)


def test_wide_networks_have_the_groups_of_ddpm_and_no_network_has_instance_norms():
    assert [num_groups(n) for n in (128, 256, 384)] == [32, 32, 32]
    for channels in range(1, 200):
        groups = num_groups(channels)
        assert channels % groups == 0
        assert groups == 1 or (channels // groups >= 4 and groups <= 32)


def test_group_norm_normalises_each_group_and_lets_channel_offsets_through():
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 8)) * 5 + 2
    norm = GroupNorm()
    variables = norm.init(jax.random.key(1), x)
    groups = np.asarray(norm.apply(variables, x)).reshape(2, 9, 2, 4)
    np.testing.assert_allclose(groups.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(groups.std((1, 3)), 1, atol=1e-4)
    moved = norm.apply(variables, x + jnp.arange(8.0))
    assert np.abs(moved - norm.apply(variables, x)).max() > 0.1
