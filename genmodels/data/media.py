"""Stores of encoded images: a folder, a tar or a zip, which are read in place and never unpacked.

A store has the sorted `names` of its files, a `stamp` that changes when a file does, and `open(name)`. It can be
pickled; a worker process then opens it again.
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
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence

from genmodels.data.images import EXTENSIONS
from genmodels.data.tar_stream import is_compressed, open_tar
from genmodels.errors import DataError

BLOCK_FILES = 64  # files whose openers are made at once
MAX_FILE_BYTES = 2**28  # of one encoded image; a larger one would fill the memory
# The errors besides OSError and ValueError that damaged archives cause.
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    OverflowError,
    MemoryError,
    struct.error,
)
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack any amount at once


def _hidden(name: str) -> bool:
    """Whether a file was left by a file manager: .DS_Store, ._a.png, __MACOSX/..."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _contents(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of a member, which must be a file."""
    file = tar.extractfile(member)
    if file is None:
        raise OSError(f"{member.name} is not a file")
    return file.read()


def _check_names(where: str, names: list[str]) -> list[str]:
    """The sorted names of an archive's members, without hidden ones.

    Raises:
      DataError: a name leads out of the archive, has backslashes, or occurs twice.
    """
    for name in names:
        if "\\" in name:
            raise DataError(f"{where}: the member {name!r} has backslashes; pack the archive again with slashes")
        if name.startswith("/") or ".." in name.split("/"):
            raise DataError(f"{where}: the member {name!r} leads out of the archive; pack the archive without it")
    names = sorted(name for name in names if not _hidden(name.removeprefix("./")))
    for one, other in itertools.pairwise(names):
        if one == other:
            raise DataError(f"{where}: holds the member {one!r} twice; pack the archive again")
    return names


def _shown_folders(names: list[str]) -> list[str]:
    """The folders of an archive that are not hidden and lie inside it, with a slash at the end."""
    names = [name.rstrip("/") for name in names]
    return sorted(f"{name}/" for name in names if name[:1] != "/" and not _hidden(name.removeprefix("./")))


def _stat(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _status(entry: os.DirEntry) -> tuple[int, ...]:
    try:
        return _stat(entry.stat())
    except OSError:  # a link to nothing; where its name is that of an image, opening it fails and names it
        return ()


@dataclasses.dataclass(frozen=True, eq=False)
class ImageStore(abc.ABC):
    """A place that holds encoded images.

    Attributes:
      where: its name in error messages.
      path: the folder or archive file.
    """

    where: str
    path: pathlib.Path

    @property
    @abc.abstractmethod
    def names(self) -> list[str]:
        """The names of all its files, sorted."""

    @property
    def folders(self) -> list[str]:
        """The names of its folders, with a slash at the end; of an archive, those that it lists besides its files."""
        return []

    @property
    def stamp(self) -> str:
        """A hash of the archive's size and times of change, in hexadecimal."""
        return hashlib.sha256(repr(_stat(os.stat(self.path))).encode()).hexdigest()

    @property
    def sequential(self) -> bool:
        """Whether files can only be read one after the other, which `in_order` does."""
        return False

    @abc.abstractmethod
    def open(self, name: str) -> io.IOBase:
        """Opens a file for reading.

        Raises:
          OSError, ValueError: the file cannot be read.
        """

    def openers(self, names: Sequence[str]) -> Sequence[Callable[[], io.IOBase]]:
        """A function for each of these files that opens it. Stores that read many files faster at once override it."""
        return [functools.partial(self.open, name) for name in names]

    def in_order(self, names: Sequence[str]) -> Iterator[tuple[str, Callable[[], io.IOBase]]]:
        """Yields (name, function that opens the file) for these files, in the order that is fastest to read."""
        for start in range(0, len(names), BLOCK_FILES):
            part = names[start : start + BLOCK_FILES]
            yield from zip(part, self.openers(part), strict=True)

    def __getstate__(self):
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True, eq=False)
class Folder(ImageStore):
    """All files below a folder; links are followed.

    Raises:
      DataError: from any property, where a folder cannot be read or a file with an image's name is a pipe or device.
    """

    @functools.cached_property
    def _walk(self) -> tuple[list[str], str]:
        """(names of files and folders, stamp)."""
        found = sorted(self._below(str(self.path), "", frozenset()))
        total = hashlib.sha256()
        for entry in found:
            total.update(repr(entry).encode())
        return [name for name, _ in found], total.hexdigest()

    def _below(self, folder: str, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
        real = os.path.realpath(folder)
        if real in above:  # a link to a folder above this one
            return
        if prefix:
            yield prefix, ()
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
                            f"{self.where}: {prefix}{entry.name} is a pipe or device, not a file; remove it"
                        )
        except OSError as error:
            raise DataError(f"{self.where}: {folder}: {error.strerror}") from error

    @functools.cached_property
    def names(self) -> list[str]:
        """The paths of all files, relative to the folder and with forward slashes."""
        return [name for name in self._walk[0] if not name.endswith("/")]

    @property
    def folders(self) -> list[str]:
        """The paths of all folders below it, with a slash at the end."""
        return [name for name in self._walk[0] if name.endswith("/")]

    @property
    def stamp(self) -> str:
        """A hash of the names, sizes and times of change of all files and of the names of folders, in hexadecimal."""
        return self._walk[1]

    def open(self, name: str) -> io.IOBase:
        """Opens a file for reading."""
        return _open_file(f"{self.path}/{name}", name)  # joining by pathlib takes longer than opening the file


@dataclasses.dataclass(frozen=True, eq=False)
class OneFile(ImageStore):
    """A single file."""

    @property
    def names(self) -> list[str]:
        """The name of the file."""
        return [self.path.name]

    def open(self, name: str) -> io.IOBase:
        """Opens the file for reading."""
        return _open_file(str(self.path), name)


