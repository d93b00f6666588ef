import os
import time

import numpy as np
import pytest
import scipy.linalg

from genmodels.metrics.frechet import extrapolated, frechet_distance
from genmodels.metrics.moments import Gaussian, Moments


def features(seed, n, d):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def fitted(x):
    return Moments.of(x).gaussian()


def as_matrix(x):
    """The same statistics as a file would give them."""
    return Gaussian.given(x.mean(0), np.cov(x, rowvar=False), len(x))


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def commuting(a, b, shift=0.0, seed=0):
    """Two Gaussians with covariances of eigenvalues a and b in common axes, and their distance in closed form."""
    q = rotation(len(a), seed)
    mean = np.linspace(-1, 1, len(a))
    one, other = Gaussian.given(mean, (q * a) @ q.T), Gaussian.given(mean + shift, (q * b) @ q.T)
    return one, other, len(a) * shift**2 + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 12), (60, 4000, 30), (9, 9, 8)])
def test_full_rank_equals_the_definition_by_scipys_matrix_root(n, m, d):
    a, b = features(0, n, d), features(1, m, d)
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.trace(scipy.linalg.sqrtm(s1 @ s2)).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s1 + s2) - 2 * root
    np.testing.assert_allclose(frechet_distance(fitted(a), fitted(b)).value, expected, rtol=1e-8)
    np.testing.assert_allclose(frechet_distance(as_matrix(a), as_matrix(b)).value, expected, rtol=1e-8)


def test_one_dimension_in_closed_form():
    a, b = np.array([[0.0], [2.0]]), np.array([[1.0], [7.0]])  # means 1, 4; variances 2, 18
    expected = 9 + (np.sqrt(18) - np.sqrt(2)) ** 2
    np.testing.assert_allclose(frechet_distance(fitted(a), fitted(b)).value, expected, rtol=1e-12)


def test_diagonal_covariances_in_closed_form():
    a, b = np.array([1.0, 4.0, 9.0]), np.array([16.0, 1.0, 0.25])
    one, other = Gaussian.given(np.zeros(3), np.diag(a)), Gaussian.given(np.array([1.0, 2.0, 2.0]), np.diag(b))
    assert frechet_distance(one, other).value == pytest.approx(9 + 3**2 + 1**2 + 2.5**2, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(9, 12), (2, 40), (12, 500), (500, 12), (40, 9)])
def test_fewer_rows_than_dimensions_equals_the_nuclear_norm_in_sample_space(n, m):
    a, b = features(0, n, 40), features(1, m, 40)
    ca, cb = (a - a.mean(0)) / np.sqrt(n - 1), (b - b.mean(0)) / np.sqrt(m - 1)
    nuclear = np.linalg.norm(ca @ cb.T, "nuc")
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + (ca**2).sum() + (cb**2).sum() - 2 * nuclear
    for one in (fitted(a), as_matrix(a)):
        for other in (fitted(b), as_matrix(b)):
            np.testing.assert_allclose(frechet_distance(one, other).value, expected, rtol=1e-6)


@pytest.mark.parametrize("n", [2, 9, 40, 41, 60, 1000])
def test_a_set_is_at_distance_zero_from_itself(n):
    x = features(0, n, 40)
    for one in (fitted(x), as_matrix(x)):
        for other in (fitted(np.flip(x, 0)), as_matrix(x)):
            assert 0 <= frechet_distance(one, other).value < 1e-8


SMALL = np.logspace(0, -14, 30)


@pytest.mark.parametrize(
    "other", [SMALL, 4 * SMALL, np.ones(30), np.linspace(2, 1, 30)], ids=["same", "4", "1", "line"]
)
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_ill_conditioned_covariances_are_solved_by_the_exact_method(other, shift):
    a, b, expected = commuting(SMALL, other, shift)
    distance = frechet_distance(a, b)
    np.testing.assert_allclose(distance.value, expected, rtol=1e-9, atol=1e-9)
    assert "SVD" in distance.solver


@pytest.mark.parametrize("zeros", [1, 6, 15])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_singular_covariances_are_right(zeros, scale):
    a, b = np.linspace(1, 3, 16) * scale, np.linspace(2, 1, 16) * scale
    a[:zeros] = 0
    one, other, expected = commuting(a, b)
    for distance in (frechet_distance(one, other), frechet_distance(other, one)):
        np.testing.assert_allclose(distance.value, expected, rtol=1e-6)
    constant = Gaussian.given(other.mean + 1, np.zeros((16, 16)))  # a generator that makes one image
    np.testing.assert_allclose(frechet_distance(constant, other).value, 16 + b.sum(), rtol=1e-9)
    assert frechet_distance(constant, constant).value == 0


def test_copied_dimensions_leave_no_rounding_error_in_the_root():
    fours = np.kron(np.eye(16), np.full((4, 4), 4.0))  # eigenvalues 16, of 48 copies 0; its Cholesky meets an exact 0
    distance = frechet_distance(Gaussian.given(np.zeros(64), fours), Gaussian.given(np.zeros(64), 9 * np.eye(64)))
    np.testing.assert_allclose(distance.value, 16 * (4 - 3) ** 2 + 48 * 9, rtol=1e-10)


