import numpy as np
import pytest
from scipy.special import log_softmax

from genmodels.metrics.inception_score import SPLITS, ScoreSums


def score(logits, splits=SPLITS, batch=7):
    sums = ScoreSums.empty(*logits.shape, splits)
    for i in range(0, len(logits), batch):
        sums = sums.add(logits[i : i + batch])
    return sums.result()


def plain(logits, splits):
    """Mean and deviation over splits of exp of the mean KL divergence to the split's own marginal."""
    n = len(logits)
    scores = []
    for s in range(splits):
        log_p = log_softmax(logits[s * n // splits : (s + 1) * n // splits], axis=1)
        marginal = np.exp(log_p).mean(0)
        scores.append(np.exp(np.mean(np.sum(np.exp(log_p) * (log_p - np.log(marginal)), axis=1))))
    return np.mean(scores), np.std(scores)


@pytest.mark.parametrize("batch", [1, 7, 103, 1000])
@pytest.mark.parametrize("splits", [1, 4, 10, 103])
def test_the_score_equals_the_plain_formula_in_any_batching(splits, batch):
    logits = 3 * np.random.default_rng(0).normal(size=(103, 12))
    np.testing.assert_allclose(score(logits, splits, batch), plain(logits, splits), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("splits", [1, 4, 10])
def test_batches_in_any_order_and_merged_parts_give_the_same_score(splits):
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(103, 12))
    starts = np.arange(0, 103, 7)
    parts = [ScoreSums.empty(103, 12, splits) for _ in range(3)]
    for n, i in enumerate(rng.permutation(starts)):
        parts[n % 3] = parts[n % 3].add(logits[i : i + 7], int(i))
    with pytest.raises(ValueError, match="of 103"):
        parts[0].merge(parts[1]).result()
    for order in ((0, 1, 2), (2, 0, 1)):
        a, b, c = (parts[i] for i in order)
        np.testing.assert_allclose(a.merge(b).merge(c).result(), plain(logits, splits), rtol=1e-10, atol=1e-10)


def test_float32_logits_are_summed_in_float64():
    logits = 3 * np.random.default_rng(0).normal(size=(1000, 12)).astype(np.float32)
    np.testing.assert_allclose(score(logits), plain(logits.astype(np.float64), SPLITS), rtol=1e-10)


def test_splits_are_ten_runs_of_equally_many_images():
    # ten runs, each of one certain class: within a run all alike
    logits = 1000 * np.repeat(np.eye(10), 5, axis=0)
    assert score(logits) == pytest.approx((1, 0), abs=1e-12)
    assert score(logits, 1) == pytest.approx((10, 0), abs=1e-9)


@pytest.mark.parametrize("classes", [2, 5, 1008])
@pytest.mark.parametrize("certainty", [50.0, 1e4])
def test_certain_and_balanced_predictions_score_the_number_of_classes(classes, certainty):
    images = np.tile(np.eye(classes), (2, 1))
    assert score(certainty * images, 2) == pytest.approx((classes, 0), rel=1e-9, abs=1e-9)


def test_uniform_or_equal_predictions_score_one():
    assert score(np.full((20, 7), 3.0)) == pytest.approx((1, 0), abs=1e-12)
    assert score(np.tile(np.arange(7.0), (20, 1))) == pytest.approx((1, 0), abs=1e-12)


def test_the_score_ignores_a_constant_in_the_logits_and_the_order_of_classes():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 6))
    moved = (logits + 100 * rng.normal(size=(40, 1)))[:, rng.permutation(6)]
    np.testing.assert_allclose(score(moved), score(logits), rtol=1e-10)


def test_the_deviation_is_over_splits():
    # one split of two certain classes in balance, one of a single class: scores 2 and 1
    logits = 1000 * np.eye(2)[[0, 1, 0, 1, 0, 0, 0, 0]]
    assert score(logits, 2) == pytest.approx((1.5, 0.5), abs=1e-12)


def test_adding_does_not_change_earlier_sums():
    empty = ScoreSums.empty(4, 3, 2)
    first = empty.add(np.eye(3))
    for _ in range(2):
        assert first.add(np.eye(3)[:1]).seen == 4
    assert (empty.seen, empty.counts.sum(), empty.probabilities.sum(), empty.negentropies.sum()) == (0, 0, 0, 0)
    assert (first.seen, first.counts.sum()) == (3, 3)


def test_impossible_splits_counts_and_logits_are_refused():
    with pytest.raises(ValueError, match="10 splits"):
        ScoreSums.empty(9, 5)
    with pytest.raises(ValueError, match="0 splits"):
        ScoreSums.empty(9, 5, 0)
    sums = ScoreSums.empty(10, 5).add(np.zeros((9, 5)))
    with pytest.raises(ValueError, match="9 of 10"):
        sums.result()
    with pytest.raises(ValueError, match="more than the 10"):
        sums.add(np.zeros((2, 5)))
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            sums.add(np.full((1, 5), value))


def test_parts_of_other_sets_and_images_added_twice_are_refused():
    half = ScoreSums.empty(10, 3, 2).add(np.zeros((5, 3)), 0)
    with pytest.raises(ValueError, match="cannot be merged"):
        half.merge(ScoreSums.empty(12, 3, 2))
    with pytest.raises(ValueError, match="twice"):
        half.merge(half).result()
