import os
import time

import numpy as np
import pytest

from genmodels.metrics.moments import Gaussian, Moments, merged

D = 8


def rows(n, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, D)) @ rng.normal(size=(D, D)) + rng.normal(size=D)).astype(dtype)


def cut(x, rng):
    """Batches of 0 to 5 rows."""
    ends = np.cumsum(rng.integers(0, 6, 2 * len(x)))
    return np.split(x, ends[ends < len(x)])


def in_pairs(parts):
    while len(parts) > 1:
        parts = [merged(parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return parts[0]


def assert_fits(gaussian, x, offset=0.0):
    """Against numpy's of one pass, on rows from which the offset was taken first: there nothing cancels."""
    covariance = np.cov(x - offset, rowvar=False)
    scale = np.abs(covariance).max()
    np.testing.assert_allclose(gaussian.full(), covariance, rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(gaussian.mean - offset, (x - offset).mean(0), rtol=0, atol=1e-9 * np.sqrt(scale))
    assert gaussian.count == len(x)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("n", [2, D - 1, D, D + 1, 50])
@pytest.mark.parametrize("join", [merged, in_pairs])
def test_any_grouping_in_any_order_equals_one_pass(join, n, offset):
    rng = np.random.default_rng(n)
    x = rows(n) + offset
    assert_fits(Moments.of(x).gaussian(), x, offset)
    for _ in range(10):
        batches = [x[:0], *cut(rng.permutation(x), rng)]
        assert_fits(join([Moments.of(batch) for batch in batches]).gaussian(), x, offset)


@pytest.mark.parametrize(("first", "second"), [(3, 40), (40, 3), (D, 1), (1, D), (30, 40)])
def test_parts_merge_on_both_sides_of_the_switch_to_the_scatter(first, second):
    x = rows(first + second)
    assert_fits(Moments.of(x[:first]).merge(Moments.of(x[first:])).gaussian(), x)


@pytest.mark.parametrize("n", [0, 1, D - 1, D, D + 1, 3 * D])
def test_the_rows_or_the_scatter_are_kept_whichever_is_smaller(n):
    x = rows(n)
    for moments in (Moments.of(x), merged([Moments.of(x[:0]), *(Moments.of(row) for row in x[:, None])])):
        assert moments.kept.shape == (min(n, D), D)
        expected = x if n <= D else np.cov(x, rowvar=False) * (n - 1)
        np.testing.assert_allclose(moments.kept, expected, rtol=1e-10, atol=1e-10)
        assert moments.keeps_rows == (n <= D)


def test_kept_rows_are_a_factor_and_a_scatter_is_a_covariance():
    few, many = Moments.of(rows(D)).gaussian(), Moments.of(rows(D + 1)).gaussian()
    assert few.factored
    assert not many.factored
    np.testing.assert_allclose(few.matrix.T @ few.matrix, np.cov(rows(D), rowvar=False), rtol=1e-10)
    np.testing.assert_allclose(many.matrix, np.cov(rows(D + 1), rowvar=False), rtol=1e-10)


@pytest.mark.parametrize("n", [5, 20])
def test_padding_does_not_count(n):
    x = rows(n)
    padded = np.full((n + 3, D), np.nan)
    mask = np.ones(n + 3, bool)
    mask[[0, 4, n + 2]] = False
    padded[mask] = x
    assert_fits(Moments.of(padded, mask).gaussian(), x)
    nothing = Moments.of(padded, np.zeros(n + 3, bool))
    assert nothing.count == 0
    assert_fits(merged([nothing, Moments.of(x), nothing]).gaussian(), x)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("n", [D - 2, 500])
def test_narrow_features_are_summed_in_float64(n, dtype):
    x = rows(n, dtype) + dtype(100)
    merged_batches = merged(Moments.of(batch) for batch in np.array_split(x, 4))
    for moments in (Moments.of(x), merged_batches):
        assert_fits(moments.gaussian(), x.astype(np.float64), 100.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [5, 20])
def test_a_feature_that_is_not_finite_is_refused_and_its_image_is_named(n, value):
    x = rows(n)
    x[3, -1] = x[4, 0] = value
    with pytest.raises(ValueError, match=rf"2 of {n} images are not finite, first of image 3"):
        Moments.of(x)


def test_different_dimensions_and_missing_features_are_refused():
    with pytest.raises(ValueError, match="3 and of 4 dimensions"):
        Moments.of(np.ones((2, 3))).merge(Moments.of(np.ones((2, 4))))
    with pytest.raises(ValueError, match=r"\[N, d\]"):
        Moments.of(np.ones((2, 0)))


@pytest.mark.parametrize("n", [0, 1])
def test_a_covariance_needs_two_rows(n):
    with pytest.raises(ValueError, match=f"at least two images, got {n}"):
        Moments.of(rows(n)).gaussian()


def test_given_statistics_are_kept_and_made_symmetric():
    skewed = np.array([[2.0, 1.0], [1.000001, 3.0]], np.float32)
    gaussian = Gaussian.given(np.array([1.0, 2.0], np.float32), skewed, 10)
    np.testing.assert_array_equal(gaussian.full(), gaussian.full().T)
    np.testing.assert_allclose(gaussian.full(), skewed, rtol=1e-6)
    np.testing.assert_array_equal(gaussian.mean, [1, 2])
    assert gaussian.count == 10


@pytest.mark.parametrize(
    ("mean", "covariance", "why"),
    [
        (np.zeros(3), np.eye(3)[:, :2], r"\[d, d\]"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.4, 1.0]]), "symmetric"),
        (np.zeros(2), np.array([[1.0, np.nan], [np.nan, 1.0]]), "finite"),
        (np.array([0.0, np.inf]), np.eye(2), "finite"),
        (np.zeros(2), np.eye(2) + 0j, "real numbers, got complex128"),
        (np.zeros(2, complex), np.eye(2), "mean must be real"),
        (np.zeros(2), np.eye(2, dtype=bool), "real numbers"),
        (np.array(["a", "b"]), np.eye(2), "real numbers"),
        (np.zeros(0), np.zeros((0, 0)), r"\[d, d\]"),
        (np.zeros((1, 2)), np.eye(2), r"\[d, d\]"),
        (np.zeros(3), np.eye(2), r"\[d, d\]"),
        (np.array(0.0), np.array(1.0), r"\[d, d\]"),
        (np.zeros(2), -np.eye(2), "negative eigenvalues down to -1, with the largest at -1"),
        (np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]]), "down to -1, with the largest at 3"),
        (np.zeros(3), np.diag([1.0, 1.0, -1e-5]), "negative eigenvalues"),
        (np.zeros(3), np.diag([0.0, 0.0, -1e-300]), "negative eigenvalues"),
    ],
)
def test_invalid_statistics_are_refused(mean, covariance, why):
    with pytest.raises(ValueError, match=why):
        Gaussian.given(mean, covariance)


