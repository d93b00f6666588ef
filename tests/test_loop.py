"""Training in a work directory: what it leaves, what it refuses, how it diverges."""

import re
import shutil

import jax
import numpy as np
import pytest

from genmodels import loop, tasks
from genmodels.core import grids
from genmodels.core.parallel import Parallel
from genmodels.errors import ConfigError, DataError, DivergedError, GenmodelsError, StorageError
from genmodels.evaluators import sample_diagnostics
from genmodels.reporting import pictures
from genmodels.reporting.writers import read_metrics
from genmodels.runs.workdir import locked, read_config
from genmodels.tasks import diffusion
from tests.helpers import digest, experiment, final_state

STEPS = {"train.steps": 8, "log.every": 2, "checkpoint.every": 3}


def test_a_run_leaves_what_the_contract_says(trained):
    assert {"config.json", "data.json", "metrics.jsonl", "parameters.txt", "checkpoints", "samples"} <= {
        path.name for path in trained.iterdir()
    }
    records = read_metrics(trained / "metrics.jsonl")
    assert [record["step"] for record in records] == [2, 4, 6]
    wanted = {"loss", "loss_quartile_3", "grad_norm", "update_norm", "learning_rate", "images_per_s", "data_wait"}
    assert wanted <= records[-1].keys()
    assert "total" in (trained / "parameters.txt").read_text()
    assert grids.read_captions(trained / "samples" / "sample_000006.png")[0] == "sample at step 6"


def test_a_finished_run_says_so_and_changes_nothing(small, trained, capsys):
    before = digest(final_state(trained))
    assert loop.train(small("ddpm_digits"), trained) == 0
    assert "already finished at step 6" in capsys.readouterr().out
    assert digest(final_state(trained)) == before


