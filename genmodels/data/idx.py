"""Reads idx files, the format of MNIST (LeCun, Cortes & Burges, "The MNIST database of handwritten digits").

An idx file is 0, 0, a type (8 is uint8), the number of axes, one big-endian uint32 for the length of each, the values.
"""

import difflib
import gzip
import math
import pathlib
import re
import zlib

import numpy as np

from genmodels.data.bounded import read_exactly
from genmodels.errors import DataError

UINT8 = b"\0\0\x08"
STEMS = {"train": ("train",), "test": ("t10k", "test")}
KINDS = {"images": "idx3", "labels": "idx1"}
MAX_AXES = 4  # of images in colour
UNREADABLE = (OSError, EOFError, ValueError, MemoryError, zlib.error)


def load_idx(path: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, height, width] and labels [N] of {train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz.

    Instead of each hyphen there may be a dot or an underscore, as in train-images.idx3-ubyte, and instead of t10k test.

    Raises:
      DataError: a file is missing or damaged.
    """
    images, labels = (_read(_find(pathlib.Path(path), split, kind)) for kind in KINDS)
    return images, labels


def _find(folder: pathlib.Path, split: str, kind: str) -> pathlib.Path:
    """The file of a split; of several, the one whose name is nearest to MNIST's own."""
    wanted = f"{STEMS[split][0]}-{kind}-{KINDS[kind]}-ubyte"
    stems = "|".join(STEMS[split])
    pattern = re.compile(rf"({stems})[-._]{kind}[-._]{KINDS[kind]}[-._]ubyte(\.gz)?", re.IGNORECASE)
    try:
        there = sorted(file.name for file in folder.iterdir() if file.is_file())
    except OSError as error:
        raise DataError(f"idx:{folder}: cannot be listed: {error.strerror}") from error
    fitting = [name for name in there if pattern.fullmatch(name)]
    if not fitting:
        near = difflib.get_close_matches(wanted, there, n=1, cutoff=0.7)
        hint = f"; rename {near[0]}, if it is that file" if near else ""
        seen = ", ".join(there[:4]) + (" ..." if len(there) > 4 else "")
        raise DataError(f"idx:{folder}: holds neither {wanted} nor {wanted}.gz{hint}; its files are {seen or 'none'}")
    return folder / min(fitting, key=lambda name: (_distance(name.removesuffix(".gz"), wanted), name))


def _distance(name: str, wanted: str) -> int:
    return len(name) != len(wanted) or sum(a != b for a, b in zip(name, wanted, strict=True))


def _read(file: pathlib.Path) -> np.ndarray:
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as stream:
            head = stream.read(4)
            if len(head) < 4 or head[:3] != UINT8 or not 1 <= head[3] <= MAX_AXES:
                raise ValueError(f"it is not an idx file of unsigned bytes with 1 to {MAX_AXES} axes")
            lengths = stream.read(4 * head[3])
            if len(lengths) < 4 * head[3]:
                raise ValueError("truncated: it ends inside its header")
            shape = tuple(int.from_bytes(lengths[i : i + 4], "big") for i in range(0, 4 * head[3], 4))
            try:
                return read_exactly(stream, math.prod(shape)).reshape(shape)
            except ValueError as error:
                raise ValueError(f"an array of {shape}: {error}") from error
    except UNREADABLE as error:
        raise DataError(f"{file}: cannot be read: {error or type(error).__name__}") from error
