"""A run from its work directory: training that is stopped, damaged or refused; sampling, scoring, reporting."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from genmodels import config as config_lib
from genmodels import evaluation, loop, tasks
from genmodels.data.sources import make_source
from genmodels.errors import ConfigError, DataError, DivergedError, StorageError
from genmodels.evaluators.expectations import compare
from genmodels.inference import Predictor, Run
from genmodels.parallel import Parallel
from genmodels.reporting import files, grids, html
from genmodels.reporting.writers import read_metrics
from genmodels.workdir import locked
from tests.helpers import EXPERIMENTS, ROOT, digest, experiment, final_state

STEPS = {"train.steps": 8, "log.every": 2, "checkpoint.every": 3}


def command(module, *args, devices=1, **options):
    """Runs `python -m genmodels.<module>` as a user would."""
    env = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "PJRT_NPROC")}
    env["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    launch = [sys.executable, "-m", f"genmodels.{module}"]
    return subprocess.Popen(
        [*launch, *map(str, args)],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def finish(process, timeout=600):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


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


def test_a_finished_run_says_so_and_changes_nothing(trained, capsys):
    before = digest(final_state(trained))
    assert loop.train(experiment("ddpm_digits"), trained) == 0
    assert "already finished at step 6" in capsys.readouterr().out
    assert digest(final_state(trained)) == before


def test_another_experiment_and_other_data_are_refused(trained, tmp_path):
    with pytest.raises(ConfigError, match=r"another experiment: config\.seed was 0, is 5"):
        loop.train(experiment("ddpm_digits", seed=5), trained)
    images = np.zeros((20, 8, 8, 1), np.uint8)
    config = experiment("ddpm_digits", **{"data.source": f"npz:{tmp_path}/a.npz", "diffusion.conditional": False})
    np.savez(tmp_path / "a.npz", images=images)
    assert loop.train(config, tmp_path / "run", lambda step: 85) == 85
    np.savez(tmp_path / "a.npz", images=images + 1)
    with pytest.raises(ConfigError, match=r"data has changed.*fingerprint"):
        loop.train(config, tmp_path / "run")


def test_two_runs_and_read_only_directories_are_refused(tmp_path):
    with locked(tmp_path / "run"), pytest.raises(StorageError, match="another run is writing"):
        loop.train(experiment("ddpm_digits"), tmp_path / "run")
    (tmp_path / "frozen").mkdir(mode=0o555)
    with pytest.raises(StorageError, match="cannot be written"):
        loop.train(experiment("ddpm_digits"), tmp_path / "frozen")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        loop.train(experiment("ddpm_digits"), tmp_path / "file")


def test_metrics_after_a_resume_have_every_step_once(tmp_path):
    config = experiment("ddpm_digits", **STEPS)
    loop.train(config, tmp_path, lambda step: 85 if step == 5 else None)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 6, "loss": 9.0}\n{"step": 7, "lo')  # what a kill leaves behind
    loop.train(config, tmp_path)
    assert [record["step"] for record in read_metrics(path)] == [2, 4, 6, 8]
    assert all(record["loss"] < 5 for record in read_metrics(path))


def test_divergence_stops_with_the_batch_and_the_last_good_state(tmp_path, monkeypatch):
    """A loss that is NaN from step 3 on: five bad updates in a row, exit 3, the state of step 3 is kept."""
    make = tasks.TASKS["diffusion"]

    def poisoned(config, data, num_steps):
        task = make(config, data, num_steps)

        def train_step(state, frozen, batch, rng, dist):
            bad = jax.numpy.where(state.step >= 3, jax.numpy.nan, 1.0)
            return task.train_step(state, frozen, batch | {"image": batch["image"] * bad}, rng, dist)

        return tasks.Task(task.init, train_step, task.optimizers, task.predict)

    monkeypatch.setitem(tasks.TASKS, "diffusion", poisoned)
    config = experiment("ddpm_digits", **{"train.steps": 30, "train.max_bad_steps": 3})
    with pytest.raises(DivergedError, match="3 updates in a row were not finite") as caught:
        loop.train(config, tmp_path / "bad")
    assert caught.value.exit_code == 3
    batch = np.load(tmp_path / "bad" / "bad_batch_000003.npz")
    assert batch["image"].shape == (16, 8, 8, 1)
    monkeypatch.setitem(tasks.TASKS, "diffusion", make)
    loop.train(config, tmp_path / "good", lambda step: 85 if step == 3 else None)
    bad, good = final_state(tmp_path / "bad"), final_state(tmp_path / "good")
    assert digest((bad.params, bad.opt_state, bad.ema_params)) == digest((good.params, good.opt_state, good.ema_params))
    assert int(bad.skipped["in_row"]) >= 3


STOPS = [
    (signal.SIGKILL, -9),
    pytest.param(signal.SIGTERM, 85, marks=pytest.mark.slow),
    pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_real_signal_loses_nothing(number, code, tmp_path):
    """One process is stopped for real and rerun; the result is that of the run that was left alone, bit for bit."""
    _stopped_and_resumed(number, code, tmp_path)


LONG = ("--config=experiments/ddpm_digits.py:tiny", "--config.train.steps=120", "--config.checkpoint.every=10")


def _stopped_and_resumed(number, code, tmp_path):
    process = command("train", *LONG, f"--workdir={tmp_path / 'run'}")
    done = tmp_path / "run" / "checkpoints" / "10" / "_CHECKPOINT_METADATA"  # written last
    deadline = time.monotonic() + 200
    while not done.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    assert finish(process)[0] == code
    again, out, err = finish(command("train", *LONG, f"--workdir={tmp_path / 'run'}"))
    assert again == 0, err
    assert re.search(r"resuming at step \d+", out)
    whole, _, err = finish(command("train", *LONG, f"--workdir={tmp_path / 'whole'}"))
    assert whole == 0, err
    assert digest(final_state(tmp_path / "run")) == digest(final_state(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--config.modle.x=1"], r"--config\.modle\.x: unknown key; did you mean --config\.model"),
        (["--config.train.steps=abc"], r"--config\.train\.steps=abc"),
        (["--config.train.stepz=1"], r"'stepz': did you mean 'steps'"),
        (["--config.train=1"], r"is a section"),
        (["--wrokdir=x"], r"wrokdir.*workdir"),
        (["extra"], r"unexpected argument 'extra'"),
        (["--config=experiments/ddpm_digit.py"], r"no such file; did you mean experiments/ddpm_digits\.py"),
        (["--config=experiments/ddpm_digits.py:tin"], r"did you mean 'tiny'"),
    ],
)
def test_wrong_flags_give_one_line(args, words):
    argv = ["train", "--config=experiments/ddpm_digits.py:tiny", "--workdir=nowhere"]
    argv = [arg for arg in argv if arg.partition("=")[0] not in {a.partition("=")[0] for a in args}] + args
    code = f"import sys; sys.argv = {argv!r}; import runpy; runpy.run_module('genmodels.train', run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert re.search(words, result.stderr), result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (ROOT / "nowhere").exists()


def test_image_i_depends_on_seed_and_index_alone(trained):
    run = Run.load(trained)
    whole = run.sample(140, seed=0)
    labels = run.sample_labels(140)
    for batch_size, devices in ((8, 1), (64, 1), (64, 8)):
        predictor = Predictor(run.predictor.task, Parallel("pmap", jax.devices()[:devices]), batch_size)
        images = predictor(jax.device_get(run.variables), "sample", 140, {"label": labels}, seed=0)["image"]
        assert np.abs(images.astype(int) - whole).max() <= 1  # one grey level of rounding
    assert (run.sample(3, labels=[7], seed=0) == run.sample(9, labels=[7], seed=0)[:3]).all()
    assert (run.sample(3, seed=1) != whole[:3]).any()


def test_options_and_labels_of_sampling_are_checked(trained):
    run = Run.load(trained, "best")
    for bad in ({"labels": [10]}, {"labels": [-1]}, {"sampler": "ddmi"}, {"steps": 21}, {"width": 3}):
        with pytest.raises(ConfigError, match=r"label|ddim|steps|option"):
            run.sample(2, **bad)
    with pytest.raises(ConfigError, match="at least 1"):
        run.sample(0)
    assert run.sample(2, sampler="ancestral", steps=3, guidance=2.0).shape == (2, 8, 8, 1)


def test_evaluation_and_report_of_a_run(trained, tmp_path):
    import shutil

    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    results, expect = evaluation.of_run(str(workdir), None, 20, "latest")
    names = [result.name for result in results]
    assert names == ["fd_digits", "agreement_digits", "nn_distance_ratio", "psnr", "ssim"]
    protocol = results[0].protocol
    for key in ("extractor_sha256", "n_generated", "reference_sha256", "weights", "sampler", "steps", "guidance_scale"):
        assert key in protocol
    assert protocol["comparable_to_published"] is False
    assert all(np.isfinite(result.value) for result in results)
    (workdir / "eval").mkdir()
    rows = [result.as_json() for result in results]
    (workdir / "eval" / "result.json").write_text(json.dumps({"results": rows}))
    page = html.render([html.run_section(workdir)])
    for title in ("Samples", "Denoising trajectory", "Nearest training images", "fd_digits", "learning_rate"):
        assert title in page
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)  # nothing outside the file
    assert tuple(expect) == tuple(experiment("ddpm_digits").expect)


def test_expectations_are_one_sided_and_need_the_same_protocol():
    rows = [{"name": "fd_digits", "value": 5.0, "protocol": {"n": 10}}, {"name": "psnr", "value": 20, "protocol": {}}]
    promise = {"metric": "fd_digits", "value": 4.0, "tolerance": 0.5, "protocol": {"n": 10}}
    assert [c.met for c in compare(rows, [promise])] == [False]
    assert [c.met for c in compare(rows, [promise | {"value": 6.0}])] == [True]  # lower is better
    assert [c.met for c in compare(rows, [promise | {"protocol": {"n": 11}}])] == [None]
    assert [c.met for c in compare(rows, [{"metric": "psnr", "value": 25, "tolerance": 1}])] == [False]
    assert [c.met for c in compare(rows, [{"metric": "psnr", "value": 15, "tolerance": 1}])] == [True]


def test_paths_are_read_back_as_written_and_paired_metrics_see_equal_images(tmp_path):
    source = make_source("digits", "test")
    for out in ("a.npz", "folder"):
        files.write_images(tmp_path / out, source.images[:30], source.labels[:30], "")
        images, labels = files.read_images("--generated", str(tmp_path / out))
        np.testing.assert_array_equal(images, source.images[:30])
        np.testing.assert_array_equal(labels, source.labels[:30])
    results = evaluation.of_paths(
        str(tmp_path / "a.npz"), str(tmp_path / "folder"), ("fd_digits", "agreement_digits", "ssim")
    )
    values = {result.name: result.value for result in results}
    assert abs(values["fd_digits"]) < 1e-8
    assert values["agreement_digits"] > 0.95
    np.testing.assert_allclose(values["ssim"], 1, atol=1e-5)
    with pytest.raises(ConfigError, match="needs the training images"):
        evaluation.of_paths(str(tmp_path / "a.npz"), str(tmp_path / "folder"), ("nn_distance_ratio",))
    with pytest.raises(ConfigError, match="did you mean 'fd_digits'"):
        evaluation.of_paths(str(tmp_path / "a.npz"), str(tmp_path / "folder"), ("fd_digit",))


def test_unreadable_images_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"\x89PNG but not")
    for name, words in [("none.npz", "no such"), ("empty", r"no \.png"), ("bad", r"a\.png: not a readable")]:
        with pytest.raises(DataError, match=words):
            files.read_images("--generated", str(tmp_path / name))


def test_the_shipped_digits_classifier_is_the_recorded_one_and_is_good():
    from genmodels.extractors import digits

    source = make_source("digits", "test")
    features, logits = digits.extract(source.images)
    assert features.shape == (297, digits.DIMENSION)
    assert np.mean(logits.argmax(-1) == source.labels) >= 0.98
    with pytest.raises(DataError, match="8x8x1"):
        digits.extract(np.zeros((2, 9, 9, 1), np.uint8))


def test_load_works_as_in_a_notebook(trained):
    import genmodels

    assert genmodels.load(str(trained)).sample(2, labels=[3], seed=0).shape == (2, 8, 8, 1)
    with pytest.raises(StorageError, match=r"is .* a work directory"):
        genmodels.load(str(trained / "checkpoints"))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_tiny_experiment_runs_through_every_command(name, tmp_path):
    run = tmp_path / "run"
    steps = [("train", f"--config=experiments/{name}.py:tiny", f"--workdir={run}")]
    if "sampler" in experiment(name):
        steps += [
            ("sample", f"--workdir={run}", "--num=12", f"--out={tmp_path}/{out}") for out in ("s.png", "s.npz", "s")
        ]
    else:
        steps.append(("export", f"--workdir={run}", f"--out={tmp_path}/w.npz"))
    steps += [
        ("evaluate", f"--workdir={run}", f"--out={run}/eval/result.json"),
        ("report", f"--runs={run}", f"--out={run}/report.html"),
    ]
    for step in steps:
        code, _, err = finish(command(*step))
        assert code == 0, (step, err)
    assert len((run / "report.html").read_text()) > 20_000


@pytest.mark.slow
def test_twenty_kills_lose_nothing(tmp_path):
    """kill -9 at twenty random moments of a run that saves all the time; it ends as a run left alone does."""
    long = ("--config=experiments/ddpm_digits.py:tiny", "--config.train.steps=160", "--config.checkpoint.every=2")
    rng = np.random.default_rng(0)
    for _ in range(20):
        process = command("train", *long, f"--workdir={tmp_path / 'run'}")
        count = len(read_metrics(tmp_path / "run" / "metrics.jsonl"))
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if len(read_metrics(tmp_path / "run" / "metrics.jsonl")) > count:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        assert finish(process)[0] in (-9, 0)
    code, _, err = finish(command("train", *long, f"--workdir={tmp_path / 'run'}"))
    assert code == 0, err
    assert finish(command("train", *long, f"--workdir={tmp_path / 'whole'}"))[0] == 0
    assert digest(final_state(tmp_path / "run")) == digest(final_state(tmp_path / "whole"))


@pytest.mark.slow
def test_launch_local_trains_on_eight_virtual_devices(tmp_path):
    args = ["--devices=8", "--config=experiments/ddpm_digits.py:tiny", f"--workdir={tmp_path / 'run'}"]
    result = subprocess.run(
        [sys.executable, "launch/local.py", *args], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert "8 cpu device(s)" in result.stdout
    assert config_lib.from_json((tmp_path / "run" / "config.json").read_text()).parallel == "pmap"


def test_a_network_that_does_not_fit_the_data_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.model: 3 attention heads do not divide"):
        loop.train(experiment("ddpm_digits", **{"model.heads": 3}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
