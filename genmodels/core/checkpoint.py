"""Checkpoints of the whole training state: Orbax stores the arrays, this module adds verification and recovery.

Orbax does not notice when array data has changed on disk. A checksum of every leaf is therefore stored with each
checkpoint and verified on restoring. Restoring starts at the newest step and goes back until it finds an intact one.
A damaged step is renamed to `corrupt-<step>`, but only on evidence: a checksum differs, or data cannot be read although
its description is intact and fits. A step that a training run deletes while another process reads it is not damaged:
the reader looks at the list again. The newest steps and the best step are kept.

The state is stored as a flat mapping from names ("params.denoiser.conv_in.kernel") to arrays.
"""

import contextlib
import gc
import hashlib
import json
import math
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import Array, UInt32
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN

from genmodels.core import orbax_noise
from genmodels.core.best_step import UNRANKED, BestStep, Rank, best_first
from genmodels.core.files import disk_reason
from genmodels.core.names import natural
from genmodels.errors import StorageError

PyTree = Any
FORMAT = 2  # version of the description; version 1 had no entry "format" and a weaker checksum
UNAVAILABLE = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "ABORTED", "CANCELLED", "DEADLINE_EXCEEDED")
DAMAGE_OSERRORS = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
MIN_SLICE_BYTES = 2**20  # a replicated array is written in slices, one per device, only if slices are at least so large
DELETED = "deleted"  # folder of steps being deleted: a kill leaves half-deleted steps here, where nothing lists them
MAX_LISTINGS = 20  # attempts to read a step before a training run deletes it
NO_NOTES: Mapping[str, Any] = MappingProxyType({})


class CorruptError(Exception):
    """A checkpoint on disk differs from what was written."""


class VanishedError(Exception):
    """A checkpoint was deleted while it was read."""


