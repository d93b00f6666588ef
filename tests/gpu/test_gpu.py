"""The script's time boxes and reports on entries that are known to fail, hang and die; its entries on the CPU."""

import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests import QUICK_COMPILE
from tests.gpu import __main__ as main
from tests.gpu import checks, report, worker
from tests.gpu.__main__ import run
from tests.gpu.measurements import published
from tests.gpu.plan import DETERMINISTIC, OWN, PUBLISHED, SHARED, Entry, entries
from tests.helpers import ROOT
from tests.test_conformance import MORE, RUNS

HERE = "tests.gpu.stand_ins"
FAST = ("passing", "failing", "raising", "skipping", "dying", "hanging", "passing")


def note_in(found):
    def note(entry, outcome, seconds):
        found.append(report.record(entry, outcome, seconds))

    return note


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """What becomes of entries that pass, fail, raise, skip, die and hang, in turn, and their log."""
    log, found = tmp_path_factory.mktemp("gpu") / "log.txt", []
    plan = [Entry(name, f"{HERE}:{name}", (index,), box=2.0) for index, name in enumerate(FAST)]
    run(plan, time.monotonic() + 300, False, worker.Worker(SHARED, log), note_in(found))
    return found, log


def test_an_entry_that_fails_hangs_or_dies_does_not_stop_the_others(records):
    found, log = records
    assert [entry["status"] for entry in found] == [
        "passed",
        "failed",
        "failed",
        "skipped",
        "failed",
        "failed",
        "passed",
    ]
    reasons = dict(zip(FAST, (entry["reason"] for entry in found), strict=True))
    assert reasons["failing"] == "too far"
    assert found[1]["details"] == {"errors": {"a": 2.0}}
    assert reasons["raising"] == "ValueError: first line"
    assert "raising" in found[2]["details"]["traceback"]
    assert reasons["skipping"] == "there is no such library"
    assert "exit code 7" in reasons["dying"]
    assert "time box of 2 s" in reasons["hanging"]
    assert 2 <= found[5]["seconds"] < 4
    assert "heard of 0" in log.read_text()


def test_entries_share_a_process_unless_they_ask_for_their_own_or_for_other_flags(tmp_path):
    kinds, found = [SHARED, SHARED, DETERMINISTIC, OWN, OWN], []
    plan = [Entry(str(i), f"{HERE}:process", worker=kind) for i, kind in enumerate(kinds)]
    run(plan, time.monotonic() + 300, False, worker.Worker(SHARED, tmp_path / "log.txt"), note_in(found))
    a, b, c, d, e = (entry["details"]["id"] for entry in found)
    assert a == b
    assert len({a, c, d, e}) == 4
    assert "xla_gpu_deterministic_ops=true" in found[2]["details"]["flags"]
    assert "deterministic" not in found[3]["details"]["flags"]


def test_what_no_longer_fits_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(main, "MIN_SECONDS_LEFT", 1.0)
    found = []
    plan = [Entry("long", f"{HERE}:hanging", (0,), box=100.0), Entry("late", f"{HERE}:passing", (0,))]
    began = time.monotonic()
    first = worker.Worker(SHARED, tmp_path / "log.txt")
    run(plan, began + 4, False, first, note_in(found))
    assert [entry["status"] for entry in found] == ["skipped", "skipped"]
    assert "the time was over after" in found[0]["reason"]
    assert found[1]["reason"] == "no time left"
    assert time.monotonic() - began < 8
    assert not first.alive


def test_the_files_hold_every_entry_and_the_table_its_speed_against_another(tmp_path):
    def measured(name, rate, counterpart=""):
        details = {"images_per_s": rate, "ms": 1.0, "batch": 8, "parameters": 10, "first step s": 1.0}
        outcome = worker.Outcome("passed", details=details | {"memory GB": 1.5, "memory by": "device"})
        return report.record(Entry(name, "", counterpart=counterpart), outcome, 3.0)

    result = {"command": "c", "date": "d", "toy": False, "machine": {"device": "a device"}}
    checked = report.record(Entry("step/x", ""), worker.Outcome("failed", "too | far", {"errors": {"a": 0.25}}), 1.0)
    result["entries"] = [checked, measured("published/x", 300.0), measured("torch/x", 150.0, "published/x")]
    report.write(tmp_path, result)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    lines = (tmp_path / "result.md").read_text().splitlines()
    assert "| step/x | failed | 1 | too / far; error: a 0.25 |" in lines
    (line,) = (line for line in lines if line.startswith("| torch/x"))
    assert "| 0.50 x published/x |" in line


