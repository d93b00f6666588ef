import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.metrics.lpips import distance, scaled


def maps(seed, batch=2):
    sizes = [(5, 4, 3), (2, 2, 6)]
    return [jax.random.normal(jax.random.key(seed + i), (batch, *size)) for i, size in enumerate(sizes)]


WEIGHTS = [jnp.array([0.5, 1.0, 2.0]), jnp.arange(6.0)]


def test_one_tap_of_one_pixel_equals_a_calculation_by_hand():
    a, b = jnp.array([3.0, 4.0]).reshape(1, 1, 1, 2), jnp.array([5.0, 0.0]).reshape(1, 1, 1, 2)
    # of unit length: (0.6, 0.8) and (1, 0)
    np.testing.assert_allclose(distance([a], [b], [jnp.array([2.0, 10.0])]), 2 * 0.4**2 + 10 * 0.8**2, rtol=1e-6)


def test_pixels_are_averaged_and_taps_are_summed():
    expected = np.zeros(2)
    for a, b, w in zip(maps(0), maps(7), WEIGHTS, strict=True):
        for i in np.ndindex(a.shape[:3]):
            x, y = np.asarray(a[i], np.float64), np.asarray(b[i], np.float64)
            difference = x / np.linalg.norm(x) - y / np.linalg.norm(y)
            expected[i[0]] += np.sum(np.asarray(w) * difference**2) / (a.shape[1] * a.shape[2])
    np.testing.assert_allclose(distance(maps(0), maps(7), WEIGHTS), expected, rtol=1e-5)


def test_the_distance_is_zero_for_equal_maps_symmetric_and_independent_of_scale():
    a, b = maps(0), maps(7)
    np.testing.assert_array_equal(distance(a, a, WEIGHTS), 0)
    np.testing.assert_allclose(distance(a, b, WEIGHTS), distance(b, a, WEIGHTS), rtol=1e-6)
    np.testing.assert_allclose(distance([3 * x for x in a], b, WEIGHTS), distance(a, b, WEIGHTS), rtol=1e-5)


def test_a_pixel_whose_channels_are_all_zero_has_the_direction_zero():
    a, b = jnp.zeros((1, 1, 1, 2)), jnp.array([0.0, 7.0]).reshape(1, 1, 1, 2)
    np.testing.assert_allclose(distance([a, a], [a, b], [jnp.ones(2)] * 2), 1, rtol=1e-6)


def test_taps_without_weights_are_refused():
    with pytest.raises(ValueError, match=r"zip\(\)"):
        distance(maps(0), maps(7), WEIGHTS[:1])


def test_images_are_scaled_as_the_trunks_were_trained():
    # ImageNet's mean and deviation of images in [0, 1]
    x = np.random.default_rng(0).uniform(size=(1, 4, 4, 3)).astype(np.float32)
    expected = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(scaled(jnp.asarray(2 * x - 1)), expected, atol=1e-5)