def flat(tree: PyTree) -> dict[str, Any]:
    """A nested tree as a flat dictionary {"a.b.c": leaf}."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def checksum(leaf: Array) -> UInt32[Array, ""]:
    """Sum over positions i of mix(bits of element i + weight(i)), modulo 2^32.

    `mix` is the finaliser of MurmurHash3, a bijection of 32-bit words. A change within one word is therefore always
    detected; a change of several words (exchanged elements, flipped signs) is missed with probability 2^-32.
    """
    width = leaf.dtype.itemsize
    if leaf.dtype == jnp.bool_:
        bits = leaf.astype(jnp.uint32)
    else:
        words = {1: jnp.uint8, 2: jnp.uint16}.get(width, jnp.uint32)
        bits = jax.lax.bitcast_convert_type(leaf, words).astype(jnp.uint32)
    h = bits.reshape(-1)
    h += jax.lax.iota(jnp.uint32, h.size) * jnp.uint32(0x9E3779B1)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        h = (h ^ (h >> shift)) * jnp.uint32(factor)
    return jnp.sum(h, dtype=jnp.uint32)


_checksums = jax.jit(lambda leaves: jax.tree.map(checksum, leaves))


def _describe(leaves: dict[str, Any]) -> dict[str, list]:
    return {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in leaves.items()}


def _digest(meta: dict[str, Any]) -> str:
    body = {key: value for key, value in meta.items() if key != "digest"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def newest(folder: pathlib.Path) -> int | None:
    """The newest step in a `checkpoints/` folder, found by name only and perhaps damaged; None if there is none."""
    return max(_listed(folder), default=None)


def _listed(folder: pathlib.Path) -> list[int]:
    """The steps in a `checkpoints/` folder, oldest first. A step gets its name when it is complete."""
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit())


def _array_handler() -> ocp.PyTreeCheckpointHandler:
    """A handler that writes small replicated arrays in one piece.

    By default Orbax lets every device write a slice of every replicated array. That pays only for large arrays: `save`
    of 427 small ones on 8 virtual CPU devices returned after 1.4 s with slices and after 0.2 s without.
    """
    jax_arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=MIN_SLICE_BYTES)
    registry = ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, ocp.type_handlers.NumpyHandler()), (jax.Array, jax_arrays)
    )
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


class Checkpoints:
    """The `checkpoints/` folder of a work directory; a context manager, which closes it.

    Args:
      folder: created when missing, unless read_only.
      keep: how many of the newest steps are kept. The best step, by the value given to `save`, is kept as well.
      read_only: never writes, renames or deletes, e.g. for an evaluation while training runs.
      warn: called with one line for each damaged step.
    """

    def __init__(
        self, folder: pathlib.Path, *, keep: int = 2, read_only: bool = False, warn: Callable[[str], None] = print
    ):
        self.folder = folder.absolute()
        self._read_only = read_only
        self._warn = warn
        self._ranks: dict[int, Rank] = {}
        orbax_noise.silence()
        options = ocp.CheckpointManagerOptions(
            read_only=read_only,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
            preservation_policy=AnyPreservationPolicy([LatestN(keep), BestStep(self._ranks)]),
            todelete_subdir=None if read_only else DELETED,
            lightweight_initialize=read_only,  # else it looks into steps that a training run may delete meanwhile
        )
        handlers = {"state": _array_handler(), "meta": ocp.JsonCheckpointHandler()}
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot be opened: {error}") from error
        if not read_only:
            self._purge()
            self._ranks.update(self._all_ranks())

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Closes it. If an error is being raised already, an error of closing does not replace it."""
        with contextlib.suppress(StorageError) if error else contextlib.nullcontext():
            self.close()

    def _purge(self) -> None:
        """Deletes the steps that Orbax has only moved to the folder DELETED."""
        for path in (self.folder / DELETED).glob("*"):
            shutil.rmtree(path, ignore_errors=True)

    def steps(self) -> list[int]:
        """The steps whose checkpoints are complete, oldest first."""
        return _listed(self.folder)

    def save(
        self,
        state: PyTree,
        step: int,
        value: float = math.inf,
        *,
        planned: bool = True,
        notes: Mapping[str, Any] = NO_NOTES,
    ) -> None:
        """Starts writing `state` as `step` and returns before it is on disk; does nothing if the step exists.

        Args:
          value: the smallest value over all steps marks the best checkpoint; a value that is not finite never does.
          planned: False where the step is saved only because the run ends there. Such a step is the best only if no
            planned one has a value, so that stopping a run does not change which step is its best.
          notes: what else a resumed run needs, as JSON; `notes` returns it.
        Raises:
          StorageError: this write or the previous one failed.
        """
        if step in self._manager.all_steps():
            return
        leaves = flat(state)
        sums = {name: int(total) for name, total in jax.device_get(_checksums(leaves)).items()}
        value = float(value) if math.isfinite(value) else math.inf
        meta = {"format": FORMAT, "step": step, "value": repr(value), "leaves": _describe(leaves), "checksums": sums}
        # Copied, because they are written in the background while whoever gave them goes on.
        meta |= {"planned": planned, "notes": json.loads(json.dumps(dict(notes)))}
        meta["digest"] = _digest(meta)
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(leaves), meta=ocp.args.JsonSave(meta))
        self._ranks[step] = (not planned, value)
        with self._writing():
            self._manager.save(step, args=items, force=True)
        self._purge()

    def wait(self) -> None:
        """Blocks until the last save is on disk.

        Raises:
          StorageError: the save failed.
        """
        with self._writing():
            self._manager.wait_until_finished()
        if not self._read_only:
            self._purge()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:  # a full disk is a ValueError from tensorstore
            for path in self.folder.glob("*.orbax-checkpoint-tmp"):  # what there is of it takes space in vain
                shutil.rmtree(path, ignore_errors=True)
            text = " ".join(str(error).split())
            reason = disk_reason(error) or text[:300]
            raise StorageError(f"{self.folder}: cannot write a checkpoint: {reason}") from error

    def close(self) -> None:
        """Waits for an unfinished save and releases Orbax's threads.

        Raises:
          StorageError: the save failed.
        """
        try:
            self.wait()
        except StorageError:
            with contextlib.suppress(Exception):  # it fails for the same reason
                self._manager.close()
            raise
        with self._writing():
            self._manager.close()

    def notes(self, step: int) -> tuple[float, dict[str, Any]]:
        """The `value` and the `notes` that were given to `save` with this step; a run of an older version has no notes.

        Raises:
          CorruptError: its description cannot be read.
        """
        meta = self._read_meta(step)
        return float(meta["value"]), meta.get("notes", {})

    def restore(self, target: PyTree, shardings: PyTree, which: str | int = "latest") -> PyTree | None:
        """The newest intact state (or the best, or the state of a given step); None if nothing was ever saved.

        Args:
          target: arrays or ShapeDtypeStructs with the expected structure, shapes and dtypes.
          shardings: one for each leaf of `target`.
          which: "latest", "best" or a step number.
        Raises:
          StorageError: the checkpoint belongs to another configuration, the requested step does not exist or is
            damaged, or every checkpoint is damaged.
        """
        for _ in range(MAX_LISTINGS):
            with contextlib.suppress(VanishedError):
                return self._restore(target, shardings, str(which))
        raise StorageError(
            f"{self.folder}: a training run deletes its checkpoints faster than they can be read here; save less often "
            f"with --config.checkpoint.every, or keep more of them with --config.checkpoint.keep"
        )

    def _restore(self, target: PyTree, shardings: PyTree, which: str) -> PyTree | None:
        candidates = self._candidates(which)
        for step in candidates:
            try:
                return self._read(step, target, shardings)
            except CorruptError as error:
                if which.isdigit():
                    others = ", ".join(str(other) for other in self.steps() if other != step) or "none"
                    raise StorageError(
                        f"{self.folder}: checkpoint {step} is damaged ({error}); other steps: {others}"
                    ) from error
                self._warn(f"checkpoint {step} is damaged ({error}); trying the one before it")
                self._set_aside(step)
        damaged = sorted((path.name for path in self.folder.glob("corrupt-*")), key=natural)
        if candidates or damaged:
            names = ", ".join(damaged) or ", ".join(map(str, candidates))
            raise StorageError(
                f"{self.folder}: no intact checkpoint is left (damaged: {names}); restore a backup, or "
                f"delete this folder to train from the start"
            )
        return None

    def _candidates(self, which: str) -> list[int]:
        steps = self.steps()[::-1]
        if which == "latest" or not steps:
            return steps
        if which == "best":
            ranks = self._all_ranks()
            if not any(math.isfinite(value) for _, value in ranks.values()):
                raise StorageError(f"{self.folder}: this run ranks no checkpoint, so that none is the best; use latest")
            return best_first(ranks)
        if not which.isdigit() or int(which) not in steps:
            known = ", ".join(map(str, steps))
            deleted = which.isdigit() and int(which) < steps[0]
            why = " any more, or there never was: a run keeps its newest ones and the best" if deleted else ""
            raise StorageError(f"{self.folder}: there is no checkpoint {which!r}{why}; there are latest, best, {known}")
        return [int(which)]

    def _all_ranks(self) -> dict[int, Rank]:
        return {step: self._rank(step) for step in self.steps()}

    def _rank(self, step: int) -> Rank:
        try:
            meta = self._read_meta(step)
            return (not meta.get("planned", True), float(meta["value"]))
        except CorruptError:
            return UNRANKED

    def _read(self, step: int, target: PyTree, shardings: PyTree) -> PyTree:
        meta = self._read_meta(step)
        expected = _describe(flat(target))
        if meta["leaves"] != expected:
            names = meta["leaves"].keys() ^ expected.keys() or {n for n in expected if meta["leaves"][n] != expected[n]}
            raise StorageError(
                f"{self.folder}: checkpoint {step} does not fit this configuration: {len(names)} arrays differ, "
                f"e.g. {min(names)}"
            )
        flat_shardings = flat(shardings)
        abstract = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=flat_shardings[name])
            for name, leaf in flat(target).items()
        }
        restore_args = ocp.args.PyTreeRestore(abstract, ocp.checkpoint_utils.construct_restore_args(abstract))
        with self._reading(step, "unreadable"):
            items = self._manager.restore(step, args=ocp.args.Composite(state=restore_args))
        leaves = items["state"]
        sums = jax.device_get(_checksums(leaves))
        bad = [name for name, value in meta["checksums"].items() if int(sums[name]) != value]
        if bad:
            self._check_there(step)
            raise CorruptError(f"the checksum of {bad[0]} differs")
        order = [leaves[name] for name in flat(target)]
        return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(target), order)

    @contextlib.contextmanager
    def _reading(self, step: int, what: str) -> Iterator[None]:
        """Raises CorruptError for damaged data and StorageError for a disk that cannot be read at the moment.

        Missing permissions, too many open files or too little memory are no evidence of damage. Nor is a step that is
        not there any more, for which VanishedError is raised.
        """
        try:
            yield
        except Exception as error:
            gc.collect()  # frees the abandoned reads, each of which has open files
            self._check_there(step)
            cause = error.__cause__ or error if type(error) is Exception else error  # Orbax wraps in bare Exceptions
            text = " ".join(str(cause).split())[:160]
            unavailable = isinstance(cause, OSError) and not isinstance(cause, DAMAGE_OSERRORS)
            if unavailable or text.startswith(UNAVAILABLE):
                raise StorageError(f"{self.folder}: cannot read checkpoint {step}: {text}") from error
            if isinstance(cause, (ValueError, KeyError, OSError)):
                raise CorruptError(f"{what}: {text}") from error
            raise

    def _check_there(self, step: int) -> None:
        if not (self.folder / str(step)).exists():
            raise VanishedError(f"{self.folder}: checkpoint {step} was deleted while it was read")

    def _read_meta(self, step: int) -> dict[str, Any]:
        with self._reading(step, "unreadable description"):
            meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        if not isinstance(meta, dict) or meta.get("digest") != _digest(meta):
            raise CorruptError("its description has changed")
        if meta.get("format") != FORMAT:
            raise StorageError(
                f"{self.folder}: checkpoint {step} has format {meta.get('format', 1)}, this version reads format "
                f"{FORMAT}; use the version of genmodels that wrote it, or another --workdir"
            )
        return meta

    def _set_aside(self, step: int) -> None:
        if self._read_only:
            return
        target = self.folder / f"corrupt-{step}"
        number = 1
        while target.exists():
            number += 1
            target = self.folder / f"corrupt-{step}.{number}"
        (self.folder / str(step)).rename(target)
        self._manager.reload()
