"""What a data source is: random access to uint8 images and what is known of them."""

import dataclasses
import functools
import hashlib
from typing import ClassVar

import numpy as np
from jaxtyping import Int, Int32, Integer, UInt8

from genmodels.data.images import Rule
from genmodels.data.pixels import Chosen, Pixels, blocks, digest, gather, held


def no_test(where: str) -> str:
    """What to do about a source without a test split."""
    return (
        f"; train with --config.data.source='split(\"{where}\", test=0.1)' to hold some out, or evaluate with "
        f"--split=train to compare with the training images"
    )


@dataclasses.dataclass(frozen=True)
class Settings:
    """`config.data`, as far as it says how images are read.

    Attributes:
      size: height and width of every image; 0 leaves them as they are.
      crop: how oblong images become square: center (the middle square) or none (squash); "" wants square images.
      filter: how pixels are resampled: box, bilinear, bicubic or lanczos.
      convert: grey, rgb or rgba; "" leaves grey and RGB images as they are.
      skip_damaged: leave out files that cannot be decoded, instead of stopping; decided once, when they are scanned.
      memory_gb: sets with more than this many 10^9 bytes of pixels are decoded as they are needed.
      mixed: images may keep different sizes (`pixels.Mixed`); for evaluation, which resizes them itself.
    """

    size: int = 0
    crop: str = ""
    filter: str = "lanczos"
    convert: str = ""
    skip_damaged: bool = False
    memory_gb: float = 2.0
    mixed: bool = False

    def __post_init__(self):
        self.rule  # noqa: B018  (its values are checked when it is made)
        if not self.memory_gb >= 0:
            raise ValueError(f"memory_gb must not be negative, got {self.memory_gb}")

    @property
    def rule(self) -> Rule:
        """What happens to each image."""
        return Rule(self.size, self.crop, self.filter, self.convert)


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """What is known of every image without looking at it again.

    Attributes:
      digests: of the pixels, see `pixels.digest`.
      extremes: least and greatest value.
      origins: digests of what the pixels were made from, whatever the rule: of encoded files, else of the pixels found.
    """

    digests: UInt8[np.ndarray, "N 16"]
    extremes: UInt8[np.ndarray, "N 2"]
    origins: UInt8[np.ndarray, "N 16"]

    @classmethod
    def empty(cls, count: int) -> "Table":
        """To be filled row by row."""
        return cls(*(np.zeros((count, width), np.uint8) for width in (16, 2, 16)))

    def set(self, row: int, image: UInt8[np.ndarray, "height width channel"], origin: bytes) -> None:
        """Describes one image."""
        self.digests[row] = np.frombuffer(digest(image), np.uint8)
        self.extremes[row] = image.min(), image.max()
        self.origins[row] = np.frombuffer(origin, np.uint8)

    def __getitem__(self, rows) -> "Table":
        return Table(self.digests[rows], self.extremes[rows], self.origins[rows])


def tabulate(pixels: Pixels) -> Table:
    """The table of all images."""
    table = Table.empty(pixels.shape[0])
    for start, rows in blocks(pixels):
        for row, image in enumerate(rows, start=start):
            table.digests[row] = np.frombuffer(digest(image), np.uint8)
        flat = rows.reshape(len(rows), -1)
        table.extremes[start : start + len(rows)] = np.stack([flat.min(axis=1), flat.max(axis=1)], axis=1)
    return dataclasses.replace(table, origins=table.digests)


def fingerprint(
    image_shape: tuple[int, ...], digests: UInt8[np.ndarray, "N 16"], labels: Int[np.ndarray, " N"] | None
) -> str:
    """sha256 over shape, pixels and labels, in order; the same wherever the images lie."""
    total = hashlib.sha256(repr(tuple(image_shape)).encode())
    total.update(np.ascontiguousarray(digests))
    if labels is not None:
        total.update(np.ascontiguousarray(labels, np.int32))
    return total.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One split of a data set.

    Attributes:
      name: the string that names it, e.g. "idx:DIR".
      split: "train" or "test".
      pixels: [N, height, width, channel], 0-255: an array, or a stack that reads its rows when asked.
      labels: [N] in 0 .. num_classes - 1; None for unlabelled images.
      num_classes: 0 for unlabelled images. Where classes have names, the number of those of the training split; else
        one more than the greatest label of this split.
      class_names: of the labels, where they are known.
      captions: one an image, or None; text, so no part of a batch.
      files: the names of their files, where they have any.
      known: their table, where it has been made already.
      notes: what the reader found and did, a sentence each.
    """

    name: str
    split: str
    pixels: Pixels
    labels: Int32[np.ndarray, " N"] | None
    num_classes: int
    class_names: tuple[str, ...] = ()
    captions: tuple[str, ...] | None = None
    files: tuple[str, ...] = ()
    known: Table | None = None
    notes: tuple[str, ...] = ()
    fields: ClassVar[tuple[str, ...]] = ("image",)  # of images in a batch

    def __len__(self) -> int:
        return self.pixels.shape[0]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channel); () where images keep different sizes."""
        return tuple(self.pixels.shape[1:])

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are held, rather than decoded as they are needed."""
        return held(self.pixels)

    @property
    def images(self) -> UInt8[np.ndarray, "N height width channel"]:
        """All pixels in memory."""
        return gather(self.pixels)

    def take(self, indices: Integer[np.ndarray, " rows"]) -> dict[str, np.ndarray]:
        """The batch of these rows: `image`, and `label` where there are labels."""
        batch = {"image": self.pixels[indices]}
        return batch if self.labels is None else batch | {"label": self.labels[indices]}

    def choose(self, indices: Integer[np.ndarray, " rows"], name: str, **changes) -> "Source":
        """The source of these rows, called `name`, without copying them."""
        pick = lambda values: values and tuple(values[i] for i in indices)  # noqa: E731
        rows = {
            "pixels": Chosen(self.pixels, indices),
            "labels": None if self.labels is None else self.labels[indices],
            "captions": pick(self.captions),
            "files": pick(self.files),
            "known": self.table[indices],
        }
        return dataclasses.replace(self, name=name, **(rows | changes))

    @functools.cached_property
    def table(self) -> Table:
        """What is known of each image."""
        return self.known or tabulate(self.pixels)

    @functools.cached_property
    def fingerprint(self) -> str:
        """See `fingerprint`."""
        return fingerprint(self.image_shape, self.table.digests, self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two sources for unpaired translation; batches have the fields `a` and `b`, shuffled independently.

    An epoch is one pass over the larger of the two.
    """

    name: str
    a: Source
    b: Source
    fields: ClassVar[tuple[str, ...]] = ("a", "b")

    @property
    def split(self) -> str:
        """Of both."""
        return self.a.split

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channel) of both."""
        return self.a.image_shape

    @property
    def num_classes(self) -> int:
        """Classes play no part."""
        return 0

    @property
    def in_memory(self) -> bool:
        """Whether the pixels of both are held."""
        return self.a.in_memory and self.b.in_memory

    @property
    def fingerprint(self) -> str:
        """Over both."""
        return hashlib.sha256(f"{self.a.fingerprint} {self.b.fingerprint}".encode()).hexdigest()

    def __len__(self) -> int:
        return max(len(self.a), len(self.b))
