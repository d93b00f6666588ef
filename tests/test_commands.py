"""The commands as users and schedulers meet them: real processes, signals, exit codes, and the main job."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.svm import SVC

from genmodels import config as config_lib
from genmodels.data.sources import make_source
from genmodels.reporting.writers import read_metrics
from genmodels.tasks import DataSpec, make_task
from tests.helpers import EXPERIMENTS, ROOT, command, digest, experiment, final_state, finish, started
from tests.test_records import rows_of

LONG = ("--config.train.steps=120", "--config.checkpoint.every=10", "--config.log.every=7")
STOPS = [
    ("classifier_digits", signal.SIGKILL, -9),  # the cheapest to compile
    pytest.param("gan_digits", signal.SIGKILL, -9, marks=pytest.mark.slow),
    pytest.param("vae_digits", signal.SIGTERM, 85, marks=pytest.mark.slow),
    pytest.param("ddpm_digits", signal.SIGTERM, 85, marks=pytest.mark.slow),
    pytest.param("ddpm_digits", signal.SIGINT, 130, marks=pytest.mark.slow),
    pytest.param("classifier_digits", signal.SIGHUP, 85, marks=pytest.mark.slow),
    pytest.param("classifier_digits", signal.SIGUSR1, 85, marks=pytest.mark.slow),
    pytest.param("classifier_digits", signal.SIGQUIT, 130, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "number", "code"), STOPS)
def test_a_real_signal_loses_nothing(name, number, code, tmp_path):
    """One process is stopped for real and rerun; state and record are those of the run left alone, bit for bit."""
    chosen = (f"--config=experiments/{name}.py:tiny", *LONG)
    process = command("train", *chosen, f"--workdir={tmp_path / 'run'}")
    done = tmp_path / "run" / "checkpoints" / "10" / "_CHECKPOINT_METADATA"  # written last
    deadline = time.monotonic() + 200
    while not done.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    assert finish(process)[0] == code
    again, out, err = finish(command("train", *chosen, f"--workdir={tmp_path / 'run'}"))
    assert again == 0, err
    assert re.search(r"resuming at step \d+", out)
    whole, _, err = finish(command("train", *chosen, f"--workdir={tmp_path / 'whole'}"))
    assert whole == 0, err
    assert digest(final_state(tmp_path / "run")) == digest(final_state(tmp_path / "whole"))
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")


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


@pytest.mark.parametrize("given", [("sample", "--num=2", "--out=a.png"), ("evaluate", "--out=a.json")])
def test_sampling_flags_are_refused_before_anything_is_read(given):
    code, _, err = finish(command(*given, "--workdir=nowhere", "--guidance=nan"))
    assert (code, err) == (2, "error: --guidance=nan: must be a finite number\n")


# A command whose work is replaced by printing what it is asked to do, a line of JSON for each call.
ASKED = """
import json, sys
from genmodels import cli, scoring, {main}
from genmodels.runs import inference
def asked(*args, **options):
    print(json.dumps([args, options]))
class Run:
    load = classmethod(lambda cls, *args, **options: asked(*args, **options) or cls())
    sample = lambda self, *args, **options: sys.exit(asked(*args, **options))
