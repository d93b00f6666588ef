"""Reads no more than a file promises, and only what the memory can hold. A small file can unpack to terabytes."""

import math
import pathlib
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

BLOCK = 2**20  # bytes read at a time
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


@runtime_checkable
class Stream(Protocol):
    """What can be read in parts, such as a file or a decompressor."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


def free_memory() -> float:
    """Bytes of memory that are free, or that a container may have in all; infinite where the system does not tell."""
    found = math.inf
    for limit in LIMITS:
        text = _text(limit).strip()
        found = min(found, int(text) if text.isdecimal() else math.inf)
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            found = min(found, 1024 * int(line.split()[1]))
    return found


def _text(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="ascii")
    except OSError:
        return ""


def read_exactly(stream: Stream, size: int) -> UInt8[np.ndarray, " size"]:
    """The rest of a stream, which must be `size` bytes long.

    Raises:
      ValueError: it is shorter or longer, or so much memory is not free. A longer one is not read further.
    """
    if size > free_memory():
        raise ValueError(f"it unpacks to {size:,} bytes, for which there is not enough memory")
    whole = np.empty(size, np.uint8)
    place = 0
    while place < size:
        data = stream.read(min(BLOCK, size - place))
        if not data:
            raise ValueError(f"truncated: it should have {size:,} bytes behind its header, it has {place:,}")
        whole[place : place + len(data)] = np.frombuffer(data, np.uint8)
        place += len(data)
    if stream.read(1):
        raise ValueError(f"it has more than the {size:,} bytes that its header promises")
    return whole
