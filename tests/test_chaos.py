"""What real processes meet: signals to all of a run, killed workers, broken outputs, full disks, moved folders."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from genmodels.reporting.writers import read_metrics
from tests import QUICK_COMPILE
from tests.data.test_pipeline import children_of, command_line
from tests.helpers import ROOT, command, digest, final_state, finish

pytestmark = pytest.mark.slow
CLASSIFIER = ("train", "--config=experiments/classifier_digits.py:tiny")
ENDLESS = ("--config.train.steps=1000000", "--config.checkpoint.every=1000000")


def start(*args, prefix=(), **options):
    """A command in a process group of its own, as a terminal or a scheduler starts it, perhaps behind `nohup`."""
    env = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "PJRT_NPROC")}
    argv = [*prefix, sys.executable, "-m", f"genmodels.{args[0]}", *args[1:]]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    env |= {"XLA_FLAGS": QUICK_COMPILE}
    return subprocess.Popen(argv, cwd=ROOT, env=env, text=True, start_new_session=True, **options)


def wait_for(process, condition, seconds=200):
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()


def trains(workdir):
    return lambda: len(read_metrics(workdir / "metrics.jsonl")) >= 3


@pytest.fixture
def streamed(tmp_path, monkeypatch):
    """Flags of a data set that two worker processes decode."""
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "cache"))
    rng = np.random.RandomState(0)
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(40):
            pixels = rng.randint(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.png")
    return (f"--config.data.source=folder:{tmp_path / 'data'}", "--config.data.memory_gb=0", "--config.data.workers=2")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 85),
        (signal.SIGHUP, 85),
        (signal.SIGUSR1, 85),
        (signal.SIGINT, 130),
        (signal.SIGQUIT, 130),
    ],
)
def test_a_signal_to_every_process_of_a_run_saves(number, code, streamed, tmp_path):
    process = start(*CLASSIFIER, *ENDLESS, *streamed, f"--workdir={tmp_path / 'run'}")
    wait_for(process, trains(tmp_path / "run"))
    os.killpg(process.pid, number)
    found, out, err = finish(process)
    assert (found, err) == (code, "")
    assert "stopped and saved" in out
    assert int(final_state(tmp_path / "run").step) >= 6


def test_a_run_under_nohup_outlives_its_terminal(tmp_path):
    process = start(*CLASSIFIER, *ENDLESS, f"--workdir={tmp_path / 'run'}", prefix=["nohup"])
    wait_for(process, trains(tmp_path / "run"))
    os.killpg(process.pid, signal.SIGHUP)
    count = len(read_metrics(tmp_path / "run" / "metrics.jsonl"))
    wait_for(process, lambda: len(read_metrics(tmp_path / "run" / "metrics.jsonl")) > count + 20)
    process.terminate()
    assert finish(process)[0] == 85


def test_a_killed_worker_costs_no_step(streamed, tmp_path):
    process = start(*CLASSIFIER, *ENDLESS, *streamed, f"--workdir={tmp_path / 'run'}")
    wait_for(process, trains(tmp_path / "run"))
    workers = [child for child in children_of(process.pid) if "spawn_main" in command_line(child)]
    os.kill(workers[0], signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 4
    assert len(err.splitlines()) == 1
    assert "data worker process was killed" in err
    assert err.endswith(f"; step {int(final_state(tmp_path / 'run').step)} is saved\n")


@pytest.mark.parametrize("shell", ["| head -3", "> /dev/full", "2> /dev/full > /dev/full", ">&- 2>&-"])
def test_a_broken_log_does_not_end_a_run(shell, tmp_path):
    train = f'"{sys.executable}" -m genmodels.{" ".join(CLASSIFIER)} --workdir={tmp_path}/run'
    run = f"{train} {shell}; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", run], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0
    assert len(result.stderr.splitlines()) <= 1
    assert int(final_state(tmp_path / "run").step) == read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["step"]


@pytest.mark.parametrize("limit", [2000, 10_000, 30_000, 100_000])
def test_a_limit_on_the_length_of_files_is_one_line(limit, tmp_path):
    """Of whatever file it meets first, and with a log that has the limit, too."""
    args = (*CLASSIFIER, "--config.train.steps=3000", "--config.checkpoint.every=20", f"--workdir={tmp_path / 'run'}")
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = start(*args, stdout=out, stderr=err, prefix=["prlimit", f"--fsize={limit}"])
        assert process.wait(300) == 4
    said = (tmp_path / "err").read_text()
    assert len(said.splitlines()) == 1 + said.startswith("note: standard output cannot be written")
    assert "cannot be written" in said or "cannot write a checkpoint: File too large" in said
    assert finish(start(*args))[0] == 0
    whole = (*args[:-1], f"--workdir={tmp_path / 'whole'}")
    assert finish(start(*whole))[0] == 0
    assert digest(final_state(tmp_path / "run")) == digest(final_state(tmp_path / "whole"))


@pytest.mark.parametrize("options", ["size=300k", "size=500k", "nr_inodes=30", "nr_inodes=60", "nr_inodes=90"])
def test_a_full_disk_is_one_line_and_what_is_saved_is_whole(options, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs rights that this process has not")
    try:
        args = (*CLASSIFIER, "--config.train.steps=3000", "--config.checkpoint.every=20")
        code, _, err = finish(start(*args, f"--workdir={disk / 'run'}"), timeout=300)
        assert (code, len(err.splitlines())) == (4, 1), err
        shutil.copytree(disk / "run", tmp_path / "run")
    finally:
        subprocess.run(["umount", disk], check=True)
    assert finish(start(*args, f"--workdir={tmp_path / 'run'}"))[0] == 0
    assert finish(start(*args, f"--workdir={tmp_path / 'whole'}"))[0] == 0
    assert digest(final_state(tmp_path / "run")) == digest(final_state(tmp_path / "whole"))


def test_a_work_directory_that_is_renamed_is_one_line_and_goes_on_in_its_new_place(tmp_path):
    args = (*CLASSIFIER, "--config.train.steps=20000", "--config.checkpoint.every=50")
    process = start(*args, f"--workdir={tmp_path / 'run'}")
    wait_for(process, lambda: (tmp_path / "run" / "checkpoints" / "100").exists())
    (tmp_path / "run").rename(tmp_path / "moved")
    code, _, err = finish(process)
    assert (code, len(err.splitlines())) == (4, 1)
    assert "was moved or deleted under the run" in err
    # A save that is under way when the folder is renamed may still end in the old place; nothing else does.
    assert {path.name for path in (tmp_path / "run").glob("*")} <= {"checkpoints"}
    assert int(final_state(tmp_path / "moved").step) >= 100


def test_a_precision_that_the_cpu_has_not_is_one_line(tmp_path):
    """In bfloat16 XLA compiles no gradient of a convolution of 1x1 maps on a CPU."""
    args = ("train", "--config=experiments/ddpm_digits.py:tiny", "--config.model.dtype=bfloat16")
    args += ("--config.model.multipliers=1,1,1,1", f"--workdir={tmp_path / 'run'}")
    code, _, err = finish(start(*args))
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "the training step cannot run on cpu devices: change config.model.dtype" in err
    code, _, err = finish(start(*args, "--v=1"))
    assert code == 2
    assert "Traceback" in err
    assert "\nerror: the training step cannot run" in err


def test_sampling_beside_a_training_run_never_calls_a_deleted_step_damaged(tmp_path):
    """A run that saves after every second step; each of 8 calls finds a step that is still there."""
    args = ("train", "--config=experiments/ddpm_digits.py:tiny", "--config.train.steps=1000000")
    process = start(*args, "--config.checkpoint.every=2", f"--workdir={tmp_path / 'run'}")
    wait_for(process, lambda: (tmp_path / "run" / "checkpoints" / "20").exists())
    for call in range(8):
        sample = command("sample", f"--workdir={tmp_path / 'run'}", "--num=2", f"--out={tmp_path}/{call}.png")
        code, out, err = finish(sample)
        assert (code, err) == (0, "")
        assert "damaged" not in out
    process.terminate()
    assert finish(process)[0] == 85