def test_a_finished_run_keeps_its_config_unless_it_goes_on(small, trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_text()
    assert loop.train(small("ddpm_digits", **{"train.steps": 4}), tmp_path / "run") == 0
    assert (tmp_path / "run" / "config.json").read_text() == before
    assert loop.train(small("ddpm_digits", **{"train.steps": 8}), tmp_path / "run") == 0
    assert "was 6 steps long and is now 8: the learning rate and the EMA follow" in capsys.readouterr().out
    assert read_config(tmp_path / "run").train.steps == 8
    assert int(final_state(tmp_path / "run").step) == 8


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"eval.metrics": ("fd_digit",)}, "did you mean 'fd_digits'"),
        ({"expect": ({"metric": "fid", "value": 1, "tolerance": 1},)}, "must state the resize"),
        ({"checkpoint.best": "losss"}, "did you mean 'loss'"),
    ],
)
def test_metrics_that_there_are_not_are_refused_before_hours_of_training(small, values, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        loop.train(small("ddpm_digits", **values), tmp_path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"eval.metrics": ("accuracy",)}, "needs the predict function 'classify'"),
        ({"eval.timesteps": ()}, "needs config.eval.timesteps"),
        ({"diffusion.conditional": False}, "agreement_digits needs a conditional model"),
    ],
)
def test_metrics_that_a_run_cannot_have_are_noted_and_do_not_stop_it(small, values, words, tmp_path, capsys):
    assert loop.train(small("ddpm_digits", **values), tmp_path, lambda step: 85) == 85
    (note,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert words in note


def test_notes_on_the_plan_are_printed_before_the_first_step(small, tmp_path, capsys):
    def notes(plan):
        return [f"{plan.last_step} steps on {plan.data.image_shape}"]

    assert loop.train(small("ddpm_digits"), tmp_path / "run", notes=notes) == 0
    said = capsys.readouterr().out
    assert -1 < said.find("note: 6 steps on (8, 8, 1)") < said.find("compiled the first step")
    assert (
        loop.train(small("ddpm_digits"), tmp_path / "run", notes=notes) == 0
    )  # it is finished, and nothing is trained
    assert "note: 6 steps" not in capsys.readouterr().out


def test_a_classifier_that_cannot_look_at_the_samples_is_a_warning(small, tmp_path, monkeypatch, capsys):
    def damaged(*args):
        raise DataError("weights/digits.npz has another sha256")

    monkeypatch.setattr(loop.sample_diagnostics, "class_shares", damaged)
    assert loop.train(small("ddpm_digits"), tmp_path) == 0
    assert "warning: step 6: no pictures: DataError: weights/digits.npz" in capsys.readouterr().out


@pytest.mark.parametrize("error", [ValueError("no such thing"), StorageError("no space"), OSError(28, "No space left")])
@pytest.mark.parametrize("function", ["draw", "save_grid"])
def test_a_picture_that_cannot_be_had_is_a_warning(function, error, small, tmp_path, monkeypatch, capsys):
    def broken(*args):
        raise error

    monkeypatch.setattr(pictures, function, broken)
    assert loop.train(small("ddpm_digits", **{"log.samples_every": 4}), tmp_path) == 0
    said = capsys.readouterr().out.splitlines()
    for step in (4, 6):
        assert f"warning: step {step}: no pictures: {type(error).__name__}: {error}" in said
    assert int(final_state(tmp_path).step) == 6


@pytest.mark.parametrize("gone", ["renamed", "deleted", "replaced"])
def test_a_work_directory_that_is_moved_or_deleted_ends_the_run_and_nothing_is_written_in_its_place(
    gone, small, tmp_path
):
    run, moved = tmp_path / "run", tmp_path / "moved"

    def stop(step):
        if step == 3:
            shutil.rmtree(run) if gone == "deleted" else run.rename(moved)
            if gone == "replaced":
                (run / "checkpoints").mkdir(parents=True)

    with pytest.raises(StorageError, match="run: was moved or deleted under the run") as caught:
        loop.train(small("ddpm_digits", **{"log.samples_every": 4, "checkpoint.every": 4}), run, stop)
    assert caught.value.exit_code == 4
    assert not [path for path in run.rglob("*") if path.is_file()]
    assert (moved / "config.json").exists() == (gone != "deleted")


@pytest.mark.parametrize(
    ("error", "kind", "code", "words"),
    [
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), ConfigError, 2, "lower"),
        (MemoryError(), ConfigError, 2, "ran out of memory: lower"),
        (
            jax.errors.JaxRuntimeError("UNIMPLEMENTED: no\nsuch dot"),
            ConfigError,
            2,
            "cannot run on cpu devices: change",
        ),
        (jax.errors.JaxRuntimeError("INTERNAL: device lost"), GenmodelsError, 1, "if it fails again, change"),
    ],
)
def test_an_error_of_the_device_names_the_keys_to_change(error, kind, code, words, small, tmp_path, monkeypatch):
    compile_step = Parallel.compile_step

    def failing(self, step, state):
        run = compile_step(self, step, state)

        def call(state, *rest):
            if int(state.step) == 4:
                raise error
            return run(state, *rest)

        return call

    monkeypatch.setattr(Parallel, "compile_step", failing)
    config = small("ddpm_digits")
    config.model = {"dtype": "float32"}
    with pytest.raises(kind, match=words) as caught:
        loop.train(config, tmp_path)
    assert caught.value.exit_code == code
    assert {"config.train.batch_size", "config.model.dtype"} <= set(
        re.findall(r"config[.a-z_]*[a-z]", str(caught.value))
    )
    assert str(caught.value).endswith("; step 4 is saved")
    assert int(final_state(tmp_path).step) == 4


def test_samples_of_few_classes_are_warned_of_after_the_last_step_too(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sample_diagnostics, "class_shares", lambda images, classifier: {"drawn_class_max": 1.0, "drawn_share_3": 0.0}
    )
    config = small("ddpm_digits", **{"eval.metrics": ("fd_digits",), "log.samples_every": 0})
    assert loop.train(config, tmp_path) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert warnings == [
        "warning: step 6: few classes: 100% of the drawn samples are of one class, none is of class 3",
    ]


