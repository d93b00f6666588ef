"""The record of an interrupted run, metrics.jsonl and the best step, is that of the run that was left alone."""

import pytest

from genmodels import loop
from genmodels.core.checkpoint import Checkpoints
from genmodels.errors import DataError, StorageError
from genmodels.evaluators import sample_diagnostics
from genmodels.reporting.writers import Writer, read_metrics
from tests.helpers import digest, final_state

EVERY = {"log.every": 5, "log.samples_every": 4, "checkpoint.every": 3}
TIMES = {"steps_per_s", "images_per_s", "data_wait"}
SHOWN = "drawn_class_max"  # what the record says of drawn samples


@pytest.fixture
def config(small, monkeypatch):
    """Every 4 steps samples are drawn; a number made of their pixels enters the record, with a warning."""
    monkeypatch.setattr(sample_diagnostics, "class_shares", lambda images, _: {SHOWN: float(images.mean() % 1)})
    monkeypatch.setattr(sample_diagnostics, "watch", lambda record: ["few classes: x"] if SHOWN in record else [])
    return small("ddpm_digits", **{"train.steps": 21, "eval.metrics": ("fd_digits",)}, **EVERY)


def rows_of(workdir):
    """The records of a run without what a clock measured."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(workdir / "metrics.jsonl")]


def record(workdir):
    """(the records, the best step, the names of the pictures, every bit of the last state)."""
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        best = checkpoints._candidates("best")[0]
    pictures = sorted(path.name for path in (workdir / "samples").iterdir())
    return rows_of(workdir), best, pictures, digest(final_state(workdir))


@pytest.fixture
def wanted(config, tmp_path):
    loop.train(config, tmp_path / "whole")
    return record(tmp_path / "whole")


def stopped_at(last, how):
    return lambda step: how() if step == last else None


def killed():
    raise SystemExit  # which nothing catches, so that nothing is saved


def stopped():
    return 85


@pytest.mark.parametrize(
    ("how", "steps"),
    [
        (stopped, (1, 4, 8, 15)),
        (killed, (5, 6, 14, 20)),
        pytest.param(stopped, (5, 6, 7, 9, 10, 12, 14, 16, 20), marks=pytest.mark.slow),
        pytest.param(killed, (1, 4, 8, 9, 10, 12, 15, 16), marks=pytest.mark.slow),
    ],
)
def test_the_record_does_not_show_where_a_run_was_interrupted(how, steps, config, wanted, tmp_path):
    """Inside logging intervals, at their ends, at checkpoints, where samples are drawn, and next to all of these."""
    assert [row["step"] for row in wanted[0]] == [5, 10, 15, 20, 21]
    assert all(SHOWN in row for row in wanted[0][:4])
    assert [row["step"] for row in wanted[0] if "warnings" in row] == [5]
    for last in steps:
        try:
            assert loop.train(config, tmp_path / "run", stopped_at(last, how)) == 85
        except SystemExit:
            assert how is killed
    assert loop.train(config, tmp_path / "run") == 0
    assert record(tmp_path / "run") == wanted


def test_an_error_saves_the_run_and_says_so(config, wanted, tmp_path, monkeypatch):
    make, calls = loop.pipeline.batches, []

    def lost(*args, **options):
        for batch in make(*args, **options):
            calls.append(1)
            if len(calls) == 12:
                raise DataError("a worker was killed")
            yield batch

    monkeypatch.setattr(loop.pipeline, "batches", lost)
    with pytest.raises(DataError, match=r"a worker was killed; step 11 is saved$"):
        loop.train(config, tmp_path / "run")
    assert loop.train(config, tmp_path / "run") == 0
    assert record(tmp_path / "run") == wanted


@pytest.mark.parametrize("step", [10, 15])
def test_a_record_that_a_full_disk_refused_is_written_when_the_run_goes_on(step, config, wanted, tmp_path, monkeypatch):
    append = Writer._append

    def full(self, row):
        if row["step"] == step:
            raise StorageError("metrics.jsonl: no space left")
        append(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "_append", full)
        with pytest.raises(StorageError, match=f"no space left; step {step} is saved$") as caught:
            loop.train(config, tmp_path / "run")
        assert caught.value.exit_code == 4
    assert loop.train(config, tmp_path / "run") == 0
    rows, _, pictures, state = record(tmp_path / "run")
    assert (rows, pictures, state) == (wanted[0], wanted[2], wanted[3])
