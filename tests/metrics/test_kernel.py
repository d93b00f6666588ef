import numpy as np
import pytest

from genmodels.metrics.kernel import kernel_distance, mmd2, subset_indices


def normal(seed, n, d=6, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


def by_loops(x, y):
    def k(u, v):
        return (sum(float(p) * float(q) for p, q in zip(u, v, strict=True)) / len(u) + 1) ** 3

    def among(z):
        return np.mean([k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j])

    return among(x) + among(y) - 2 * np.mean([k(u, v) for u in x for v in y])


def test_two_points_equal_a_calculation_by_hand():
    x, y = np.array([[1.0, 1.0], [1.0, 3.0]]), np.array([[2.0, 0.0], [0.0, 0.0]])
    # x1.x2 / 2 + 1 = 3; y1.y2 / 2 + 1 = 1; x.y / 2 + 1 = 2, 1, 2, 1
    assert mmd2(x, y) == pytest.approx(27 + 1 - 2 * (8 + 1 + 8 + 1) / 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [2, 9])
def test_the_distance_equals_the_definition_by_loops_on_the_same_subsets(size, dtype):
    a, b = normal(0, 20, dtype=dtype) + dtype(2), normal(1, 15, dtype=dtype) + dtype(2)
    rng = np.random.default_rng(5)
    rows_a, rows_b = subset_indices(20, 8, size, rng), subset_indices(15, 8, size, rng)
    expected = [by_loops(a[i], b[j]) for i, j in zip(rows_a, rows_b, strict=True)]
    np.testing.assert_allclose([mmd2(a[i], b[j]) for i, j in zip(rows_a, rows_b, strict=True)], expected, rtol=1e-6)
    found = kernel_distance(a, b, 8, size, seed=5)
    np.testing.assert_allclose(found, (np.mean(expected), np.std(expected)), rtol=1e-6)


def test_float32_features_lose_no_digits_by_cancellation():
    a, b = normal(0, 40, 64, np.float32) + np.float32(30), normal(1, 40, 64, np.float32) + np.float32(30)
    # terms of 1e9 whose sum is about 1e5
    np.testing.assert_allclose(mmd2(a, b), by_loops(a, b), rtol=1e-6)


def test_subsets_of_all_images_give_equal_distances():
    a, b = normal(0, 12), normal(1, 12) + 1
    done = []
    found = kernel_distance(a, b, 5, 12, advance=done.append)
    assert sum(done) == 5
    assert found.mean == pytest.approx(by_loops(a, b), rel=1e-6)
    assert found.std == pytest.approx(0, abs=1e-9)


def test_subsets_are_drawn_without_replacement_from_all_rows():
    rows = subset_indices(10, 200, 7, np.random.default_rng(0))
    assert rows.shape == (200, 7)
    assert all(len(set(subset)) == 7 for subset in rows.tolist())
    counts = np.bincount(rows.reshape(-1), minlength=10)
    assert len(counts) == 10
    assert (abs(counts - 140) < 40).all()  # six standard deviations of a count
    assert len({tuple(sorted(subset)) for subset in rows.tolist()}) > 60  # of the 120 there are


def test_the_estimate_is_unbiased_for_equal_distributions_and_positive_for_different_ones():
    values = [mmd2(normal(2 * s, 30), normal(2 * s + 1, 30)) for s in range(400)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    assert min(values) < 0
    assert mmd2(normal(0, 30), normal(1, 30) + 1) > 20 * error


def test_equal_seeds_give_equal_distances_and_different_seeds_do_not():
    a, b = normal(0, 50), normal(1, 40)
    assert kernel_distance(a, b, 10, 20, seed=3) == kernel_distance(a, b, 10, 20, seed=3)
    assert kernel_distance(a, b, 10, 20, seed=3) != kernel_distance(a, b, 10, 20, seed=4)


@pytest.mark.parametrize(("n", "m", "size"), [(9, 20, 10), (20, 9, 10), (9, 9, 1)])
def test_subsets_that_cannot_be_drawn_are_refused(n, m, size):
    with pytest.raises(ValueError, match=f"subsets of {size} .* got {n} and {m}"):
        kernel_distance(normal(0, n), normal(1, m), 5, size)


def test_subsets_have_a_thousand_images_by_default():
    with pytest.raises(ValueError, match="subsets of 1000"):
        kernel_distance(normal(0, 999), normal(1, 1000))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_or_do_not_fit_are_refused(value):
    good, bad = normal(0, 10), normal(1, 10)
    bad[3, 2] = value
    for a, b in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match="finite"):
            kernel_distance(a, b, 2, 5)
    with pytest.raises((ValueError, TypeError), match="d"):
        kernel_distance(good, good[:, :5], 2, 5)
