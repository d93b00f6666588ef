import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.nn.interpolation import KINDS, interpolate

FRAMES = 5
A, B = jax.random.normal(jax.random.key(0), (2, 6, 16))


@pytest.mark.parametrize("kind", KINDS)
def test_paths_begin_at_one_latent_and_end_at_the_other(kind):
    path = interpolate(kind, A, B, FRAMES)
    assert path.shape == (6, 5, 16)
    np.testing.assert_allclose(path[:, 0], A, atol=1e-6)
    np.testing.assert_allclose(path[:, -1], B, atol=1e-6)


def test_the_spherical_path_is_an_arc_with_constant_speed():
    a, b = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (A, B))
    path = interpolate("spherical", a, b, FRAMES)
    np.testing.assert_allclose(jnp.linalg.norm(path, axis=-1), 1, rtol=1e-5)
    steps = jnp.arccos(jnp.sum(path[:, 1:] * path[:, :-1], axis=-1))
    np.testing.assert_allclose(steps, jnp.arccos(jnp.sum(a * b, axis=-1))[:, None] / 4 + jnp.zeros(4), rtol=1e-4)


def test_the_linear_path_is_straight():
    np.testing.assert_allclose(interpolate("linear", A, B, FRAMES)[:, 2], (A + B) / 2, rtol=1e-5)


@pytest.mark.parametrize("other", [A, 2 * A, 0 * A])
def test_parallel_latents_and_zero_have_a_finite_path(other):
    np.testing.assert_allclose(
        interpolate("spherical", A, other, FRAMES), interpolate("linear", A, other, FRAMES), rtol=1e-4, atol=1e-4
    )


def test_an_unknown_kind_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ValueError, match="linear, spherical"):
        interpolate("round", A, B, FRAMES)


@pytest.mark.parametrize("frames", [1, 0, -3])
def test_a_path_of_fewer_than_two_frames_is_refused(frames):
    with pytest.raises(ValueError, match="at least 2"):
        interpolate("linear", A, B, frames)