inference.Run, scoring.of_run = Run, lambda *args, **options: sys.exit(asked(*args, **options))
scoring.of_paths = scoring.of_run
cli.run({main}.main)
"""
SAMPLING = {"sampler": "ddim", "steps": 7, "spacing": "karras", "eta": 0.5, "variance": "fixed_large", "guidance": 2.5}
LIKELIHOODS = ["vlb", "iwae(samples=5, images=9)", "ode"]
DRAWN = tuple(f"--{name}={value}" for name, value in SAMPLING.items())


def asked_of(main, *given):
    """[args, options] of each call."""
    code = [sys.executable, "-c", ASKED.format(main=main)]
    result = subprocess.run([*code, *given], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_flags_of_sample_reach_the_run(tmp_path):
    others = (
        "--workdir=w",
        "--num=4",
        f"--out={tmp_path}/a.npz",
        "--labels=3,red fox",
        "--seed=9",
        "--checkpoint=best",
    )
    rest = {name: value for name, value in SAMPLING.items() if name != "guidance"}
    refused, allowed = ({"allow_code": allow} for allow in (False, True))
    drawn = [[4, ["3", "red fox"], 9, 2.5], rest]
    assert asked_of("sample", *others, *DRAWN) == [[["w", "best"], refused], drawn]
    assert asked_of("sample", *others, *DRAWN, "--allow_code") == [[["w", "best"], allowed], drawn]


def test_the_flags_of_evaluate_reach_the_evaluation(trained, tmp_path):
    others = ("--num=4", f"--out={tmp_path}/a.json", "--metrics=nll,psnr", "--split=train")
    others += ("--likelihoods=vlb,iwae(samples=5, images=9),ode",)
    metric_options = {
        "extractor": "mnist",
        "resize": "tf1",
        "layer": "x",
        "subsets": 2,
        "subset_size": 3,
        "neighbours": 4,
    }
    metric_options |= {"splits": 5, "lpips_trunk": "a.pth", "lpips_linear": "b.pth"}
    others += (*DRAWN, *(f"--{name}={value}" for name, value in metric_options.items()))
    ((found, named),) = asked_of("evaluate", f"--workdir={trained}", "--checkpoint=6", *others)
    assert found == [str(trained), ["nll", "psnr"], 4, "6"]
    chosen = {"split": "train", "sampling": SAMPLING, "likelihoods": LIKELIHOODS, "metric_options": metric_options}
    assert named == chosen | {"allow_code": False}
    paths = ("--generated=a.npz", "--reference=b.npz", f"--out={tmp_path}/a.json", "--metrics=fd", "--extractor=m:f")
    ((found, _),) = asked_of("evaluate", *paths, "--splits=5")
    assert found == ["a.npz", "b.npz", ["fd"], {"extractor": "m:f", "splits": 5}]


# Commands one after another, each a process that is forked from this one and finds the imports done.
FORKED = """
import json, os, runpy, sys
from genmodels import loop, scoring
from genmodels.reporting import html
for command, *args in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        sys.argv = [command, *args]
        runpy.run_module(f"genmodels.{command}", run_name="__main__", alter_sys=True)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        sys.exit(f"{command} {args}: exit code {code}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_tiny_experiment_runs_through_every_command(name, tmp_path):
    """Those of ddpm_digits are started as users start them."""
    run = tmp_path / "run"
    steps = [("train", f"--config=experiments/{name}.py:tiny", f"--workdir={run}")]
    predict = make_task(experiment(name), DataSpec((8, 8, 1), 10), 10).predict
    if "sample" in predict:
        steps += [
            ("sample", f"--workdir={run}", "--num=12", f"--out={tmp_path}/{out}") for out in ("s.png", "s.npz", "s")
        ]
    else:
        steps.append(("export", f"--workdir={run}", f"--out={tmp_path}/w.npz"))
    steps += [
        ("evaluate", f"--workdir={run}", f"--out={run}/eval/result.json"),
        ("report", f"--runs={run}", f"--out={run}/report.html"),
    ]
    if name == "ddpm_digits":
        for step in steps:
            code, _, err = finish(command(*step))
            assert code == 0, (step, err)
    else:
        code, _, err = finish(started("-c", FORKED, json.dumps(steps)), timeout=1200)
        assert code == 0, err
    assert len((run / "report.html").read_text()) > 20_000


def flat(images):
    return images.reshape(len(images), -1) / 255.0


@pytest.mark.slow
@pytest.mark.alone
def test_the_main_job_draws_what_is_asked_and_copies_nothing(tmp_path):
    """experiments/ddpm_digits.py at full length, judged by a support vector machine that has nothing to do with it."""
    run, out = tmp_path / "run", tmp_path / "samples.npz"
    for step in (
        ("train", "--config=experiments/ddpm_digits.py", f"--workdir={run}"),
        ("sample", f"--workdir={run}", "--num=1000", "--seed=1", f"--out={out}"),
        ("evaluate", f"--workdir={run}", f"--out={run}/eval/result.json", "--check"),
    ):
        code, said, err = finish(command(*step, quick=False), timeout=1200)
        assert code == 0, (step, said, err)
    train, test = make_source("digits"), make_source("digits", "test")
    judge = SVC(C=10).fit(flat(train.images), train.labels)
    assert judge.score(flat(test.images), test.labels) >= 0.99
    samples = np.load(out)
    assert (samples["labels"] == np.arange(1000) % 10).all()
    assert judge.score(flat(samples["images"]), samples["labels"]) >= 0.97
    nearest = [
        cdist(flat(images), flat(train.images)).min(axis=1).mean() for images in (samples["images"], test.images)
    ]
    assert nearest[0] >= 0.8 * nearest[1]


@pytest.mark.slow
def test_twenty_kills_lose_nothing(tmp_path):
    """kill -9 at twenty random moments of a run that saves all the time; it ends as a run left alone does."""
    # The cheapest to start; so long that no life of half a second ends it.
    long = ("--config=experiments/classifier_digits.py:tiny", "--config.train.steps=3000")
    rng = np.random.default_rng(0)
    for _ in range(20):
        process = command("train", *long, "--config.checkpoint.every=2", f"--workdir={tmp_path / 'run'}")
        count = len(read_metrics(tmp_path / "run" / "metrics.jsonl"))
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if len(read_metrics(tmp_path / "run" / "metrics.jsonl")) > count:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        assert finish(process)[0] == -9
    assert int(final_state(tmp_path / "run").step) > 20
    code, _, err = finish(command("train", *long, "--config.checkpoint.every=500", f"--workdir={tmp_path / 'run'}"))
    assert code == 0, err
    assert finish(command("train", *long, "--config.checkpoint.every=500", f"--workdir={tmp_path / 'whole'}"))[0] == 0
    assert digest(final_state(tmp_path / "run")) == digest(final_state(tmp_path / "whole"))
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("platform", "devices", "before", "after"),
    [
        ("cuda", 2, {}, {"CUDA_VISIBLE_DEVICES": "0,1"}),
        ("cuda", 1, {"CUDA_VISIBLE_DEVICES": "4,5"}, {"CUDA_VISIBLE_DEVICES": "4"}),
        ("cuda", 3, {"CUDA_VISIBLE_DEVICES": "4,5"}, "allows 2"),
        ("cuda", 1, {"CUDA_VISIBLE_DEVICES": ""}, "allows 0"),
        ("cpu", 8, {"XLA_FLAGS": "--xla_force_host_platform_device_count=2 --a"}, {"PJRT_NPROC": "32"}),
    ],
)
def test_the_launcher_sees_the_devices_it_may(platform, devices, before, after, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(before))
    set_environment = runpy.run_path(str(ROOT / "launch" / "local.py"))["set_environment"]
    if isinstance(after, str):
        with pytest.raises(ValueError, match=after):
            set_environment(devices, platform)
        return
    set_environment(devices, platform)
    assert after.items() <= os.environ.items()
    if platform == "cpu":
        assert {"--xla_force_host_platform_device_count=8", "--a"} <= set(os.environ["XLA_FLAGS"].split())


@pytest.mark.slow
def test_launch_local_trains_on_eight_virtual_devices(tmp_path):
    args = ["--devices=8", "--config=experiments/ddpm_digits.py:tiny", f"--workdir={tmp_path / 'run'}"]
    result = subprocess.run(
        [sys.executable, "launch/local.py", *args], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert "8 cpu device(s)" in result.stdout
    assert config_lib.from_json((tmp_path / "run" / "config.json").read_text()).parallel == "pmap"


@pytest.mark.slow
def test_a_signal_to_the_launcher_reaches_the_training(tmp_path):
    args = ["--devices=2", "--config=experiments/ddpm_digits.py:tiny", *LONG, f"--workdir={tmp_path / 'run'}"]
    process = subprocess.Popen([sys.executable, "launch/local.py", *args], cwd=ROOT)
    done = tmp_path / "run" / "checkpoints" / "10" / "_CHECKPOINT_METADATA"
    deadline = time.monotonic() + 200
    while not done.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.terminate()
    assert process.wait(60) == 85
    assert 10 <= int(final_state(tmp_path / "run").step) < 120
