import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genmodels.nn.transposed import DoublingConv, depth_to_space


def test_depth_to_space_is_the_inverse_of_cutting_into_squares():
    image = jnp.arange(2 * 6 * 4 * 3.0).reshape(2, 6, 4, 3)
    squares = image.reshape(2, 3, 2, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 3, 2, 12)
    np.testing.assert_array_equal(depth_to_space(squares), image)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7])
def test_outputs_and_gradients_equal_those_of_flax_conv_transpose(size):
    ours, theirs = DoublingConv(5, size), nn.ConvTranspose(5, (size, size), (2, 2))
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    variables = theirs.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), x)) == jax.tree.map(jnp.shape, variables)
    variables["params"]["bias"] += jnp.arange(5.0)

    def loss(model):
        return jax.jit(jax.value_and_grad(lambda v, x: jnp.sum(jnp.sin(model.apply(v, x))), (0, 1)))(variables, x)

    np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), atol=1e-5)
    for a, b in zip(*(jax.tree.leaves(loss(model)) for model in (ours, theirs)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