def test_another_experiment_and_other_data_are_refused(small, trained, tmp_path):
    with pytest.raises(ConfigError, match=r"another experiment: config\.seed was 0, is 5"):
        loop.train(small("ddpm_digits", seed=5), trained)
    images = np.zeros((20, 8, 8, 1), np.uint8)
    config = small("ddpm_digits", **{"data.source": f"npz:{tmp_path}/a.npz", "diffusion.conditional": False})
    np.savez(tmp_path / "a.npz", images=images)
    assert loop.train(config, tmp_path / "run", lambda step: 85) == 85
    np.savez(tmp_path / "a.npz", images=images + 1)
    with pytest.raises(ConfigError, match=r"data has changed.*fingerprint"):
        loop.train(config, tmp_path / "run")


def test_two_runs_and_read_only_directories_are_refused(small, tmp_path):
    with locked(tmp_path / "run"), pytest.raises(StorageError, match="another run is writing"):
        loop.train(small("ddpm_digits"), tmp_path / "run")
    (tmp_path / "frozen").mkdir(mode=0o555)
    with pytest.raises(StorageError, match="cannot be written"):
        loop.train(small("ddpm_digits"), tmp_path / "frozen")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        loop.train(small("ddpm_digits"), tmp_path / "file")


def test_a_network_that_does_not_fit_the_data_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.model: 3 attention heads do not divide"):
        loop.train(experiment("ddpm_digits", **{"model.heads": 3}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_metrics_after_a_resume_have_every_step_once(small, tmp_path):
    config = small("ddpm_digits", **STEPS)
    loop.train(config, tmp_path, lambda step: 85 if step == 5 else None)
    path = tmp_path / "metrics.jsonl"
    left = b'{"step": 6, "loss": 9.0}\n[6]\n\xff\xfe\n\x00\x00\n{"step": 7, "lo'  # by a kill, and by a disk that fails
    path.write_bytes(path.read_bytes() + left)
    loop.train(config, tmp_path)
    assert [record["step"] for record in read_metrics(path)] == [2, 4, 6, 8]
    assert all(record["loss"] < 5 for record in read_metrics(path))


@pytest.fixture
def poisoned(small, monkeypatch):
    """A config with a loss that is NaN from step 3 on, until the function beside it is called."""
    make = diffusion.make

    def make_poisoned(config, data, num_steps):
        task = make(config, data, num_steps)

        def train_step(state, frozen, batch, rng, dist):
            bad = jax.numpy.where(state.step >= 3, jax.numpy.nan, 1.0)
            return task.train_step(state, frozen, batch | {"image": batch["image"] * bad}, rng, dist)

        return tasks.Task(task.init, train_step, task.optimizers, task.predict)

    monkeypatch.setattr(diffusion, "make", make_poisoned)
    config = small("ddpm_digits", **{"train.steps": 30, "train.max_bad_steps": 3})
    return config, lambda: monkeypatch.setattr(diffusion, "make", make)


def test_divergence_stops_with_the_batch_and_the_last_good_state(poisoned, tmp_path):
    """Three bad updates in a row: exit 3, the state of step 3 is kept."""
    config, heal = poisoned
    with pytest.raises(DivergedError, match="3 updates in a row were not finite") as caught:
        loop.train(config, tmp_path / "bad")
    assert caught.value.exit_code == 3
    batch = np.load(tmp_path / "bad" / "bad_batch_000003.npz")
    assert batch["image"].shape == (16, 8, 8, 1)
    heal()
    loop.train(config, tmp_path / "good", lambda step: 85 if step == 3 else None)
    bad, good = final_state(tmp_path / "bad"), final_state(tmp_path / "good")
    assert digest((bad.params, bad.opt_state, bad.ema_params)) == digest((good.params, good.opt_state, good.ema_params))
    assert int(bad.skipped["in_row"]) >= 3


def test_a_bad_batch_that_cannot_be_kept_does_not_end_the_run(poisoned, tmp_path, monkeypatch, capsys):
    def full(*args):
        raise StorageError("no space")

    monkeypatch.setattr(loop, "write_arrays", full)
    with pytest.raises(DivergedError, match="3 updates in a row"):
        loop.train(poisoned[0], tmp_path)
    said = capsys.readouterr().out
    assert (
        "step 4: the update was not finite and was skipped (1 in a row); its batch could not be saved: no space" in said
    )
