"""Where encoded images lie: a folder, a tar or a zip, read in place and never unpacked.

Each has `names`, sorted; `stamp`, which changes when a file does; and `open(name)`. Each can be pickled, to be opened
again in a worker process.
"""

import dataclasses
import functools
import hashlib
import io
import itertools
import lzma
import os
import pathlib
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from genmodels.errors import DataError

MAX_FILE = 2**28  # bytes of one encoded image: more is not an image but an attack on the memory
COMPRESSED = (".gz", ".tgz", ".xz", ".txz", ".bz2", ".tbz2")


def _hidden(name: str) -> bool:
    """Droppings of file managers: .DS_Store, ._a.png, __MACOSX/..."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _check_names(where: str, names: list[str]) -> list[str]:
    """The names an archive may have, without hidden ones.

    Raises:
      DataError: one leads out of the archive, or stands twice.
    """
    for name in names:
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise DataError(f"{where}: the member {name!r} leads out of the archive; such an archive is not read")
    names = sorted(name for name in names if not _hidden(name.removeprefix("./")))
    for one, other in itertools.pairwise(names):
        if one == other:
            raise DataError(f"{where}: the member {one!r} is there twice; pack the archive anew")
    return names


def _stat(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclasses.dataclass(frozen=True, eq=False)
class Folder:
    """All files below a folder, links followed.

    Raises:
      DataError: no such folder, or one that cannot be read.
    """

    where: str
    path: pathlib.Path

    @functools.cached_property
    def _walk(self) -> tuple[list[str], str]:
        """(names, stamp)."""
        found, visited = [], set()

        def unreadable(error):
            raise DataError(f"{self.where}: {error.filename}: {error.strerror}") from error

        for folder, below, files in os.walk(self.path, followlinks=True, onerror=unreadable):
            real = os.path.realpath(folder)
            if real in visited:
                below.clear()
                continue
            visited.add(real)
            below[:] = [name for name in below if not _hidden(name)]
            for file in files:
                full = os.path.join(folder, file)
                name = os.path.relpath(full, self.path).replace(os.sep, "/") if folder != str(self.path) else file
                if not _hidden(name):
                    try:
                        found.append((name, _stat(os.stat(full))))
                    except OSError as error:
                        raise DataError(f"{self.where}: {name}: {error.strerror}") from error
        found.sort()
        total = hashlib.sha256()
        for entry in found:
            total.update(repr(entry).encode())
        return [name for name, _ in found], total.hexdigest()

    @property
    def names(self) -> list[str]:
        """Relative, with forward slashes."""
        return self._walk[0]

    @property
    def stamp(self) -> str:
        """Over names, sizes and times of change."""
        return self._walk[1]

    def open(self, name: str) -> io.IOBase:
        """The file, for reading."""
        return open(self.path / name, "rb")

    def __getstate__(self):
        return {"where": self.where, "path": self.path}


class _Archive:
    """What tar and zip share: one file on the disk."""

    where: str
    path: pathlib.Path

    @property
    def stamp(self) -> str:
        """Over size and times of change of the archive."""
        return hashlib.sha256(repr(_stat(os.stat(self.path))).encode()).hexdigest()

    def __getstate__(self):
        return {"where": self.where, "path": self.path}


@dataclasses.dataclass(frozen=True, eq=False)
class Tar(_Archive):
    """A tar, plain or compressed; of a compressed one members come in archive order only.

    Raises:
      DataError: not a tar, or a member that leads out of it.
    """

    where: str
    path: pathlib.Path

    @property
    def sequential(self) -> bool:
        """Whether members can only be read one after the other."""
        return self.path.suffix in COMPRESSED

    @functools.cached_property
    def _file(self) -> io.IOBase:
        return self.path.open("rb")

    @functools.cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """(offset, size) of each regular file."""
        with _reading(self.where), tarfile.open(self.path) as tar:
            members = [member for member in tar if member.isfile()]
            if not self.sequential:  # a tar cut between two members looks whole, but for its closing blocks of zeros
                tar.fileobj.seek(tar.offset)
                if len(tar.fileobj.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
                    raise EOFError("it ends without the closing blocks of a tar")
        _check_names(self.where, [member.name for member in members])
        return {member.name: (member.offset_data, member.size) for member in members}

    @functools.cached_property
    def names(self) -> list[str]:
        """Of its regular files."""
        return _check_names(self.where, list(self._places))

    def open(self, name: str) -> io.IOBase:
        """The member, in memory."""
        offset, size = self._places[name]
        if self.sequential:
            with _reading(self.where), tarfile.open(self.path) as tar:
                return io.BytesIO(tar.extractfile(name).read(MAX_FILE))
        _check_size(name, size)
        return io.BytesIO(os.pread(self._file.fileno(), size, offset))

    def in_order(self) -> Iterator[tuple[str, Callable[[], io.IOBase]]]:
        """Every member and what opens it, in one pass."""
        with _reading(self.where), tarfile.open(self.path) as tar:
            for member in tar:
                if member.isfile():
                    _check_size(member.name, member.size)
                    yield member.name, functools.partial(io.BytesIO, tar.extractfile(member).read())


@dataclasses.dataclass(frozen=True, eq=False)
class Zip(_Archive):
    """A zip.

    Raises:
      DataError: not a zip, or a member that leads out of it.
    """

    where: str
    path: pathlib.Path

    @functools.cached_property
    def _zip(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)

    @functools.cached_property
    def names(self) -> list[str]:
        """Of its files."""
        with _reading(self.where):
            members = [info for info in self._zip.infolist() if not info.is_dir()]
        for info in members:
            if info.flag_bits & 1:
                raise DataError(f"{self.where}: {info.filename} is encrypted; pack the archive anew without a password")
        return _check_names(self.where, [info.filename for info in members])

    def open(self, name: str) -> io.IOBase:
        """The member, in memory."""
        _check_size(name, self._zip.getinfo(name).file_size)
        try:
            return io.BytesIO(self._zip.read(name))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise ValueError(str(error)) from error


def _check_size(name: str, size: int) -> None:
    if size > MAX_FILE:
        raise ValueError(f"{name} has {size:,} bytes, more than an image may ({MAX_FILE:,})")


class _reading:
    """Turns what goes wrong in an archive into one line."""

    def __init__(self, where: str):
        self._where = where

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        damaged = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, lzma.LZMAError, zlib.error, ValueError)
        if isinstance(error, damaged):
            raise DataError(f"{self._where}: the archive cannot be read ({error}); is it whole?") from error


@runtime_checkable
class Medium(Protocol):
    """Where encoded images lie; `where` is how to call it in messages."""

    where: str
    path: pathlib.Path

    @property
    def names(self) -> list[str]:
        """Of all files in it, sorted."""

    @property
    def stamp(self) -> str:
        """Changes when a file does."""

    def open(self, name: str) -> io.IOBase:
        """A file, for reading."""


def openers(medium: Medium, names: Sequence[str]) -> Sequence[Callable[[], io.IOBase]]:
    """What opens each of these files; a medium that reads many at once much faster has a method of this name."""
    if hasattr(medium, "openers"):
        return medium.openers(names)
    return [functools.partial(medium.open, name) for name in names]
