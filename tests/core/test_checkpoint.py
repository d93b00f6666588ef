import resource
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.core import checkpoint
from genmodels.core.checkpoint import Checkpoints, checksum
from genmodels.core.parallel import Parallel
from genmodels.core.state import TrainState
from genmodels.errors import StorageError
from tests.helpers import ROOT, digest


def state_at(step, width=300):
    params = {"net": {"layer": {"kernel": step + jnp.arange(width * 7.0).reshape(width, 7), "bias": jnp.ones(3)}}}
    return TrainState.create(params, {}, ema=True).replace(step=jnp.int32(step))


def restore(checkpoints, target=None, which="latest"):
    target = state_at(0) if target is None else target
    return checkpoints.restore(target, Parallel().state_shardings(target), which)


def saved(folder, values=(0.5, 0.1, 0.7, 0.9), warn=print):
    checkpoints = Checkpoints(folder, keep=2, warn=warn)
    for step, value in enumerate(values, start=1):
        checkpoints.save(state_at(step), step, value)
    checkpoints.wait()
    return checkpoints


def test_replicated_arrays_are_restored_whether_they_are_written_in_slices_or_in_one_piece(tmp_path):
    width = 8 * checkpoint.MIN_SLICE_BYTES // (7 * 4) + 8  # the kernel is just large enough for shares, the bias is not
    state = Parallel("sharded").place(state_at(3, width - width % 8))
    assert len(state.params["net"]["layer"]["kernel"].sharding.device_set) == 8
    assert state.params["net"]["layer"]["kernel"].nbytes >= 8 * checkpoint.MIN_SLICE_BYTES
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state, 3)
    checkpoints.wait()
    assert digest(restore(checkpoints, state)) == digest(state)
    checkpoints.close()


def data_files(folder, step):
    return [p for p in (folder / str(step) / "state").rglob("*") if p.is_file() and p.parent.name == "d"]


def test_the_latest_and_the_best_step_are_kept_over_restarts_and_nan_is_never_best(tmp_path):
    saved(tmp_path).close()
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.steps() == [2, 3, 4]
    checkpoints.save(state_at(5), 5, float("nan"))
    checkpoints.wait()
    assert checkpoints.steps() == [2, 4, 5]
    assert int(restore(checkpoints).step) == 5
    assert int(restore(checkpoints, which="best").step) == 2
    assert int(restore(checkpoints, which="4").step) == 4
    assert digest(restore(checkpoints)) == digest(state_at(5))
    with pytest.raises(StorageError, match="no checkpoint '3'"):
        restore(checkpoints, which="3")
    checkpoints.close()


def test_a_run_that_saves_without_values_has_no_best_step(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state_at(1), 1)
    checkpoints.wait()
    with pytest.raises(StorageError, match="none is the best; use latest"):
        restore(checkpoints, which="best")
    assert int(restore(checkpoints).step) == 1
    checkpoints.close()


def test_restore_returns_none_if_nothing_was_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert restore(checkpoints) is None
    checkpoints.close()


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_step_with_a_flipped_bit_is_set_aside_and_the_step_before_it_is_restored(tmp_path, place):
    saved(tmp_path).close()
    file = max(data_files(tmp_path, 4), key=lambda p: p.stat().st_size)
    data = bytearray(file.read_bytes())
    data[int(len(data) * place)] ^= 1
    file.write_bytes(data)
    said = []
    reader = Checkpoints(tmp_path, read_only=True, warn=said.append)
    assert int(restore(reader).step) == 3
    reader.close()
    assert (tmp_path / "4").exists()  # a reader changes nothing
    checkpoints = Checkpoints(tmp_path, keep=2, warn=said.append)
    assert digest(restore(checkpoints)) == digest(state_at(3))
    assert "checkpoint 4 is damaged" in said[-1]
    assert (tmp_path / "corrupt-4").is_dir()
    checkpoints.save(state_at(4), 4)  # its number is free again
    checkpoints.wait()
    assert int(restore(checkpoints).step) == 4
    checkpoints.close()


def test_missing_and_truncated_files_count_as_damage_and_a_run_without_intact_steps_is_refused(tmp_path):
    saved(tmp_path, values=(0.1, 0.2)).close()
    for file in data_files(tmp_path, 2):
        file.write_bytes(file.read_bytes()[:-9])
    for file in (tmp_path / "1" / "meta").rglob("*"):
        file.is_file() and file.unlink()
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(StorageError, match="no intact checkpoint"):
        restore(checkpoints)
    checkpoints.close()
    again = Checkpoints(tmp_path)
    with pytest.raises(StorageError, match="no intact checkpoint"):  # not silently from scratch
        restore(again)
    again.close()


