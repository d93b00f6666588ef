"""Which pictures of a run the report shows, and in which order."""

import pytest

from genmodels.reporting.picture_files import in_report


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ("sample_001000 sample_002000", "sample_002000"),  # the last step's alone
        ("sample_002000 grid", "grid"),  # an evaluation's grid is of the same function
        ("sample_002000 neighbours trajectory", "sample_002000 trajectory neighbours"),
        ("walk_000010 walk_000020 denoise grid", "walk_000020 grid denoise"),
        ("sample_999000 sample_1200000", "sample_1200000"),
        (
            "sample_1200000 sample_1200000x walk_10 walk_9 walk_100",
            "sample_1200000 sample_1200000x walk_9 walk_10 walk_100",
        ),
        ("", ""),
    ],
)
def test_the_last_step_of_training_and_then_the_evaluation(tmp_path, names, shown):
    for name in names.split():
        (tmp_path / f"{name}.png").touch()
    assert [path.stem for path in in_report(tmp_path)] == shown.split()
