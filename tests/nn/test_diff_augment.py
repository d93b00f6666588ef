import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.nn.diff_augment import AUGMENTATIONS, augment

KEYS = jax.random.split(jax.random.key(0), 400)
IMAGES = jax.random.uniform(jax.random.key(1), (400, 16, 24, 3), minval=-1)


def changed(name, images=IMAGES):
    return np.asarray(jax.jit(lambda x, k: augment((name,), x, k))(images, KEYS))


def test_translation_moves_up_to_an_eighth_and_lets_zeros_in():
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (3, 3), (0, 0)))
    moves = {(a, b): padded[:, 2 - a : 18 - a, 3 - b : 27 - b] for a in range(-2, 3) for b in range(-3, 4)}
    moved, seen = changed("translation"), set()
    for row in range(400):
        (found,) = [move for move, images in moves.items() if np.array_equal(images[row], moved[row])]
        seen.add(found)
    assert seen == moves.keys()  # 400 draws of 35


def test_cutout_sets_half_of_each_side_to_zero_centred_anywhere():
    cut = changed("cutout") == 0
    assert (cut == cut[..., :1]).all()
    rows, columns = cut[..., 0].any(2), cut[..., 0].any(1)
    assert (cut[..., 0] == rows[:, :, None] & columns[:, None, :]).all()
    assert rows.sum(1).min() >= 4  # a centre on the edge leaves half of it
    assert rows.sum(1).max() == 8
    assert columns.sum(1).max() == 12
    assert cut.any((0, 3)).all()


def test_colours_shift_and_scale_about_means():
    shift = changed("colour").mean((1, 2, 3)) - np.asarray(IMAGES).mean((1, 2, 3))
    assert -0.5 <= shift.min() < -0.45
    assert 0.45 < shift.max() <= 0.5
    grey = jnp.broadcast_to(IMAGES.mean(-1, keepdims=True), IMAGES.shape)
    contrast = changed("colour", grey).std((1, 2, 3)) / np.asarray(grey).std((1, 2, 3))
    assert 0.499 < contrast.min() < 0.55
    assert 1.45 < contrast.max() < 1.501
    saturation = (changed("colour").std(-1) / np.asarray(IMAGES).std(-1)).mean((1, 2)) / contrast
    assert saturation.min() < 0.1
    assert 1.9 < saturation.max() < 2.01


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_example_is_changed_by_its_own_key_and_lets_gradients_through(name):
    np.testing.assert_allclose(changed(name)[3:5], augment((name,), IMAGES[3:5], KEYS[3:5]), atol=1e-6)
    weights = jax.random.normal(jax.random.key(2), IMAGES.shape)

    def weighed(x):
        return jnp.sum(augment((name,), x, KEYS) * weights)

    rest = jnp.sum(augment((name,), jnp.zeros_like(IMAGES), KEYS) * weights)  # each is affine
    slope = jax.grad(weighed)(jnp.zeros_like(IMAGES))
    np.testing.assert_allclose(jnp.sum(slope * IMAGES), weighed(IMAGES) - rest, rtol=1e-3)


def test_none_is_the_identity():
    np.testing.assert_array_equal(augment((), IMAGES, KEYS), IMAGES)
