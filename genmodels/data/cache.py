"""The cache of scanned image files and of feature moments, which makes the second start quick.

It lies in `core.files.cache_folder`, has one folder an entry, and may be deleted at any time. The key of an entry
covers names, sizes and times of all files and the rule by which they were read, so an entry never becomes stale. A
damaged entry is ignored.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import tempfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from genmodels.core.files import cache_folder
from genmodels.data.npz import DAMAGED

FORMAT = 3  # of the entries; raising it makes older entries unused
MAX_CACHE_BYTES = 20e9  # of all entries; beyond it, those that were not used for longest are deleted


def root() -> pathlib.Path:
    """The folder of the entries."""
    return cache_folder() / "data"


def key(*parts: Any) -> str:
    """The name of the entry for these parts: a hash of them and of the versions of the decoders."""
    decoders = [
        importlib.metadata.version(name) for name in ("pillow", "pyspng")
    ]  # another version may differ in a pixel
    return hashlib.sha256(repr((FORMAT, *decoders, *parts)).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def checksum(images: np.ndarray) -> int:
    """The crc32 of an array's bytes."""
    flat = images.reshape(-1).view(np.uint8)
    total = 0
    for start in range(0, flat.size, 1 << 24):
        total = zlib.crc32(flat[start : start + (1 << 24)], total)
    return total


def read(
    name: str, images_wanted: Callable[[list[int]], bool]
) -> tuple[dict[str, Any], dict[str, np.ndarray], np.ndarray | None] | None:
    """(info, arrays, images) of an entry; None where there is no such entry or it is damaged.

    Args:
      images_wanted: tells from the shape of the entry's images whether to read them. `images` is None where they are
        not read, or where the entry has none.
    """
    folder = root() / name
    try:
        info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
        with np.load(folder / "table.npz") as file:
            arrays = dict(file)
        images = None
        if info["checksum"] is not None and images_wanted(info["shape"]):
            images = np.load(folder / "images.npy")
            if checksum(images) != info["checksum"]:
                return None
        with contextlib.suppress(OSError):  # the cache may be read-only
            os.utime(folder)
    except (*DAMAGED, KeyError):
        return None
    return info, arrays, images


def write(name: str, info: dict[str, Any], arrays: dict[str, np.ndarray], images: np.ndarray | None) -> None:
    """Writes an entry; where that fails, it prints a note and returns."""
    folder = root()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        try:
            np.savez(temporary / "table.npz", allow_pickle=False, **arrays)
            if images is not None:
                np.save(temporary / "images.npy", images)
            found = None if images is None else checksum(images)
            (temporary / "info.json").write_text(json.dumps(info | {"checksum": found}), encoding="utf-8")
            shutil.rmtree(folder / name, ignore_errors=True)
            try:
                temporary.rename(folder / name)
            except OSError:
                if not (folder / name).exists():  # else another process has just written the same entry
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _prune(folder, name)
    except OSError as error:
        print(
            f"note: the cache cannot be written, so the next start scans again: {folder}: {error.strerror}", flush=True
        )


def _prune(folder: pathlib.Path, keep: str) -> None:
    there = (entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    entries = sorted(there, key=lambda e: e.stat().st_mtime, reverse=True)
    total = 0
    for entry in entries:
        total += sum(file.stat().st_size for file in entry.iterdir())
        if total > MAX_CACHE_BYTES and entry.name != keep:
            shutil.rmtree(entry, ignore_errors=True)
