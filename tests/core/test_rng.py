import jax
import jax.numpy as jnp
import numpy as np

from genmodels.core.rng import fold

KEYS = jax.random.split(jax.random.key(0), 3)


def bits(keys):
    return np.asarray(jax.random.key_data(keys))


def test_every_key_is_folded_with_the_same_number():
    for i in range(3):
        np.testing.assert_array_equal(bits(fold(KEYS, 7))[i], bits(jax.random.fold_in(KEYS[i], 7)))


def test_one_key_is_folded_with_every_number():
    for i in range(4):
        np.testing.assert_array_equal(bits(fold(KEYS[0], jnp.arange(4)))[i], bits(jax.random.fold_in(KEYS[0], i)))


def test_keys_and_numbers_broadcast_against_each_other():
    folded = fold(KEYS[:, None], jnp.arange(2))
    assert folded.shape == (3, 2)
    np.testing.assert_array_equal(bits(folded)[2, 1], bits(jax.random.fold_in(KEYS[2], 1)))
    assert len(np.unique(bits(folded).reshape(6, -1), axis=0)) == 6