def with_eigenvalues(values, seed=0):
    """A symmetric matrix with these eigenvalues."""
    axes = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))[0]
    matrix = (axes * values) @ axes.T
    return (matrix + matrix.T) / 2


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("d", [4, 64, 300])
def test_negative_eigenvalues_are_refused_beyond_what_rounding_to_float32_explains(d, scale):
    allowed = np.sqrt(d) * 2.0**-23
    values = np.linspace(0, 1, d)
    for least, fits in ((0, True), (-1e-16, True), (-allowed / 2, True), (-2 * allowed, False), (-1e-3, False)):
        values[0] = least
        covariance = scale * with_eigenvalues(values)
        if fits:
            np.testing.assert_array_equal(Gaussian.given(np.zeros(d), covariance).matrix, covariance)
        else:
            with pytest.raises(ValueError, match="negative eigenvalues"):
                Gaussian.given(np.zeros(d), covariance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [2, 40, 299, 301, 2000])
def test_covariances_of_features_are_accepted_in_either_precision(n, dtype):
    """As tools compute them: of fewer images than dimensions too, where half of the eigenvalues may round below 0."""
    rng = np.random.default_rng(n)
    x = (np.exp(-np.arange(300) / 50) * rng.normal(size=(n, 300)) + 0.4).astype(dtype)
    x[:, 7] = 0  # a unit that never fires
    deviations = x - x.mean(0)
    computed = deviations.T @ deviations / dtype(n - 1)
    assert computed.dtype == dtype
    for covariance in (computed, np.cov(x, rowvar=False).astype(dtype)):
        Gaussian.given(x.mean(0), covariance, n)


@pytest.mark.slow
@pytest.mark.alone
def test_2048_dimensions_are_checked_in_two_seconds():
    covariance = with_eigenvalues(np.concatenate([np.zeros(1048), np.linspace(0.1, 1, 1000)]))
    load, times = os.getloadavg()[0], []
    for _ in range(3):
        start = time.perf_counter()
        Gaussian.given(np.zeros(2048), covariance)
        times.append(time.perf_counter() - start)
    if min(times) > 2 and load > 1.5:
        pytest.skip(f"{min(times):.2f} s, but others were at work (load {load:.1f})")
    assert min(times) <= 2
