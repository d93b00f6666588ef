"""Stacks of uint8 images: a numpy array, or an object that reads its rows only when it is indexed.

A set of images may be larger than the memory. Code that takes `Pixels` works on either kind.
"""

import dataclasses
import hashlib
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Integer, UInt8

from genmodels.data.images import decode
from genmodels.data.media import ImageStore
from genmodels.data.resize import Rule
from genmodels.errors import DataError

Rows = UInt8[np.ndarray, "rows height width channel"]
Indices = Integer[np.ndarray, " rows"] | slice
BLOCK_ROWS = 1024  # rows read at a time in a pass over all of them


@runtime_checkable
class Pixels(Protocol):
    """N images; `pixels[indices]`, for an array of indices or a slice, returns their uint8 rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, height, width, channel); (N,) where the images differ in size."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices): ...


def digest(image: np.ndarray | bytes) -> bytes:
    """A 16-byte BLAKE2b hash of the pixels of one image, or of the bytes of its file."""
    data = image if isinstance(image, bytes) else np.ascontiguousarray(image)
    return hashlib.blake2b(data, digest_size=16).digest()


def _as_array(indices: Indices, count: int) -> Integer[np.ndarray, " rows"]:
    return np.arange(*indices.indices(count)) if isinstance(indices, slice) else indices


def blocks(pixels: Pixels):
    """Yields (index of the first row, rows) over all rows in order, BLOCK_ROWS at a time."""
    for start in range(0, len(pixels), BLOCK_ROWS):
        yield start, pixels[np.arange(start, min(start + BLOCK_ROWS, len(pixels)))]


def gather(pixels: Pixels) -> Rows:
    """All rows as one array; an array is returned as it is, without a copy."""
    if isinstance(pixels, np.ndarray):
        return pixels
    whole = np.empty(pixels.shape, np.uint8)
    for start, rows in blocks(pixels):
        whole[start : start + len(rows)] = rows
    return whole


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """Images of one size that are decoded each time they are read.

    Attributes:
      rule: how a file becomes pixels.
      digests: hashes of the pixels that the scan decoded; every later read is checked against them.
    """

    store: ImageStore
    names: tuple[str, ...]
    rule: Rule
    shape: tuple[int, int, int, int]
    digests: UInt8[np.ndarray, "N 16"]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Indices) -> Rows:
        """Raises DataError, naming the file, when a file no longer holds the image that was scanned."""
        indices = _as_array(indices, len(self))
        rows = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for row, (name, image, expected) in enumerate(_decoded(self, indices)):
            if image.shape != self.shape[1:] or not expected:
                raise DataError(
                    f"{self.store.where}: {name}: has changed since the run began; restore the original file"
                )
            rows[row] = image
        return rows


def _decoded(stack: "Decoded | Mixed", indices: Integer[np.ndarray, " rows"]):
    """Yields (name, pixels, whether the pixels equal those of the scan) for each of these images."""
    names = [stack.names[index] for index in indices]
    for index, name, opener in zip(indices, names, stack.store.openers(names), strict=True):
        try:
            with opener() as file:
                image = decode(file, stack.rule)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{stack.store.where}: {name}: can no longer be read ({error}); restore the original file"
            ) from error
        yield name, image, digest(image) == stack.digests[index].tobytes()


@dataclasses.dataclass(frozen=True, eq=False)
class Mixed:
    """Images of different sizes that are decoded each time they are read; rows come as a list of arrays.

    Attributes:
      digests: hashes of the pixels that the scan decoded.
    """

    store: ImageStore
    names: tuple[str, ...]
    rule: Rule
    digests: UInt8[np.ndarray, "N 16"]

    @property
    def shape(self) -> tuple[int]:
        """(N,), because the images have no common size."""
        return (len(self.names),)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, indices: Indices) -> list[np.ndarray]:
        """Raises DataError, naming the file, when a file no longer holds the image that was scanned."""
        images = []
        for name, image, expected in _decoded(self, _as_array(indices, len(self))):
            if not expected:
                raise DataError(
                    f"{self.store.where}: {name}: has changed since it was scanned; restore the original file"
                )
            images.append(image)
        return images


@dataclasses.dataclass(frozen=True, eq=False)
class Chosen:
    """The rows `indices` of another stack, in that order, without a copy."""

    pixels: Pixels
    indices: Integer[np.ndarray, " N"]

    @property
    def shape(self) -> tuple[int, ...]:
        """(number of indices, height, width, channel)."""
        return (len(self.indices), *self.pixels.shape[1:])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, indices: Indices) -> Rows:
        return self.pixels[self.indices[indices]]


@dataclasses.dataclass(frozen=True, eq=False)
class Joined:
    """Several stacks one after the other, without a copy."""

    parts: tuple[Pixels, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(number of rows of all parts, height, width, channel)."""
        return (len(self), *self.parts[0].shape[1:])

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, indices: Indices) -> Rows:
        indices = _as_array(indices, len(self))
        ends = np.cumsum([len(part) for part in self.parts])
        owner = np.searchsorted(ends, indices, side="right")
        rows = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for number, part in enumerate(self.parts):
            mine = owner == number
            if mine.any():
                rows[mine] = part[indices[mine] - (ends[number] - len(part))]
        return rows


def held(pixels: Pixels) -> bool:
    """Whether all rows are in memory, so that reading them decodes nothing."""
    if isinstance(pixels, Chosen):
        return held(pixels.pixels)
    return all(map(held, pixels.parts)) if isinstance(pixels, Joined) else isinstance(pixels, np.ndarray)