def test_a_checkpoint_of_another_configuration_is_refused_and_not_set_aside(tmp_path):
    checkpoints = saved(tmp_path)
    with pytest.raises(StorageError, match=r"does not fit.*kernel"):
        restore(checkpoints, state_at(0, width=301))
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16) if x.dtype == jnp.float32 else x, state_at(0))
    with pytest.raises(StorageError, match="does not fit"):
        restore(checkpoints, half)
    assert checkpoints.steps() == [2, 3, 4]
    checkpoints.close()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
def test_the_checksum_sees_every_single_change_and_exchange(dtype):
    values = np.random.default_rng(0).integers(0, 2, 40)
    base = int(checksum(jnp.asarray(values, dtype)))
    for index in range(40):
        changed = values.copy()
        changed[index] ^= 1
        assert int(checksum(jnp.asarray(changed, dtype))) != base
    i, j = np.flatnonzero(values == 0)[0], np.flatnonzero(values == 1)[0]
    swapped = values.copy()
    swapped[[i, j]] = swapped[[j, i]]
    assert int(checksum(jnp.asarray(swapped, dtype))) != base


def test_the_checksum_sees_flipped_signs():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    two = values.copy()
    two[[3, 700]] *= -1
    assert len({int(checksum(jnp.asarray(x))) for x in (values, -values, two, np.roll(values, 1))}) == 4


def test_of_equally_good_steps_only_one_is_kept_as_best(tmp_path):
    checkpoints = saved(tmp_path, values=(0.5, 0.5, 0.5, 0.9, 0.9))
    assert checkpoints.steps() == [3, 4, 5]
    checkpoints.close()


@pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError(24, "Too many open files"), MemoryError()])
def test_a_disk_that_cannot_be_read_is_no_evidence_of_damage(error, tmp_path, monkeypatch):
    checkpoints = saved(tmp_path)

    def restore_fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(checkpoints._manager, "restore", restore_fails)
    with pytest.raises((StorageError, MemoryError)):
        restore(checkpoints)
    assert checkpoints.steps() == [2, 3, 4]
    checkpoints.close()


def test_deleted_steps_are_removed_from_the_disk(tmp_path):
    checkpoints = saved(tmp_path, values=(9, 8, 7, 6, 5, 4, 3, 2))
    assert checkpoints.steps() == [7, 8]
    folders = {path.name for path in tmp_path.rglob("state")}
    assert sum(1 for _ in tmp_path.rglob("state")) == 2, folders
    checkpoints.close()


def test_no_damaged_file_of_a_step_hides_the_others(tmp_path):
    """Every file of the newest step in turn is overwritten; the state restored is always a whole one that was saved."""
    saved(tmp_path / "whole", values=(0.5, 0.1)).close()
    files = [path for path in (tmp_path / "whole" / "2").rglob("*") if path.is_file()]
    assert len(files) >= 5
    for number, file in enumerate(files):
        folder = tmp_path / f"copy{number}"
        shutil.copytree(tmp_path / "whole", folder)
        (folder / file.relative_to(tmp_path / "whole")).write_bytes(b"\xff\x00{")
        for options in ({"read_only": True}, {}):
            checkpoints = Checkpoints(folder, **options)
            state = restore(checkpoints)
            assert digest(state) == digest(state_at(int(state.step)))
            checkpoints.close()


def test_a_damaged_step_requested_by_number_is_an_error_and_changes_nothing(tmp_path):
    saved(tmp_path).close()
    for file in data_files(tmp_path, 3):
        file.write_bytes(b"")
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(StorageError, match=r"checkpoint 3 is damaged .* other steps: 2, 4"):
        restore(checkpoints, which=3)
    assert checkpoints.steps() == [2, 3, 4]
    checkpoints.close()


def test_a_full_disk_is_reported_in_one_line(tmp_path):
    checkpoints = saved(tmp_path, values=(0.5,))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # Python ignores the signal; writing fails
    try:
        with pytest.raises(StorageError, match="cannot write a checkpoint"):
            checkpoints.save(state_at(2, width=30_000), 2) or checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    again = Checkpoints(tmp_path)
    assert int(restore(again).step) == 1
    again.close()


def test_a_checkpoint_of_another_format_is_refused_and_not_taken_for_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    saved(tmp_path).close()
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    reader = Checkpoints(tmp_path, read_only=True)
    with pytest.raises(StorageError, match="has format 1, this version reads format 2"):
        restore(reader)
    with pytest.raises(StorageError, match="has format 1"):
        Checkpoints(tmp_path)
    assert {"2", "3", "4"} <= {path.name for path in tmp_path.iterdir()}
    reader.close()


