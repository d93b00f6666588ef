import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.models.unet import UNet
from tests.helpers import random_variables

NARROW = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_resolutions": (4,)}


def shapes(model, size, channels, labels=False):
    x, t = jnp.zeros((2, *size, channels)), jnp.zeros(2, jnp.int32)
    return jax.eval_shape(lambda key: model.init_with_output(key, x, t, t if labels else None), jax.random.key(0))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_the_cifar10_network_of_ddpm_has_its_published_size():
    output, variables = shapes(UNet(out_channels=3), (32, 32), 3)
    assert count(variables) == 35_746_307
    assert output.shape == (2, 32, 32, 3)


@pytest.mark.parametrize("size", [(9, 9), (7, 10), (8, 5), (1, 3)])
def test_odd_sizes_keep_their_size(size):
    output, _ = shapes(UNet(1, **(NARROW | {"multipliers": (1, 2, 2)})), size, 1)
    assert output.shape == (2, *size, 1)


@pytest.mark.parametrize("options", [{}, {"scale_shift": True, "heads": 2}, {"attention_resolutions": ()}])
def test_bfloat16_keeps_parameters_and_output_in_float32_and_agrees(options):
    settings = NARROW | options
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    t = jnp.array([3, 900])
    full, half = UNet(1, **settings), UNet(1, dtype=jnp.bfloat16, **settings)
    variables = random_variables(half.init, x, t)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    a, b = jax.jit(full.apply)(variables, x, t), jax.jit(half.apply)(variables, x, t)
    assert b.dtype == jnp.float32
    assert (b != b.astype(jnp.bfloat16)).any()  # not merely cast at the end
    assert 0 < np.abs(a - b).max() < 0.05 * np.abs(a).max()


def test_a_new_network_predicts_zero_and_with_other_weights_depends_on_label_and_time():
    model = UNet(1, num_classes=3, **NARROW)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    t = jnp.array([5, 5])
    variables = jax.jit(model.init)(jax.random.key(1), x, t, jnp.array([0, 1]))
    apply = jax.jit(model.apply)
    np.testing.assert_array_equal(apply(variables, x, t, jnp.array([0, 1])), 0)
    moved = random_variables(model.init, x, t, jnp.array([0, 1]))
    base = apply(moved, x, t, jnp.array([0, 1]))
    assert np.abs(base - apply(moved, x, t, jnp.array([3, 1])))[0].max() > 1e-4
    assert np.abs(base - apply(moved, x, t + 50, jnp.array([0, 1]))).max() > 1e-4


def test_labels_must_match_the_network():
    x, t = jnp.zeros((1, 8, 8, 1)), jnp.zeros(1, jnp.int32)
    with pytest.raises(ValueError, match="num_classes=0"):
        UNet(1, **NARROW).init(jax.random.key(0), x, t, t)
    with pytest.raises(ValueError, match="num_classes=2"):
        UNet(1, num_classes=2, **NARROW).init(jax.random.key(0), x, t)


@pytest.mark.parametrize("options", [{"heads": 3}, {"attention": "flash"}])
def test_bad_attention_is_refused(options):
    with pytest.raises(ValueError, match=r"heads|attention"):
        shapes(UNet(1, **(NARROW | options)), (8, 8), 1)
