"""Stacks of uint8 images that may be too large to be held: each has a shape and gives rows for indices.

A numpy array is one; the others read or rearrange rows when asked.
"""

import dataclasses
import hashlib
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Integer, UInt8

from genmodels.data.images import Rule, decode
from genmodels.data.media import ImageStore
from genmodels.errors import DataError

Rows = UInt8[np.ndarray, "rows height width channel"]
Indices = Integer[np.ndarray, " rows"] | slice
BLOCK = 1024  # rows read at a time where all are wanted


@runtime_checkable
class Pixels(Protocol):
    """What images are to the rest of the code; `pixels[indices]`, an array or a slice, are uint8 rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, height, width, channel)."""

    def __getitem__(self, indices): ...


def digest(image: np.ndarray | bytes) -> bytes:
    """16 bytes that stand for the pixels of one image, or for its file."""
    data = image if isinstance(image, bytes) else np.ascontiguousarray(image)
    return hashlib.blake2b(data, digest_size=16).digest()


def _as_array(indices: Indices, count: int) -> Integer[np.ndarray, " rows"]:
    return np.arange(*indices.indices(count)) if isinstance(indices, slice) else indices


def blocks(pixels: Pixels):
    """All rows, in order, BLOCK at a time."""
    for start in range(0, pixels.shape[0], BLOCK):
        yield start, pixels[np.arange(start, min(start + BLOCK, pixels.shape[0]))]


def gather(pixels: Pixels) -> Rows:
    """All rows in memory: the array itself where it is one."""
    if isinstance(pixels, np.ndarray):
        return pixels
    whole = np.empty(pixels.shape, np.uint8)
    for start, rows in blocks(pixels):
        whole[start : start + len(rows)] = rows
    return whole


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """Images decoded whenever they are read, each checked against what the scan saw."""

    store: ImageStore
    names: tuple[str, ...]
    rule: Rule
    shape: tuple[int, int, int, int]
    digests: UInt8[np.ndarray, "N 16"]

    def __getitem__(self, indices: Indices) -> Rows:
        """Raises DataError, naming the file, when it is no longer what it was."""
        indices = _as_array(indices, self.shape[0])
        rows = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for row, (name, image, expected) in enumerate(_decoded(self, indices)):
            if image.shape != self.shape[1:] or not expected:
                raise DataError(f"{self.store.where}: {name}: has changed since the run began; put it back")
            rows[row] = image
        return rows


def _decoded(stack: "Decoded | Mixed", indices: Integer[np.ndarray, " rows"]):
    """(name, pixels, whether they are what the scan saw) of these images."""
    names = [stack.names[index] for index in indices]
    for index, name, opener in zip(indices, names, stack.store.openers(names), strict=True):
        try:
            with opener() as file:
                image = decode(file, stack.rule)
        except (OSError, ValueError) as error:
            raise DataError(f"{stack.store.where}: {name}: can no longer be read ({error}); put it back") from error
        yield name, image, digest(image) == stack.digests[index].tobytes()


@dataclasses.dataclass(frozen=True, eq=False)
class Mixed:
    """Images of different sizes, decoded whenever they are read, as a list."""

    store: ImageStore
    names: tuple[str, ...]
    rule: Rule
    digests: UInt8[np.ndarray, "N 16"]

    @property
    def shape(self) -> tuple[int]:
        """(N,): there is no more that all have in common."""
        return (len(self.names),)

    def __getitem__(self, indices: Indices) -> list[np.ndarray]:
        """Raises DataError, naming the file, when it is no longer what it was."""
        images = []
        for name, image, expected in _decoded(self, _as_array(indices, len(self.names))):
            if not expected:
                raise DataError(f"{self.store.where}: {name}: has changed since it was scanned; put it back")
            images.append(image)
        return images


@dataclasses.dataclass(frozen=True, eq=False)
class Chosen:
    """Some rows of a stack, in a given order."""

    pixels: Pixels
    indices: Integer[np.ndarray, " N"]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the chosen rows."""
        return (len(self.indices), *self.pixels.shape[1:])

    def __getitem__(self, indices: Indices) -> Rows:
        return self.pixels[self.indices[indices]]


def held(pixels: Pixels) -> bool:
    """Whether all rows are in memory."""
    if isinstance(pixels, Chosen):
        return held(pixels.pixels)
    return all(map(held, pixels.parts)) if isinstance(pixels, Joined) else isinstance(pixels, np.ndarray)


@dataclasses.dataclass(frozen=True, eq=False)
class Joined:
    """Stacks one after the other."""

    parts: tuple[Pixels, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of all of them."""
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])

    def __getitem__(self, indices: Indices) -> Rows:
        indices = _as_array(indices, self.shape[0])
        ends = np.cumsum([part.shape[0] for part in self.parts])
        owner = np.searchsorted(ends, indices, side="right")
        rows = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for number, part in enumerate(self.parts):
            mine = owner == number
            if mine.any():
                rows[mine] = part[indices[mine] - (ends[number] - part.shape[0])]
        return rows