def test_a_constant_dimension_needs_eigenvectors_and_changes_nothing():
    x, y = features(0, 100, 5), features(1, 80, 5)
    dead = [np.insert(z, 2, 7.0, axis=1) for z in (x, y)]
    distance = frechet_distance(fitted(dead[0]), fitted(dead[1]))
    np.testing.assert_allclose(distance.value, frechet_distance(fitted(x), fitted(y)).value, rtol=1e-9)
    assert "eigenvectors" in distance.solver


@pytest.mark.parametrize(("n", "m"), [(50, 60), (6, 60), (6, 9)])
def test_the_distance_is_symmetric_and_invariant_to_a_common_rotation_and_shift(n, m):
    x, y = features(0, n, 12), features(1, m, 12)
    value = frechet_distance(fitted(x), fitted(y)).value
    q, shift = rotation(12), np.arange(12.0)
    np.testing.assert_allclose(frechet_distance(fitted(y), fitted(x)).value, value, rtol=1e-9)
    np.testing.assert_allclose(frechet_distance(fitted(x @ q + shift), fitted(y @ q + shift)).value, value, rtol=1e-9)
    np.testing.assert_allclose(frechet_distance(fitted(3 * x), fitted(3 * y)).value, 9 * value, rtol=1e-9)


@pytest.mark.parametrize("size", [1e-9, 1e-6, 1e-3])
def test_the_distance_is_never_negative(size):
    rng = np.random.default_rng(0)
    for n in (5, 30, 200):
        x = features(0, n, 20)
        for _ in range(10):
            assert frechet_distance(fitted(x), fitted(x + size * rng.normal(size=x.shape))).value >= 0


def test_the_solver_states_its_factors_and_its_method():
    rows, full = fitted(features(0, 8, 12)), fitted(features(1, 400, 12))
    singular = Gaussian.given(np.zeros(12), np.diag(np.arange(12.0)))
    solvers = [frechet_distance(a, b).solver for a, b in [(full, full), (rows, full), (rows, singular), (rows, rows)]]
    for solver, parts in zip(
        solvers, ["Cholesky,", "rows and Cholesky,", "rows and eigenvectors,", "rows,"], strict=True
    ):
        assert f"factors by {parts}" in solver
        assert "float64" in solver
    assert "eigenvalues" in solvers[0]


def test_different_dimensions_are_refused():
    with pytest.raises(ValueError, match="3 and of 4 dimensions"):
        frechet_distance(fitted(features(0, 9, 3)), fitted(features(0, 9, 4)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spread", [1.0, 1.2])
def test_the_extrapolation_is_closer_to_the_truth_than_the_distance_of_all_samples(spread, seed):
    d = 48
    x = spread * np.random.default_rng(seed).normal(size=(1000, d))
    truth = d * (spread - 1) ** 2
    reference = Gaussian.given(np.zeros(d), np.eye(d))
    done = []
    found = extrapolated(x, reference, seed, 200, done.append)
    every = frechet_distance(fitted(x), reference).value
    assert abs(found.value - truth) < 0.5 * abs(every - truth)
    assert found.distances[-1] == pytest.approx(every, rel=1e-9)
    assert (found.sizes[0], found.sizes[-1], len(found.sizes)) == (200, 1000, len(found.distances))
    assert sum(done) == len(found.sizes)
    assert found == extrapolated(x, reference, seed, 200) != extrapolated(x, reference, seed + 1, 200)
    # the line's value at 0 is what numpy's least squares finds
    slope, intercept = np.polyfit(1 / np.array(found.sizes), found.distances, 1)
    assert slope > 0
    assert found.value == pytest.approx(intercept, rel=1e-6)


@pytest.mark.parametrize(("n", "least"), [(20, 20), (20, 21), (20, 1)])
def test_the_extrapolation_refuses_too_few_images(n, least):
    x = features(0, n, 3)
    with pytest.raises(ValueError, match=f"more than {least} images, got {n}"):
        extrapolated(x, fitted(x), 0, least)


@pytest.mark.slow
@pytest.mark.alone
def test_2048_dimensions_take_at_most_two_seconds():
    rng = np.random.default_rng(0)
    a, b, expected = commuting(rng.uniform(0.5, 2, 2048), rng.uniform(0.5, 2, 2048), 0.1)
    load, times = os.getloadavg()[0], []
    for _ in range(3):
        start = time.perf_counter()
        distance = frechet_distance(a, b)
        times.append(time.perf_counter() - start)
    np.testing.assert_allclose(distance.value, expected, rtol=1e-8)
    assert "Cholesky, eigenvalues" in distance.solver
    if min(times) > 2 and load > 1.5:
        pytest.skip(f"{min(times):.2f} s, but others were at work (load {load:.1f})")
    assert min(times) <= 2
