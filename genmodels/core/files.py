"""Writing files atomically: a file is complete or it is not there."""

import contextlib
import errno
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from genmodels.errors import StorageError

# Why a disk refuses a write. Some libraries raise errors of their own with these words.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO, errno.EMFILE)
PROBE_BYTES = 4096


def disk_reason(error: BaseException) -> str | None:
    """Why the disk refused a write, from the error of any library; None for an error that is not of the disk."""
    return next((reason for reason in map(os.strerror, DISK_ERRORS) if reason in str(error)), None)


def cache_folder() -> pathlib.Path:
    """$GENMODELS_CACHE; else genmodels in $XDG_CACHE_HOME or ~/.cache; without a home, in the temporary files."""
    if given := os.environ.get("GENMODELS_CACHE"):
        return pathlib.Path(os.path.expanduser(given))
    home = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return pathlib.Path(tempfile.gettempdir() if home.startswith("~") else home) / "genmodels"


@contextlib.contextmanager
def atomic_path(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary file in the folder of `path`, and renames it to `path` if the block succeeds.

    If the block fails, the temporary file is deleted and `path` stays unchanged.

    Raises:
      StorageError: the folder or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        os.chmod(name, 0o644)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error
    temporary = pathlib.Path(name)
    try:
        yield temporary
        os.replace(temporary, path)
    except Exception as error:
        reason = str(error) if isinstance(error, OSError) else disk_reason(error)
        if reason is None:
            raise
        raise StorageError(f"{path}: cannot be written: {reason}") from error
    finally:
        with contextlib.suppress(OSError):  # its folder may be gone or read-only by now
            temporary.unlink(missing_ok=True)


def check_writable(path: pathlib.Path) -> None:
    """Checks, before hours of work, that a file or folder can be created at `path`; leaves nothing there.

    Raises:
      StorageError: the nearest existing folder is read-only or its disk is full, or a part of the path is a file.
    """
    path = path.absolute()
    try:
        existing = next(folder for folder in ([path] if path.is_dir() else []) + [*path.parents] if folder.exists())
        reason = f"{existing} is a file" if not existing.is_dir() else f"{existing} is read-only"
        writable = existing.is_dir() and os.access(existing, os.W_OK)
        if writable:
            with tempfile.TemporaryFile(dir=existing) as probe:
                probe.write(bytes(PROBE_BYTES))
    except OSError as error:
        writable, reason = False, str(error.strerror)
    if not writable:
        raise StorageError(f"{path}: cannot be written: {reason}")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file in UTF-8 atomically, see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_arrays(path: pathlib.Path, arrays: dict[str, Any], *, compress: bool = False) -> None:
    """Writes arrays by name to an .npz atomically, see `atomic_path`."""
    with atomic_path(path) as temporary:
        (np.savez_compressed if compress else np.savez)(temporary, **arrays)
