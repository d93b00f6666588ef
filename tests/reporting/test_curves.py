"""Which logged metrics the report draws together."""

import pytest

from genmodels.errors import StorageError
from genmodels.reporting import curves
from genmodels.tasks import Curve

RECORDS = [
    {"step": 1, "loss": 3.0, "loss_teacher": 1.0, "kl": 2.0, "klondike": 4.0, "steps_per_s": 9.0},
    {"step": 2, "loss": 2.0, "kl": 1.0, "grad_norm_generator": 5.0, "warnings": ["collapse: all alike"]},
]


def titles(groups):
    return {curve.title: sorted(series) for curve, series in groups}


def test_every_number_is_drawn_in_its_curve_or_alone():
    task = (Curve("Terms", ("kl", "loss_"), "nats"), Curve("Nothing of this was logged", ("accuracy",)))
    assert titles(curves.group(RECORDS, task)) == {
        "Loss": ["loss"],
        "Terms": ["kl", "loss_teacher"],  # a name is meant as it is, one that ends in an underscore as a beginning
        "Gradient and update norms": ["grad_norm_generator"],
        "klondike": ["klondike"],
    }


def test_without_a_task_s_curves_the_common_ones_are_left_and_the_rest_alone():
    found = titles(curves.group(RECORDS, ()))
    assert set(found) == {"Loss", "Gradient and update norms", "kl", "klondike", "loss_teacher"}


def test_points_are_those_of_the_records_that_have_the_metric():
    series = {name: points for _, group in curves.group(RECORDS, ()) for name, points in group.items()}
    assert series["loss"] == [(1, 3.0), (2, 2.0)]
    assert series["loss_teacher"] == [(1, 1.0)]


def test_curves_survive_the_file_and_an_older_run_has_none(tmp_path):
    assert curves.read_curves(tmp_path) == ()
    written = (Curve("Terms", ("kl", "loss_"), "nats", logarithmic=True), Curve("Accuracy", ("accuracy",)))
    curves.write_curves(tmp_path, written)
    assert curves.read_curves(tmp_path) == written


@pytest.mark.parametrize(
    "text", ["{", "[1]", '[{"title": "a"}]', '[{"title": "a", "metrics": ["b"], "colour": "red"}]']
)
def test_a_file_that_holds_something_else_is_named(text, tmp_path):
    (tmp_path / "curves.json").write_text(text)
    with pytest.raises(StorageError, match=r"curves\.json: "):
        curves.read_curves(tmp_path)
