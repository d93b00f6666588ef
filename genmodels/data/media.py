"""Where encoded images lie: a folder, a tar or a zip, read in place and never unpacked.

Each has `names`, sorted; `stamp`, which changes when a file does; and `open(name)`. Each can be pickled, to be opened
again in a worker process.
"""

import abc
import contextlib
import dataclasses
import functools
import hashlib
import io
import itertools
import lzma
import os
import pathlib
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence

from genmodels.data.images import EXTENSIONS
from genmodels.errors import DataError

BLOCK = 64  # files that are asked for at once
MAX_FILE = 2**28  # bytes of one encoded image: more is not an image but an attack on the memory
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")  # how gzip, bzip2 and xz begin


def _hidden(name: str) -> bool:
    """Droppings of file managers: .DS_Store, ._a.png, __MACOSX/..."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _check_names(where: str, names: list[str]) -> list[str]:
    """The names an archive may have, without hidden ones.

    Raises:
      DataError: one leads out of the archive, or stands twice.
    """
    for name in names:
        if "\\" in name:
            raise DataError(
                f"{where}: {name!r} has backslashes for slashes, as some tools write; pack the archive anew"
            )
        if name.startswith("/") or ".." in name.split("/"):
            raise DataError(f"{where}: the member {name!r} leads out of the archive; such an archive is not read")
    names = sorted(name for name in names if not _hidden(name.removeprefix("./")))
    for one, other in itertools.pairwise(names):
        if one == other:
            raise DataError(f"{where}: the member {one!r} is there twice; pack the archive anew")
    return names


def _stat(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _status(entry: os.DirEntry) -> tuple[int, ...]:
    try:
        return _stat(entry.stat())
    except OSError:  # a link to nothing; if it should be an image, opening it will fail and name it
        return ()


@dataclasses.dataclass(frozen=True, eq=False)
class ImageStore(abc.ABC):
    """Where encoded images lie.

    Attributes:
      where: how to call it in messages.
      path: the folder or file.
    """

    where: str
    path: pathlib.Path

    @property
    @abc.abstractmethod
    def names(self) -> list[str]:
        """Of all files in it, sorted."""

    @property
    def stamp(self) -> str:
        """Changes when a file does: over size and times of change."""
        return hashlib.sha256(repr(_stat(os.stat(self.path))).encode()).hexdigest()

    @property
    def sequential(self) -> bool:
        """Whether files can only be read one after the other, by `in_order`."""
        return False

    @abc.abstractmethod
    def open(self, name: str) -> io.IOBase:
        """A file, for reading.

        Raises:
          OSError, ValueError: it cannot be read.
        """

    def openers(self, names: Sequence[str]) -> Sequence[Callable[[], io.IOBase]]:
        """What opens each of these files; a store that reads many at once much faster has its own way."""
        return [functools.partial(self.open, name) for name in names]

    def in_order(self, names: Sequence[str]) -> Iterator[tuple[str, Callable[[], io.IOBase]]]:
        """These files and what opens each, in the order in which they are read fastest."""
        for start in range(0, len(names), BLOCK):
            part = names[start : start + BLOCK]
            yield from zip(part, self.openers(part), strict=True)

    def __getstate__(self):
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True, eq=False)
class Folder(ImageStore):
    """All files below a folder, links followed.

    Raises:
      DataError: no such folder, or one that cannot be read.
    """

    @functools.cached_property
    def _walk(self) -> tuple[list[str], str]:
        """(names, stamp)."""
        found = sorted(self._below(str(self.path), "", frozenset()))
        total = hashlib.sha256()
        for entry in found:
            total.update(repr(entry).encode())
        return [name for name, _ in found], total.hexdigest()

    def _below(self, folder: str, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
        real = os.path.realpath(folder)
        if real in above:  # a link that leads round in a circle
            return
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _hidden(entry.name):
                        continue
                    if entry.is_dir():
                        yield from self._below(entry.path, f"{prefix}{entry.name}/", above | {real})
                    elif entry.is_file() or entry.is_symlink():
                        yield f"{prefix}{entry.name}", _status(entry)
                    elif entry.name.lower().endswith(EXTENSIONS):
                        raise DataError(
                            f"{self.where}: {prefix}{entry.name} is no file but a pipe or device; remove it"
                        )
        except OSError as error:
            raise DataError(f"{self.where}: {folder}: {error.strerror}") from error

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
        return open(f"{self.path}/{name}", "rb", buffering=0)  # pathlib takes longer than the opening


@dataclasses.dataclass(frozen=True, eq=False)
class Tar(ImageStore):
    """A tar, plain or compressed; of a compressed one members come in archive order only.

    Raises:
      DataError: not a tar, or a member that leads out of it.
    """

    @functools.cached_property
    def sequential(self) -> bool:
        """Whether it is compressed, and members can only be read one after the other."""
        with self.path.open("rb") as file:
            return file.read(6).startswith(COMPRESSED)

    @functools.cached_property
    def _file(self) -> io.IOBase:
        return self.path.open("rb")

    @functools.cached_property
    def _members(self) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
        """{name: (offset, size)} of files, and {name: target} of links to them."""
        with _reading(self.where), tarfile.open(self.path) as tar:
            members = [member for member in tar if member.isfile() or member.islnk() or member.issym()]
            if not self.sequential:  # a tar cut between two members looks whole, but for its closing blocks of zeros
                tar.fileobj.seek(tar.offset)
                if len(tar.fileobj.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
                    raise EOFError("it ends without the closing blocks of a tar")
        places = {member.name: (member.offset_data, member.size) for member in members if member.isfile()}
        links = {}
        for member in members:
            if not member.isfile():
                beside = posixpath.dirname(member.name) if member.issym() else ""
                target = posixpath.normpath(posixpath.join(beside, member.linkname))
                target = links.get(target, target)
                links[member.name] = next((name for name in (target, f"./{target}") if name in places), "")
                if not links[member.name]:
                    raise DataError(
                        f"{self.where}: {member.name} is a link to {member.linkname}, which is no file in the archive; "
                        f"pack it with the files that links lead to (tar --dereference)"
                    )
        return places, links

    @functools.cached_property
    def names(self) -> list[str]:
        """Of its files and of links to them."""
        places, links = self._members
        return _check_names(self.where, [*places, *links])

    def open(self, name: str) -> io.IOBase:
        """The member, in memory."""
        places, links = self._members
        offset, size = places[links.get(name, name)]
        _check_size(name, size)
        if not self.sequential:
            return io.BytesIO(os.pread(self._file.fileno(), size, offset))
        with _reading(self.where), tarfile.open(self.path) as tar:
            return io.BytesIO(tar.extractfile(name).read())

    def in_order(self, names: Sequence[str]) -> Iterator[tuple[str, Callable[[], io.IOBase]]]:
        """These files and what opens each; of a compressed tar in one pass, in its own order."""
        if not self.sequential:
            yield from super().in_order(names)
            return
        _, links = self._members
        wanted: dict[str, list[str]] = {}  # a file's own name and those of links to it
        for name in names:
            wanted.setdefault(links.get(name, name), []).append(name)
        with _reading(self.where), tarfile.open(self.path) as tar:
            for member in tar:
                if member.name in wanted and member.isfile():
                    small = member.size <= MAX_FILE
                    data = tar.extractfile(member).read() if small else b""
                    opener = functools.partial(io.BytesIO, data) if small else functools.partial(self.open, member.name)
                    yield from ((name, opener) for name in wanted[member.name])


@dataclasses.dataclass(frozen=True, eq=False)
class Zip(ImageStore):
    """A zip.

    Raises:
      DataError: not a zip, or a member that leads out of it.
    """

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
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(str(error)) from error


def _check_size(name: str, size: int) -> None:
    if size > MAX_FILE:
        raise ValueError(f"{name} has {size:,} bytes, more than an image may ({MAX_FILE:,})")


@contextlib.contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turns what goes wrong in an archive into one line."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, lzma.LZMAError, zlib.error, ValueError) as error:
        reason = " ".join(str(error).split()).partition(": - method")[0]
        raise DataError(f"{where}: the archive cannot be read ({reason}); is it whole?") from error
