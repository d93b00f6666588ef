"""Only results that were measured in the same way share a column."""

import numpy as np
import pytest

from genmodels.evaluators.comparison import Entry, compare

PROTOCOL = {
    "extractor": "digits",
    "extractor_sha256": "c2",
    "resize": "none",
    "n_generated": 1000,
    "n_reference": 297,
    "reference": "digits",
    "reference_split": "test",
    "reference_sha256": "ab",
    "sampler": "ddim",
    "seed": 0,
    "checkpoint_step": 3000,
}


def entry(subject, value, name="fd_digits", seed=0, **changes):
    return Entry(subject, seed, {"name": name, "value": value, "protocol": PROTOCOL | changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"resize": "clean"},
        {"n_generated": 500},
        {"n_reference": 100},
        {"reference_sha256": "cd"},
        {"extractor_sha256": "d3"},
        {"sampler": "heun"},
        {"covariance_divisor": "N"},
        {"something_new": 1},
    ],
)
def test_results_with_different_protocols_have_separate_columns_and_a_reason(changes):
    table = compare([entry("a", 5.0), entry("b", 4.0, **changes)])
    assert len(table.columns) == 2
    assert all(len(column.cells) == 1 for column in table.columns)
    assert not any(cell.best for column in table.columns for cell in column.cells.values())
    (reason,) = table.reasons
    ((key, value),) = changes.items()
    assert key in reason
    assert str(value) in reason
    assert len({column.label for column in table.columns}) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint_step": 9},
        {"generated": "x.npz", "generated_sha256": "f0"},
        {"versions": {"jax": "0.12"}},
        {"reference": "elsewhere/digits"},
        {"solver": "SVD"},
        {"std_over_subsets": 0.1},
        {"histogram": [3, 4]},
        {"mean_evaluations": 12.0},
    ],
)
def test_entries_that_describe_the_measured_model_do_not_separate_columns(changes):
    table = compare([entry("a", 5.0), entry("b", 4.0, **changes)])
    (column,) = table.columns
    assert table.reasons == ()
    assert column.ranking() == ["b", "a"]
    assert [column.cells[row].best for row in "ab"] == [False, True]


def test_a_reference_without_a_hash_is_identified_by_its_name():
    nameless = {key: value for key, value in PROTOCOL.items() if key != "reference_sha256"}
    results = [{"name": "fd", "value": 1.0, "protocol": nameless | {"reference": name}} for name in ("x", "y")]
    assert len(compare([Entry("a", 0, result) for result in results]).columns) == 2


def test_seeds_of_training_and_of_sampling_are_averaged():
    values = [4.0, 5.0, 9.0]
    table = compare([entry("a", value, seed=seed) for seed, value in enumerate(values)] + [entry("b", 5.5)])
    cells = table.columns[0].cells
    assert cells["a"].seeds == 3
    np.testing.assert_allclose([cells["a"].value, cells["a"].std], [6.0, np.std(values, ddof=1)])
    assert (cells["b"].std, cells["b"].best) == (None, True)
    drawn = compare([entry("a", value, **{"seed": seed}) for seed, value in enumerate(values)])
    assert len(drawn.columns) == 1


def test_a_repeated_measurement_replaces_the_earlier_one():
    (column,) = compare([entry("a", 4.0), entry("a", 5.0)]).columns
    assert (column.cells["a"].value, column.cells["a"].seeds) == (5.0, 1)


def test_metrics_rank_in_their_own_direction_and_infinity_is_handled():
    table = compare(
        [entry("a", 20.0, "psnr"), entry("b", np.inf, "psnr"), entry("c", 30.0, "psnr"), entry("a", 1.0, "fd_digits")]
    )
    assert table.rows == ("a", "b", "c")
    psnr, fd = table.columns
    assert psnr.ranking() == ["b", "c", "a"]
    assert psnr.cells["b"].best
    assert list(fd.cells) == ["a"]
