"""Facts about every image of a set that are computed once and kept: hashes of its contents and its range of values."""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Int, UInt8

from genmodels.data.pixels import Pixels, blocks, digest


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """One row of facts an image.

    Attributes:
      digests: 16-byte hashes of the pixels, see `pixels.digest`.
      extremes: the smallest and the largest value of each image.
      origins: 16-byte hashes of what the pixels were made from, which do not depend on the rule (size, crop, convert):
        of the encoded file, or of the pixels as they were found in an array.
    """

    digests: UInt8[np.ndarray, "N 16"]
    extremes: UInt8[np.ndarray, "N 2"]
    origins: UInt8[np.ndarray, "N 16"]

    @classmethod
    def empty(cls, count: int) -> "Table":
        """A table of zeros for `count` images, to be filled by `set`."""
        return cls(*(np.zeros((count, width), np.uint8) for width in (16, 2, 16)))

    def set(self, row: int, image: UInt8[np.ndarray, "height width channel"], origin: bytes) -> None:
        """Fills one row in place.

        Args:
          origin: the 16-byte hash of what the image was made from.
        """
        self.digests[row] = np.frombuffer(digest(image), np.uint8)
        self.extremes[row] = image.min(), image.max()
        self.origins[row] = np.frombuffer(origin, np.uint8)

    def __getitem__(self, rows) -> "Table":
        return Table(self.digests[rows], self.extremes[rows], self.origins[rows])


def tabulate(pixels: Pixels) -> Table:
    """The table of images that were made from nothing else: their origins are their own digests."""
    table = Table.empty(len(pixels))
    for start, rows in blocks(pixels):
        for row, image in enumerate(rows, start=start):
            table.digests[row] = np.frombuffer(digest(image), np.uint8)
        flat = rows.reshape(len(rows), -1)
        table.extremes[start : start + len(rows)] = np.stack([flat.min(axis=1), flat.max(axis=1)], axis=1)
    return dataclasses.replace(table, origins=table.digests)


def fingerprint(
    image_shape: tuple[int, ...], digests: UInt8[np.ndarray, "N 16"], labels: Int[np.ndarray, " N"] | None
) -> str:
    """The sha256 of shape, pixels and labels in order, in hexadecimal; it does not depend on where the images lie."""
    total = hashlib.sha256(repr(tuple(image_shape)).encode())
    total.update(np.ascontiguousarray(digests))
    if labels is not None:
        total.update(np.ascontiguousarray(labels, np.int32))
    return total.hexdigest()
