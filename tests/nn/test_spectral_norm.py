import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.nn import spectral_norm

KEYS = jax.random.split(jax.random.key(0), 4)
PARAMS = {
    "conv": {"kernel": jax.random.normal(KEYS[0], (3, 3, 4, 6)), "bias": jnp.ones(6)},
    "head": {
        "score": {"kernel": jax.random.normal(KEYS[1], (20, 1))},
        "label": {"embedding": jax.random.normal(KEYS[2], (10, 20))},
    },
}
PATHS = {"conv/kernel", "head/score/kernel", "head/label/embedding"}


def largest(kernel):
    return np.linalg.svd(np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]), compute_uv=False)[0]


def converged(params, times=200):
    vectors = spectral_norm.init(KEYS[3], params)
    for _ in range(times):
        vectors = spectral_norm.update(params, vectors)
    return vectors


def test_every_normalised_kernel_and_embedding_has_the_largest_singular_value_one():
    vectors = converged(PARAMS)
    assert vectors.keys() == PATHS
    normal = spectral_norm.normalized(PARAMS, vectors)
    np.testing.assert_allclose(
        spectral_norm.sigma(PARAMS["conv"]["kernel"], vectors["conv/kernel"]),
        largest(PARAMS["conv"]["kernel"]),
        rtol=1e-4,
    )
    for kernel in (normal["conv"]["kernel"], normal["head"]["score"]["kernel"], normal["head"]["label"]["embedding"]):
        np.testing.assert_allclose(largest(kernel), 1, rtol=1e-4)
    np.testing.assert_array_equal(normal["conv"]["bias"], 1)


def test_initial_estimates_are_close_and_iterations_approach_sigma_from_below():
    kernel, vectors = PARAMS["conv"]["kernel"], spectral_norm.init(KEYS[3], PARAMS)
    u, found = vectors["conv/kernel"], []
    for _ in range(10):
        found.append(float(spectral_norm.sigma(kernel, u)))
        u = spectral_norm.power_iteration(kernel, u)
    assert 0.9 * largest(kernel) < found[0]
    assert all(a <= b * (1 + 1e-6) for a, b in itertools.pairwise(found))
    assert found[-1] <= largest(kernel) * (1 + 1e-6)


def test_the_gradient_of_sigma_is_the_outer_product_of_its_singular_vectors():
    kernel = PARAMS["conv"]["kernel"]
    gradient = jax.grad(spectral_norm.sigma)(kernel, converged(PARAMS)["conv/kernel"])
    left, _, right = np.linalg.svd(np.asarray(kernel, np.float64).reshape(-1, 6), full_matrices=False)
    np.testing.assert_allclose(gradient.reshape(-1, 6), np.outer(left[:, 0], right[0]), atol=1e-3)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_scale_of_a_kernel_makes_no_difference(factor):
    scaled = jax.tree.map(lambda x: x * factor, PARAMS)
    vectors = spectral_norm.init(KEYS[3], PARAMS)
    a, b = (spectral_norm.normalized(p, vectors)["conv"]["kernel"] for p in (PARAMS, scaled))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
