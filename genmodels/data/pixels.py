"""Stacks of uint8 images: a numpy array, or an object that reads its rows only when it is indexed.

A set of images may be larger than the memory. Code that takes `Pixels` works on either kind, and uses nothing of them
but what the protocol `Stack` has: a shape, a length, and rows by an array of indices or by a slice.
"""

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from jaxtyping import Integer, UInt8

from genmodels.data.images import decode
from genmodels.data.media import ImageStore
from genmodels.data.resize import Rule
from genmodels.errors import DataError

Rows = UInt8[np.ndarray, "rows height width channel"]
Images = list[np.ndarray]  # each uint8 [height, width, channel], in sizes of their own
Indices = Integer[np.ndarray, " rows"] | slice
BLOCK_ROWS = 1024  # rows read at a time in a pass over all of them

RowsT = TypeVar("RowsT")
RowsT_co = TypeVar("RowsT_co", covariant=True)


@runtime_checkable
class Stack(Protocol[RowsT_co]):
    """N images in an order; `stack[indices]` returns the images at these places, in the order of the indices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, height, width, channel); (N,) where the images differ in size."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Indices, /) -> RowsT_co:
        """Raises IndexError for an index outside of -N .. N - 1, TypeError for one that is no integer."""


Pixels = Stack[Rows]  # N images of one size; a numpy array is one
MixedPixels = Stack[Images]


def digest(image: np.ndarray | bytes) -> bytes:
    """A 16-byte BLAKE2b hash of the pixels of one image, or of the bytes of its file."""
    data = image if isinstance(image, bytes) else np.ascontiguousarray(image)
    return hashlib.blake2b(data, digest_size=16).digest()


def _as_array(indices: Indices, count: int) -> Integer[np.ndarray, " rows"]:
    """The places, 0 or more, that indices mean in a stack of `count` images, as numpy takes them."""
    if isinstance(indices, slice):
        return np.arange(*indices.indices(count))
    if not np.issubdtype(indices.dtype, np.integer):
        raise TypeError("images are read by integers or a slice; np.flatnonzero makes integers of a mask")
    outside = (indices < -count) | (indices >= count)
    if outside.any():
        raise IndexError(f"image {indices[outside][0]} of {count} images")
    return np.where(indices < 0, indices + count, indices)


def blocks(pixels: Pixels) -> Iterator[tuple[int, Rows]]:
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
        places = _as_array(indices, len(self))
        rows = np.empty((len(places), *self.shape[1:]), np.uint8)
        for row, (name, image, expected) in enumerate(_decoded(self, places)):
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

    def __getitem__(self, indices: Indices) -> Images:
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
class Chosen(Generic[RowsT]):
    """The rows `indices` of another stack, in that order, without a copy."""

    pixels: Stack[RowsT]
    indices: Integer[np.ndarray, " N"]

    @property
    def shape(self) -> tuple[int, ...]:
        """(number of indices, height, width, channel)."""
        return (len(self.indices), *self.pixels.shape[1:])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, indices: Indices) -> RowsT:
        return self.pixels[self.indices[_as_array(indices, len(self))]]


@dataclasses.dataclass(frozen=True, eq=False)
class Joined(Generic[RowsT]):
    """Several stacks one after the other, without a copy: all of one shape, or all of images that differ in size."""

    parts: tuple[Stack[RowsT], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(number of rows of all parts, height, width, channel)."""
        return (len(self), *self.parts[0].shape[1:])

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, indices: Indices) -> RowsT:
        places = _as_array(indices, len(self))
        ends = np.cumsum([len(part) for part in self.parts])
        owner = np.searchsorted(ends, places, side="right")
        image_shape = self.shape[1:]
        rows = np.empty((len(places), *image_shape), np.uint8 if image_shape else object)
        for number, part in enumerate(self.parts):
            mine = np.flatnonzero(owner == number)
            if mine.size:
                found = part[places[mine] - (ends[number] - len(part))]
                if image_shape:
                    rows[mine] = found
                else:
                    for row, image in zip(mine, cast(Images, found), strict=True):
                        rows[row] = image
        return cast(RowsT, rows if image_shape else list(rows))


def held(pixels: Pixels | MixedPixels) -> bool:
    """Whether all rows are in memory, so that reading them decodes nothing."""
    if isinstance(pixels, Chosen):
        return held(pixels.pixels)
    return all(map(held, pixels.parts)) if isinstance(pixels, Joined) else isinstance(pixels, np.ndarray)


def of_one_size(pixels: Pixels | MixedPixels, where: str) -> Pixels:
    """The pixels, for code that needs images of one size.

    Raises:
      DataError: they differ in size.
    """
    if len(pixels.shape) == 1:
        raise DataError(f"{where}: has images of many sizes: bring them to one with size=N and crop=center or none")
    return cast(Pixels, pixels)
