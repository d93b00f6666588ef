"""Opens tars, compressed or not, so that no header in them makes `tarfile` or a decompressor take much memory."""

import bz2
import contextlib
import dataclasses
import gzip
import lzma
import pathlib
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

from genmodels.data.bounded import BLOCK

MAX_PART_BYTES = 2**28  # of a member or header that is read at once
MAX_XZ_BYTES = 2**28  # of memory for the decoder of an xz file; `xz -9` asks for a quarter of it
DECOMPRESSORS: dict[bytes, Callable[..., Any]] = {  # by the first bytes
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


@dataclasses.dataclass
class _Stream:
    """The bytes of a tar, as `tarfile` reads them.

    Attributes:
      file: the bytes, decompressed where they are compressed.
      compressed: whether they can only be read forward.
      place: of the next byte.
    """

    file: Any
    compressed: bool
    place: int = 0

    def read(self, size: int) -> bytes:
        """At most `size` bytes. Raises ValueError for more than MAX_PART_BYTES."""
        if size > MAX_PART_BYTES:
            raise ValueError(f"a part of it claims to have {size:,} bytes")
        data = self.file.read(size)
        self.place += len(data)
        return data

    def tell(self) -> int:
        """The place of the next byte."""
        return self.place

    def seek(self, place: int) -> None:
        """Goes to a place; in compressed bytes by reading the way. Raises ValueError if it lies behind there."""
        if not self.compressed:
            self.place = self.file.seek(place)
        if place < self.place:
            raise ValueError(f"a part of it leads back from byte {self.place:,} to {place:,}")
        while self.place < place and self.read(min(BLOCK, place - self.place)):
            pass


def is_compressed(path: pathlib.Path) -> bool:
    """Whether a file begins as those of gzip, bzip2 and xz do."""
    with path.open("rb") as file:
        return file.read(6).startswith(tuple(DECOMPRESSORS))


@contextlib.contextmanager
def open_tar(path: pathlib.Path) -> Iterator[tarfile.TarFile]:
    """A context manager: a tar. The members of a compressed one can only be read in their order.

    Raises:
      ValueError: a part of it claims more than MAX_PART_BYTES.
      Errors of `tarfile` and of the decompressors: it is no tar, or damaged.
    """
    with path.open("rb") as file:
        start = file.read(BLOCK)
        file.seek(0)
        decompress = next((function for first, function in DECOMPRESSORS.items() if start.startswith(first)), None)
        if decompress is lzma.open:  # which has no bound of its own
            lzma.LZMADecompressor(memlimit=MAX_XZ_BYTES).decompress(start, max_length=1)
        stream = decompress(file) if decompress else file
        parts: Any = _Stream(stream, decompress is not None)  # tarfile asks for no more than it has
        with stream, tarfile.open(fileobj=parts, mode="r:") as tar:
            yield tar