def test_every_conformance_row_has_its_entry_and_names_are_unique():
    names = [entry.name for entry in entries(list(RUNS), list(MORE))]
    assert len(set(names)) == len(names)
    assert {f"step/{row}" for row in (RUNS | MORE)} <= set(names)
    assert {f"published/{name}" for name in PUBLISHED} <= set(names)


def test_a_step_on_the_cpu_is_the_cpus(monkeypatch):
    monkeypatch.setattr(checks, "VARIANTS", {"float32 sharded": checks.VARIANTS["float32 sharded"]})
    assert checks.step(True, "classifier")["errors"]["float32 sharded"] < 1e-5


def test_a_device_that_computes_something_else_fails(monkeypatch):
    monkeypatch.setattr(checks, "VARIANTS", {"wrong": checks.VARIANTS["float32 pmap"]})
    right = checks.trained

    def wrong(row, variant, device, start):
        state, loss = right(row, variant, device, start)
        if variant is checks.REFERENCE:
            return state, loss
        return state.replace(
            params=jax.tree.map(lambda new, old: 1.01 * new - 0.01 * old, state.params, start.params)
        ), loss

    monkeypatch.setattr(checks, "trained", wrong)
    with pytest.raises(worker.Failure, match=r"wrong 0\.01"):
        checks.step(True, "classifier")


def test_the_distance_is_relative_to_what_the_steps_changed_part_by_part():
    class State:
        def __init__(self, a, b=0.0):
            self.params, self.extra = {"network": {"a": np.full(4, a), "b": np.full(4, b)}}, {}

    assert checks.distance(State(1.0), State(1.1), State(1.2)) == (pytest.approx(1.0), "network/a")
    assert checks.distance(State(1.0), State(1.1), State(1.1))[0] == 0.0
    assert checks.distance(State(1.0, 1.0), State(2.0, 1.1), State(2.0, 1.2)) == (pytest.approx(1.0), "network/b")
    assert checks.distance(State(1.0), State(2.0), State(2.0, 1e-4))[0] == pytest.approx(1e-4 / checks.STILL)


@pytest.mark.slow
def test_a_measured_step_says_its_speed_and_memory():
    found = published(True, PUBLISHED["vit_b16"])
    assert found["images_per_s"] == pytest.approx(1000 * found["batch"] / found["ms"])
    assert found["memory GB"] > 8 * found["parameters"] / 1e9  # parameters and SGD's momentum in float32
    assert found["memory by"] == "plan"


@pytest.mark.slow
def test_the_script_runs_on_a_cpu(tmp_path):
    env = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "PJRT_NPROC")}
    chosen = "step/(vae|gan)$|attention|resume/classifier|published/(ddpm_cifar10|vit_b16)$|torch/[a-z]*$"
    launch = [sys.executable, "-m", "tests.gpu", "--minutes=15", f"--only={chosen}", f"--out={tmp_path}"]
    done = subprocess.run(launch, cwd=ROOT, env=env | {"XLA_FLAGS": QUICK_COMPILE}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["machine"]["platform"] == "cpu"
    assert result["toy"]
    became = {entry["name"]: entry["status"] for entry in result["entries"]}
    torch = {became.pop("torch/unet"), became.pop("torch/vit")}
    assert torch <= {"passed", "skipped"}
    assert became == {
        "step/vae": "passed",
        "step/gan": "passed",
        "attention/unet": "skipped",
        "attention/vit": "skipped",
        "resume/classifier": "passed",
        "published/ddpm_cifar10": "passed",
        "published/vit_b16": "passed",
    }
    assert pathlib.Path(tmp_path / "result.md").read_text() in done.stdout
