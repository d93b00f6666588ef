import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import erf

from genmodels.nn.attention import attend
from genmodels.nn.stochastic import StochasticDepth
from genmodels.nn.transformer import EncoderBlock, Mlp, depth_rates

X = jax.random.normal(jax.random.key(0), (3, 5, 8))
KEYS = jax.random.split(jax.random.key(7), 3)


def test_attention_equals_a_calculation_by_hand():
    q, k, v = (np.asarray(jax.random.normal(jax.random.key(i), (2, 5, 8)), np.float64) for i in range(3))
    found = attend(*map(jnp.float32, (q, k, v)), 2, "xla")
    for head in (slice(0, 4), slice(4, 8)):
        scores = np.exp(q[..., head] @ k[..., head].transpose(0, 2, 1) / 2)
        wanted = scores / scores.sum(-1, keepdims=True) @ v[..., head]
        np.testing.assert_allclose(found[..., head], wanted, atol=1e-5)


def test_gelu_is_exact_and_not_the_tanh_approximation():
    mlp = Mlp(8, 0.0, jnp.float32)
    eye = {"kernel": jnp.eye(8), "bias": jnp.zeros(8)}
    found = mlp.apply({"params": {"in": eye, "out": eye}}, X, None)
    np.testing.assert_allclose(found, X * (1 + erf(np.asarray(X) / np.sqrt(2))) / 2, atol=1e-6)


def test_a_block_is_pre_norm_and_equivariant_to_the_order_of_tokens():
    block = EncoderBlock(2, 16)
    variables = block.init(jax.random.key(1), X)
    out = block.apply(variables, X)
    np.testing.assert_allclose(block.apply(variables, X[:, ::-1])[:, ::-1], out, atol=1e-5)
    # Norms stand in front of the branches, which so do not see an offset that all entries share; the sum keeps it.
    np.testing.assert_allclose(block.apply(variables, X + 5) - (X + 5), out - X, atol=1e-4)


def test_stochastic_depth_drops_full_branches_and_keeps_the_mean():
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, keys):
            return StochasticDepth(0.25, name="first")(x, keys), StochasticDepth(0.25, name="second")(x, keys)

    x, keys = jnp.ones((4000, 2, 3)), jax.random.split(jax.random.key(0), 4000)
    first, second = Layer().apply({}, x, keys)
    np.testing.assert_array_equal(first, np.broadcast_to(first[:, :1, :1], first.shape))
    assert set(np.unique(first).tolist()) == {0.0, float(np.float32(1) / np.float32(0.75))}
    assert abs(float(first.mean()) - 1) < 0.03
    assert (first != second).any()
    np.testing.assert_array_equal(Layer().apply({}, x[7:9], keys[7:9])[0], first[7:9])
    np.testing.assert_array_equal(Layer().apply({}, x, None)[0], x)


def test_a_dropped_branch_leaves_the_example_unchanged():
    block = EncoderBlock(2, 16, stochastic_depth=0.999)
    variables = block.init(jax.random.key(1), X)
    np.testing.assert_array_equal(block.apply(variables, X, KEYS), X)
    assert np.abs(block.apply(variables, X) - X).max() > 0.1


def test_depth_rates_rise_linearly_from_zero():
    np.testing.assert_allclose(depth_rates(0.3, 4), [0, 0.1, 0.2, 0.3])
    assert depth_rates(0.3, 1) == (0.0,)
