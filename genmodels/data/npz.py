"""Reads .npz files of plain arrays. The header of each array is checked before memory is taken for it."""

import contextlib
import math
import os
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping

import numpy as np

from genmodels.data.bounded import read_exactly
from genmodels.errors import DataError

# The errors that numpy and zipfile raise for a damaged .npz, depending on which bytes have changed.
DAMAGED = (
    ValueError,
    TypeError,
    OSError,
    EOFError,
    RuntimeError,
    MemoryError,
    OverflowError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that numpy writes; others unpack without a bound
VERSION = (1, 0)  # of arrays that are no records, whose headers may be of any length
SUFFIX = ".npy"


class Npz(Mapping[str, np.ndarray]):
    """The arrays of an open .npz by name; each is read when it is asked for.

    Raises:
      KeyError: there is no array of this name.
      Another one of DAMAGED: the array cannot be read, or it holds objects, which would be a program.
    """

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        self._names = [name.removesuffix(SUFFIX) for name in archive.namelist() if name.endswith(SUFFIX)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            member = self._archive.getinfo(name + SUFFIX)
        except KeyError:
            raise KeyError(name) from None
        try:
            return self._read(member)
        except DAMAGED as error:
            raise ValueError(f"{name}: {error or type(error).__name__}") from error

    def _read(self, member: zipfile.ZipInfo) -> np.ndarray:
        if member.compress_type not in METHODS:
            raise ValueError("packed by a method that numpy does not use")
        with self._archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            if version != VERSION:
                raise ValueError(f"an array of the format {version}, which numpy uses for records")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            if dtype.hasobject:
                raise ValueError("objects, which are never read")
            size, rest = math.prod(shape) * dtype.itemsize, member.file_size - stream.tell()
            if size != rest:
                raise ValueError(f"its header promises {size:,} bytes, it has {rest:,}")
            flat = read_exactly(stream, size)
        return np.ndarray(shape, dtype, flat.data, order="F" if fortran else "C")


@contextlib.contextmanager
def open_npz(path: str | pathlib.Path, where: str) -> Iterator[Npz]:
    """A context manager: an .npz of plain arrays, open for reading inside the block.

    Args:
      where: the name of the file in error messages.
    Raises:
      DataError: the file is missing, or it cannot be read, when it is opened or inside the block.
    """
    if not os.path.isfile(path):
        raise DataError(f"{where}: no such file")
    try:
        with open(path, "rb") as file:
            if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
                raise ValueError("it holds a single array, as an .npy file does")
            with zipfile.ZipFile(file) as archive:
                yield Npz(archive)
    except DAMAGED as error:
        raise DataError(f"{where}: not a readable .npz of plain arrays ({error or type(error).__name__})") from error