def vanishing(checkpoints, monkeypatch, steps):
    """Lets each of `steps` be deleted, as a training run does it, just before its arrays are read."""
    read = checkpoints._manager.restore

    def restore_late(step, args):
        if step in steps:
            steps.remove(step)
            (checkpoints.folder / "deleted").mkdir(exist_ok=True)
            (checkpoints.folder / str(step)).rename(checkpoints.folder / "deleted" / str(step))
        return read(step, args=args)

    monkeypatch.setattr(checkpoints._manager, "restore", restore_late)


@pytest.mark.parametrize(("which", "gone", "found"), [("latest", [4], 3), ("latest", [4, 3], 2), ("best", [2], 3)])
def test_a_step_that_training_deletes_meanwhile_is_not_damaged(which, gone, found, tmp_path, monkeypatch):
    saved(tmp_path).close()  # the values are least for 2, then for 3
    said = []
    reader = Checkpoints(tmp_path, read_only=True, warn=said.append)
    vanishing(reader, monkeypatch, gone)
    assert int(restore(reader, which=which).step) == found
    assert not said
    reader.close()


def test_a_named_step_that_is_gone_is_said_to_be_gone(tmp_path, monkeypatch):
    saved(tmp_path).close()
    reader = Checkpoints(tmp_path, read_only=True)
    vanishing(reader, monkeypatch, [3])
    for step in (3, 1):  # deleted while it is read, and before
        with pytest.raises(StorageError, match=f"no checkpoint '{step}' any more.*there are latest, best, 4, 2"):
            restore(reader, which=step)
    with pytest.raises(StorageError, match="no checkpoint '9'; there are"):
        restore(reader, which=9)
    reader.close()


def test_a_step_that_is_new_is_seen_by_a_reader_that_was_opened_before(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path)
    reader = Checkpoints(tmp_path, read_only=True)
    for step in (5, 6, 7):
        checkpoints.save(state_at(step), step)
    checkpoints.wait()
    assert int(restore(reader).step) == 7
    reader.close()
    checkpoints.close()


def test_a_run_that_deletes_faster_than_one_can_read_is_said_to(tmp_path, monkeypatch):
    saved(tmp_path).close()
    reader = Checkpoints(tmp_path, read_only=True)
    monkeypatch.setattr(reader, "_read", lambda *args: reader._check_there(99))
    with pytest.raises(StorageError, match=r"faster than they can be read here.*--config\.checkpoint\.every"):
        restore(reader)
    reader.close()


def test_a_step_saved_only_because_the_run_stopped_is_the_best_only_if_there_is_no_other(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state_at(1), 1, 0.1, planned=False)
    checkpoints.wait()
    assert int(restore(checkpoints, which="best").step) == 1
    for step, value in ((2, 0.5), (3, 0.9)):
        checkpoints.save(state_at(step), step, value)
    checkpoints.close()
    again = Checkpoints(tmp_path, keep=1)
    assert int(restore(again, which="best").step) == 2
    assert again.steps() == [2, 3]
    again.close()


def test_notes_come_back_bit_for_bit_even_if_they_change_while_they_are_written(tmp_path):
    sums = [0.1 + 0.2, 3.0]
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_at(1), 1, 1 / 3, notes={"sums": sums})
        sums[0] += 1
        checkpoints.wait()
        assert checkpoints.notes(1) == (1 / 3, {"sums": [0.1 + 0.2, 3.0]})


FULL = """
import resource, sys
import jax.numpy as jnp
from genmodels import cli
from genmodels.core.checkpoint import Checkpoints
def main():
    state = {f"array_{i}": jnp.arange(30_000.0) + i for i in range(20)}
    with Checkpoints(__import__("pathlib").Path(sys.argv[1])) as checkpoints:
        checkpoints.save(state, 1)
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))
        checkpoints.save(state, 2)
        checkpoints.wait()
cli.run(main)
"""


def test_a_save_that_fails_leaves_one_line_and_no_traceback_of_any_thread(tmp_path):
    code = [sys.executable, "-c", FULL.replace("sys.argv[1]", repr(str(tmp_path)))]
    result = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 4
    assert result.stderr == f"error: {tmp_path}: cannot write a checkpoint: File too large\n"
    assert [path.name for path in tmp_path.iterdir() if path.name.isdigit()] == ["1"]