@dataclasses.dataclass(frozen=True, eq=False)
class Tar(ImageStore):
    """A tar file; the members of a compressed one can only be read in the order of the archive.

    Raises:
      DataError: from any property, where it is not a whole tar, or a member's name or link leads out of it.
    """

    @functools.cached_property
    def sequential(self) -> bool:
        """Whether it is compressed, so that members can only be read one after the other."""
        return is_compressed(self.path)

    @functools.cached_property
    def _file(self) -> io.IOBase:
        return self.path.open("rb")

    @functools.cached_property
    def _members(self) -> tuple[dict[str, tuple[int, int]], dict[str, str], list[str]]:
        """{name: (offset, size in bytes)} of the files, {name: name of the file} of the links to files, and folders."""
        folders = []
        with _reading(self.where), open_tar(self.path) as tar:
            members = []
            for member in tar:
                if member.isdir():
                    folders.append(member.name)
                elif member.isfile() or member.islnk() or member.issym():
                    members.append(member)
            if not self.sequential:  # a tar that is cut between two members lacks only its closing blocks of zeros
                tar.fileobj.seek(tar.offset)
                if len(tar.fileobj.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
                    raise EOFError("it ends without the closing blocks of a tar")
        places = {member.name: (member.offset_data, member.size) for member in members if member.isfile()}
        links: dict[str, str] = {}
        for member in members:
            if not member.isfile():
                beside = posixpath.dirname(member.name) if member.issym() else ""
                target = posixpath.normpath(posixpath.join(beside, member.linkname))
                target = links.get(target, target)
                links[member.name] = next((name for name in (target, f"./{target}") if name in places), "")
                if not links[member.name]:
                    raise DataError(
                        f"{self.where}: {member.name} is a link to {member.linkname}, which the archive does not hold; "
                        f"pack it with the files that the links lead to (tar --dereference)"
                    )
        return places, links, folders

    @functools.cached_property
    def names(self) -> list[str]:
        """The names of its files and of links to them, sorted."""
        places, links, _ = self._members
        return _check_names(self.where, [*places, *links])

    @property
    def folders(self) -> list[str]:
        """The names of the folders that it lists, with a slash at the end."""
        return _shown_folders(self._members[2])

    def open(self, name: str) -> io.IOBase:
        """Reads a member into memory."""
        places, links, _ = self._members
        offset, size = places[links.get(name, name)]
        _check_size(name, size)
        if not self.sequential:
            return io.BytesIO(os.pread(self._file.fileno(), size, offset))
        with _reading(self.where), open_tar(self.path) as tar:
            for member in tar:
                if member.isfile() and member.name == links.get(name, name):
                    return io.BytesIO(_contents(tar, member))
            raise OSError(f"{name} is no longer in it")

    def in_order(self, names: Sequence[str]) -> Iterator[tuple[str, Callable[[], io.IOBase]]]:
        """Yields (name, function that opens the file); a compressed tar is read in one pass, in its own order."""
        if not self.sequential:
            yield from super().in_order(names)
            return
        links = self._members[1]
        wanted: dict[str, list[str]] = {}  # by file: its own name and those of links to it
        for name in names:
            wanted.setdefault(links.get(name, name), []).append(name)
        with _reading(self.where), open_tar(self.path) as tar:
            for member in tar:
                if member.name in wanted and member.isfile():
                    small = member.size <= MAX_FILE_BYTES
                    data = _contents(tar, member) if small else b""
                    opener = functools.partial(io.BytesIO, data) if small else functools.partial(self.open, member.name)
                    yield from ((name, opener) for name in wanted[member.name])


@dataclasses.dataclass(frozen=True, eq=False)
class Zip(ImageStore):
    """A zip file.

    Raises:
      DataError: from any property, where it is not a zip, is encrypted, or a member's name leads out of it.
    """

    @functools.cached_property
    def _zip(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)

    @functools.cached_property
    def names(self) -> list[str]:
        """The names of its files, sorted."""
        with _reading(self.where):
            members = [info for info in self._zip.infolist() if not info.is_dir()]
        for info in members:
            if info.flag_bits & 1:
                raise DataError(f"{self.where}: {info.filename} is encrypted; pack the archive without a password")
        return _check_names(self.where, [info.filename for info in members])

    @property
    def folders(self) -> list[str]:
        """The names of the folders that it lists, with a slash at the end."""
        with _reading(self.where):
            return _shown_folders([name for name in self._zip.namelist() if name.endswith("/")])

    def open(self, name: str) -> io.IOBase:
        """Reads a member into memory, as many bytes as the archive's directory says."""
        info = self._zip.getinfo(name)
        _check_size(name, info.file_size)
        if info.compress_type not in ZIP_METHODS:
            raise ValueError("it is packed by a method other than deflate; pack the archive again with deflate")
        try:
            with self._zip.open(info) as member:
                return io.BytesIO(member.read(info.file_size))  # without the size it would unpack up to 2 GB at once
        except DAMAGED as error:
            raise ValueError(str(error)) from error


def _open_file(path: str, name: str) -> io.IOBase:
    _check_size(name, os.stat(path).st_size)
    return open(path, "rb", buffering=0)


def _check_size(name: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{name} has {size:,} bytes; an image may have at most {MAX_FILE_BYTES:,}")


@contextlib.contextmanager
def _reading(where: str) -> Iterator[None]:
    """A context manager that turns the errors of reading an archive into a DataError of one line."""
    try:
        yield
    except (OSError, ValueError, *DAMAGED) as error:
        reason = " ".join(str(error).split()).partition(": - method")[0]
        raise DataError(f"{where}: the archive cannot be read ({reason}); is it whole?") from error
