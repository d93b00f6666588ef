import jax
import jax.numpy as jnp
import numpy as np

from genmodels.models.convnet import ConvNet


def test_layers_have_the_stated_sizes_and_dropout_needs_keys():
    model = ConvNet(num_classes=10, dropout=0.5)
    x = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    variables = jax.jit(model.init)(jax.random.key(1), x)
    # 3x3 convolutions 1-24-48-48, two of them halving 8x8 to 2x2, then 192-64-10, all with biases.
    sizes = [9 * 24 + 24, 9 * 24 * 48 + 48, 9 * 48 * 48 + 48, 192 * 64 + 64, 64 * 10 + 10]
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == sum(sizes)
    logits, features = model.apply(variables, x)
    last = variables["params"]["logits"]
    np.testing.assert_allclose(logits, features @ last["kernel"] + last["bias"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(logits, model.apply(variables, x)[0])
    keys = jax.random.split(jax.random.key(2), 3)
    dropped = model.apply(variables, x, keys)[0]
    assert np.abs(dropped - logits).max() > 1e-3
    alone = model.apply(variables, x[2:], keys[2:])[0]
    np.testing.assert_allclose(alone[0], dropped[2], rtol=1e-4, atol=1e-5)
    assert jnp.shape(features) == (3, 64)
