"""Only results that were measured in the same way share a column, however the samples were made."""

import numpy as np
import pytest

from genmodels.evaluators.comparison import Entry, compare
from genmodels.evaluators.goals import DOWN, UP, distance

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
        {"covariance_divisor": "N"},
        {"solver": "matrix square root"},
        {"layer": "logits"},
        {"value_range": "0 to 1"},
        {"subset_size": 50},
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
        {"seed": 1},
        {"sampler": "heun", "steps": 20, "spacing": "karras", "eta": 0.5, "clip": 0.0, "guidance_scale": 2.0},
        {"weights": "raw"},
        {"family": "diffusion"},
        {"selected_from": "the checkpoints"},
        {"truncation": 0.7, "made": ["truncation"]},  # an option of somebody's own method
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


def test_solvers_that_differ_by_rank_and_size_alone_are_one():
    """A collapsed GAN has a covariance of deficient rank, which is factored in another way."""
    solvers = ("nuclear norm, factors by Cholesky, eigenvalues", "nuclear norm, factors by eigenvectors, SVD")
    (column,) = compare([entry(row, 5.0, solver=solver) for row, solver in zip("ab", solvers, strict=True)]).columns
    assert column.protocol["solver"] == "nuclear norm"


def test_a_gan_beside_a_ddpm_is_ranked_and_its_row_says_how_it_was_made():
    drawn = {"sampler": "ddim", "steps": 50, "spacing": "trailing", "eta": 0.0, "clip": 1.0, "guidance_scale": 1.5}
    without = {key: value for key, value in PROTOCOL.items() if key != "sampler"}
    gan = {"name": "fd_digits", "value": 4.0, "protocol": without | {"family": "gan", "weights": "ema"}}
    ddpm = entry("ddpm", 5.0, family="diffusion", weights="raw", **drawn)
    table = compare([Entry("gan", 0, gan), ddpm])
    (column,) = table.columns
    assert (table.reasons, column.ranking()) == ((), ["gan", "ddpm"])
    assert table.made["gan"] == "gan, ema weights, step 3000, seed 0"
    assert table.made["ddpm"] == (
        "diffusion, sampler ddim, steps 50, spacing trailing, eta 0.0, clip 1.0, guidance 1.5, raw weights, step 3000, "
        "seed 0"
    )


def test_one_model_sampled_in_two_ways_has_two_rows_and_what_needs_no_samples_is_in_one():
    ways = ({"sampler": "ddim", "steps": 50}, {"sampler": "heun", "steps": 50})
    drawn = [entry("a", 5.0 - place, **way) for place, way in enumerate(ways)]
    bound = {"name": "nll", "value": 3.0, "protocol": {"checkpoint_step": 3000, "likelihood": "vlb", "seed": 0}}
    table = compare([*drawn, Entry("a", 0, bound), entry("b", 4.5)])
    assert table.rows == ("a, sampler ddim", "a, sampler heun", "b")
    fd, nll = table.columns
    assert fd.ranking() == ["a, sampler heun", "b", "a, sampler ddim"]
    assert list(nll.cells) == ["a, sampler ddim"]


def test_the_ratio_of_held_out_images_is_best_not_that_of_noise_or_of_copies():
    values = {"noise": 3.67, "held out": 1.02, "copies": 0.0, "nothing": np.nan}
    (column,) = compare([entry(row, value, "nn_distance_ratio") for row, value in values.items()]).columns
    assert column.ranking() == ["held out", "copies", "noise", "nothing"]
    assert [row for row, cell in column.cells.items() if cell.best] == ["held out"]
    assert column.arrow == "→ 1"


@pytest.mark.parametrize(("goal", "better", "worse"), [(DOWN, -1, 2), (UP, 2, -1), (1.0, 0.5, 1.6), (1.0, 1.4, 0.5)])
def test_of_two_values_the_better_is_nearer_to_the_goal(goal, better, worse):
    assert distance(goal, better) < distance(goal, worse) < distance(goal, np.nan)


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
