"""Batches: the same from memory and from worker processes, the same in parts, and every image once in evaluation."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from genmodels.data import pipeline
from genmodels.data.base import Settings
from genmodels.data.sources import make_source
from genmodels.errors import DataError
from tests.data.files import write_folder
from tests.helpers import ROOT

NAMES = [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(9)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "cache"))
    write_folder(tmp_path / "data", NAMES)
    return tmp_path / "data"


def opened(folder, memory_gb):
    return make_source(f"folder:{folder}", "train", Settings(memory_gb=memory_gb))


def drawn(source, **options):
    batches = pipeline.batches(source, 3, 7, 0, 9, **options)
    found = list(batches)
    batches.close()
    return found


def test_workers_and_memory_do_not_change_a_batch(folder):
    held, streamed = opened(folder, 1.0), opened(folder, 0.0)
    wanted = drawn(held)
    assert len(wanted) == 9
    for options in ({"workers": 0}, {"workers": 1}, {"workers": 2}):
        for one, other in zip(wanted, drawn(streamed, **options), strict=True):
            np.testing.assert_array_equal(one["image"], other["image"])
            np.testing.assert_array_equal(one["label"], other["label"])
    for step, batch in enumerate(wanted):
        np.testing.assert_array_equal(batch["image"], pipeline.make_batch(streamed, 3, step, 7)["image"])


def test_a_worker_names_the_file_that_changed(folder):
    source = opened(folder, 0.0)
    (folder / "dog" / "5.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"dog/5\.png: can no longer be read") as caught:
        drawn(source, workers=2)
    assert "\n" not in str(caught.value)


PROBE = """
import functools, json, os, signal, sys

def probe(step):
    import jax
    from jax._src import xla_bridge
    return {
        "environment": [jax.config.jax_platforms, os.environ.get("CUDA_VISIBLE_DEVICES")],
        "backends": list(xla_bridge._backends),
        "pid": os.getpid(),
        "ignores": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    }

if __name__ == "__main__":
    import grain
    from genmodels.data import pipeline
    from genmodels.data.base import Settings
    from genmodels.data.sources import make_source

    source = make_source("folder:" + sys.argv[1], "train", Settings(memory_gb=0.0))
    batches = pipeline.batches(source, 0, 4, 0, 10_000, workers=2)
    next(batches)
    probes = grain.MapDataset.range(0, 4).map(probe).to_iter_dataset()
    start = functools.partial(pipeline._start_worker, parent=os.getpid())
    probes = probes.mp_prefetch(grain.MultiprocessingOptions(2), worker_init_fn=start)
    print(json.dumps(list(probes)), flush=True)
    for _ in batches:
        pass
"""


def test_workers_touch_no_accelerator_and_die_with_their_parent(folder, tmp_path):
    (tmp_path / "probe.py").write_text(PROBE)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "probe.py"), str(folder)], env=env, text=True, stdout=subprocess.PIPE
    )
    seen = json.loads(parent.stdout.readline())
    assert len({worker["pid"] for worker in seen}) == 2
    for worker in seen:
        assert worker["pid"] != parent.pid
        assert (worker["environment"], worker["backends"], worker["ignores"]) == (["cpu", ""], [], True)
    children = children_of(parent.pid)
    assert children
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 30
    while any(alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(child) for child in children)


def test_a_worker_whose_parent_died_while_it_was_starting_leaves():
    code = "from genmodels.data import pipeline; pipeline._leave_with(parent=-1); raise SystemExit(3)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0


def children_of(pid):
    lists = pathlib.Path(f"/proc/{pid}/task").glob("*/children")  # of each thread
    return [int(child) for children in lists for child in children.read_text().split()]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("count", "size"), [(297, 40), (8, 4), (3, 8)])
def test_padded_batches_hold_every_row_exactly_once(count, size):
    seen = []
    for start in range(0, count, size):
        padded, real = pipeline.pad_rows({"label": np.arange(count)[start : start + size]}, size)
        assert len(padded["label"]) == len(real) == size
        seen.append(padded["label"][real])
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(count))


def test_padding_repeats_the_last_row_and_says_so():
    padded, real = pipeline.pad_rows({"x": np.arange(3), "rows": {"y": np.eye(3)}}, 5)
    np.testing.assert_array_equal(padded["x"], [0, 1, 2, 2, 2])
    np.testing.assert_array_equal(padded["rows"]["y"], np.eye(3)[[0, 1, 2, 2, 2]])
    np.testing.assert_array_equal(real, [True, True, True, False, False])


def test_a_killed_worker_is_one_line_and_leaves_no_process_behind(folder):
    batches = pipeline.batches(opened(folder, 0.0), 0, 4, 0, 100_000, workers=1)
    before = set(children_of(os.getpid()))
    next(batches)
    (worker,) = [child for child in set(children_of(os.getpid())) - before if "spawn_main" in command_line(child)]
    for number in pipeline.STOPS:  # a terminal and a scheduler send them to all processes: the worker ignores them
        os.kill(worker, number)
    next(batches)
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(DataError, match=r"data worker process was killed.*--config\.data\.workers=1") as caught:
        for _ in batches:
            pass
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4
    assert not alive(worker)


def command_line(pid):
    return pathlib.Path(f"/proc/{pid}/cmdline").read_text()


def test_processes_that_are_started_for_batches_are_shielded_from_the_signals_that_stop_a_run():
    code = "import signal; print(*sorted(int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
    with pipeline._children_shielded():
        shielded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {int(number) for number in shielded.split()} >= set(pipeline.STOPS)
    assert not set(pipeline.STOPS) & signal.pthread_sigmask(signal.SIG_BLOCK, ())
