"""Files on a disk that refuses them: one line that names the file, and no part of it is left."""

import resource
import shutil

import numpy as np
import pytest
import safetensors.numpy

from genmodels.core.files import atomic_path, check_writable, disk_reason, write_arrays, write_text
from genmodels.errors import StorageError
from genmodels.evaluators.base import Result
from genmodels.reporting import files

LIMIT = 1000
NOISE = np.random.RandomState(0).randint(0, 256, (40, 32, 32, 3), np.uint8)


@pytest.fixture
def full():
    """No file may be longer than 1,000 bytes: the nearest to a full disk that needs no rights."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_safetensors(path):
    with atomic_path(path) as temporary:
        safetensors.numpy.save_file({"x": np.zeros(1000)}, temporary)


WRITERS = {
    "text.html": lambda path: write_text(path, "x" * 5000),
    "plain.npz": lambda path: write_arrays(path, {"x": NOISE, "y": NOISE}),
    "images.npz": lambda path: files.write_images(path, NOISE, None, ""),
    "grid.png": lambda path: files.write_images(path, NOISE, None, ""),
    "folder": lambda path: files.write_images(path, NOISE, None, ""),
    "results.json": lambda path: files.write_results(path, [Result("fd", 1.0, {"note": "x" * 5000})]),
    "model.safetensors": write_safetensors,  # its library raises an error of its own
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_the_disk_refuses_is_one_line_and_leaves_what_was_there(name, tmp_path, full):
    if name != "folder":
        (tmp_path / name).write_text("before")
    with pytest.raises(StorageError, match=rf"{name}.*: cannot be written: .*File too large") as caught:
        WRITERS[name](tmp_path / name)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.read_text() for path in left] == ([] if name == "folder" else ["before"])


def test_a_full_disk_is_noticed_before_hours_of_work(tmp_path, full):
    with pytest.raises(StorageError, match=r"a\.npz: cannot be written: File too large"):
        check_writable(tmp_path / "new" / "a.npz")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_vanishes_while_a_file_is_written_is_one_line(tmp_path):
    with pytest.raises(StorageError, match="cannot be written"), atomic_path(tmp_path / "run" / "a.txt") as temporary:
        shutil.rmtree(temporary.parent)


def test_other_errors_of_whoever_writes_stay_what_they_are(tmp_path):
    with pytest.raises(ValueError, match="no such thing"), atomic_path(tmp_path / "a.txt"):
        raise ValueError("no such thing")
    assert not list(tmp_path.iterdir())
    assert disk_reason(ValueError("no such thing")) is None
    assert (
        disk_reason(ValueError("RESOURCE_EXHAUSTED: d.tmp: No space left on device [x]")) == "No space left on device"
    )
