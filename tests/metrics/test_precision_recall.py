import numpy as np
import pytest

from genmodels.metrics.precision_recall import Manifolds, manifolds, radii


def squared(x, y):
    return ((x[:, None].astype(np.int64) - y[None].astype(np.int64)) ** 2).sum(-1)


def brute_radii(x, k):
    return np.array([sorted(np.delete(row, i))[k - 1] for i, row in enumerate(squared(x, x))])


def brute(real, fake, k):
    between = squared(real, fake)
    in_real = between <= brute_radii(real, k)[:, None]
    in_fake = between <= brute_radii(fake, k)
    return Manifolds(
        in_real.any(0).mean(), in_fake.any(1).mean(), in_real.sum() / (k * len(fake)), in_real.any(1).mean()
    )


def integers(seed, n, high, d=3):
    return np.random.default_rng(seed).integers(0, high, (n, d)).astype(np.float32)


@pytest.mark.parametrize(
    ("n", "m", "k", "block"), [(21, 13, 3, 5), (13, 21, 3, 8), (9, 14, 1, 1), (8, 16, 1, 8), (21, 13, 3, 64)]
)
def test_metrics_equal_brute_force_on_integers_in_any_blocks(n, m, k, block):
    for high in (2, 4, 9):  # many ties and copies, some, few
        real, fake = integers(high, n, high), integers(high + 1, m, high)
        np.testing.assert_array_equal(radii(real, k, block), brute_radii(real, k))
        np.testing.assert_allclose(manifolds(real, fake, k, block), brute(real, fake, k), rtol=1e-12)


def test_metrics_equal_brute_force_with_default_blocks_and_neighbours():
    real, fake = integers(0, 60, 30), integers(1, 50, 30)
    np.testing.assert_allclose(manifolds(real, fake), brute(real, fake, 3), rtol=1e-12)


@pytest.mark.parametrize("block", [8, 64])
def test_progress_counts_every_real_twice_and_every_fake_once(block):
    done = []
    manifolds(integers(0, 21, 9), integers(1, 13, 9), 3, block, done.append)
    assert sum(done) == 2 * 21 + 13


def test_points_on_a_line_equal_a_calculation_by_hand():
    real = np.array([[0.0], [1.0], [3.0], [10.0]])  # to the nearest other: 1, 1, 2, 7
    fake = np.array([[4.0], [5.0], [20.0]])  # 1, 1, 15
    np.testing.assert_array_equal(radii(real, 1), np.array([1.0, 1.0, 2.0, 7.0]) ** 2)
    # 4 is in the balls of 3 and 10; 5 on the surface of both; 20 in none. Of the reals, 3 is on the surface of the
    # ball of 4, and 10 in that of 20.
    assert manifolds(real, fake, 1) == Manifolds(precision=2 / 3, recall=2 / 4, density=4 / 3, coverage=2 / 4)


@pytest.mark.parametrize("block", [5, 8, 64])
def test_a_set_equals_itself_and_shares_nothing_with_a_distant_one(block):
    x = integers(0, 21, 100)
    same = manifolds(x, x[::-1].copy(), 3, block)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density >= 1
    assert manifolds(x, x + 1000, 3, block) == (0, 0, 0, 0)


def test_zeros_that_pad_a_block_are_not_points():
    far = integers(0, 11, 5) + 50
    near = integers(1, 9, 5)  # around the zeros that pad a block
    assert manifolds(far, near, 3, 8) == (0, 0, 0, 0)
    assert manifolds(near, far, 3, 8) == (0, 0, 0, 0)
    np.testing.assert_array_equal(radii(near, 3, 8), brute_radii(near, 3))


def test_copies_of_one_image_have_no_recall_if_real_images_differ():
    real = integers(0, 20, 100)
    collapsed = np.tile(real[:1], (15, 1))
    found = manifolds(real, collapsed)
    assert found.precision == 1
    assert found.recall == 1 / 20
    assert found.coverage < 0.5


def test_exchanging_the_sets_exchanges_precision_and_recall():
    x, y = integers(0, 20, 6), integers(1, 14, 6)
    forth, back = manifolds(x, y, 3, 8), manifolds(y, x, 3, 8)
    assert (forth.precision, forth.recall) == (back.recall, back.precision)
    assert forth.precision != forth.recall


@pytest.mark.parametrize(("n", "m"), [(3, 9), (9, 3)])
def test_too_few_images_are_refused(n, m):
    with pytest.raises(ValueError, match="3 nearest neighbours need more than 3 images, got 3"):
        manifolds(integers(0, n, 9), integers(1, m, 9))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_or_do_not_fit_are_refused(value):
    good, bad = integers(0, 9, 9), integers(1, 9, 9)
    bad[3, 2] = value
    for real, fake in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match="finite"):
            manifolds(real, fake)
    with pytest.raises((ValueError, TypeError), match="d"):
        manifolds(good, good[:, :2])
    with pytest.raises(ValueError, match="0 nearest"):
        radii(good, 0)


def test_a_common_shift_changes_nothing():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(60, 16)), 0.9 * rng.normal(size=(50, 16))
    assert manifolds(real + 1000, fake + 1000) == manifolds(real, fake)
