"""The interface of a data set, `DataSource`, and its two implementations: one set of images, and a pair of sets."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Integer, UInt8

from genmodels.data import table as table_lib
from genmodels.data.pixels import Chosen, MixedPixels, Pixels, gather, held, of_one_size
from genmodels.data.resize import Rule
from genmodels.data.table import Table

TEXT_LISTING, LISTING = 1, 2  # rules of the order and the classes of files: those of old runs, and those of new ones

Batch = dict[str, np.ndarray]
Order = Callable[[int, int], Integer[np.ndarray, " rows"]]  # (size of a set, random stream) to rows of it


def no_test(where: str) -> str:
    """The end of an error message that says what to do about a source without a test split."""
    return (
        f"; train with --config.data.source='split(\"{where}\", test=0.1)' to hold some out, or evaluate with "
        f"--split=train to compare with the training images"
    )


@dataclasses.dataclass(frozen=True)
class Settings:
    """The keys of `config.data` that say how images are read.

    Attributes:
      size: height and width of every image; 0 leaves them as they are.
      crop: how oblong images become square: center (the middle square) or none (squash); "" wants square images.
      filter: how pixels are resampled: box, bilinear, bicubic or lanczos.
      convert: grey, rgb or rgba; "" leaves grey and RGB images as they are.
      skip_damaged: leave out files that cannot be decoded, instead of stopping; decided once, when they are scanned.
      memory_gb: sets with more than this many 10^9 bytes of pixels are decoded as they are needed.
      mixed: images may keep different sizes (`pixels.Mixed`); for evaluation, which resizes them itself.
      listing: LISTING; or TEXT_LISTING for runs that began before data.json had the key: names are sorted as text (10
        before 2), only folders that hold images are classes, and no file beside images gives labels.
      thorough: before damage stops the scan, all files are decoded, so that the message names all damaged ones.
    """

    size: int = 0
    crop: str = ""
    filter: str = "lanczos"
    convert: str = ""
    skip_damaged: bool = False
    memory_gb: float = 2.0
    mixed: bool = False
    listing: int = LISTING
    thorough: bool = False

    def __post_init__(self):
        self.rule  # noqa: B018  (building the rule checks its values)
        if not self.memory_gb >= 0:
            raise ValueError(f"memory_gb must not be negative, got {self.memory_gb}")

    @property
    def rule(self) -> Rule:
        """How each file becomes pixels."""
        return Rule(self.size, self.crop, self.filter, self.convert)


@runtime_checkable
class DataSource(Protocol):
    """One split of a data set: what training, evaluation and pictures know of it, whatever it is made of."""

    @property
    def name(self) -> str:
        """The string that names it in `config.data.source`."""

    @property
    def split(self) -> str:
        """ "train" or "test"."""

    @property
    def parts(self) -> Mapping[str, "Source"]:
        """The set of images behind each image field of a batch, in order."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the image fields of a batch, the keys of `parts`."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channel) of every image; () where they differ in size."""

    @property
    def labels(self) -> Int32[np.ndarray, " N"] | None:
        """The class of each image; None where images have no labels."""

    @property
    def num_classes(self) -> int:
        """The number of classes; 0 where images have no labels."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes where they are known, else ()."""

    @property
    def in_memory(self) -> bool:
        """Whether all pixels are held in memory, so that a batch decodes nothing."""

    @property
    def fingerprint(self) -> str:
        """A hash of the contents in hexadecimal, the same wherever they lie."""

    def __len__(self) -> int: ...

    def images_of(self, field: str) -> Pixels:
        """All images of one field."""

    def batch(self, order: Order) -> Batch:
        """A batch: uint8 images by field, and `label` where there are labels.

        Args:
          order: (size, stream) to the rows that the batch takes of a set of `size` images; sets that are drawn
            independently of each other ask for different random streams.
        """


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A set of images with their labels, captions and file names: a `DataSource` with the one field `image`.

    Attributes:
      name: the string that names it, e.g. "idx:DIR".
      split: "train" or "test".
      pixels: [N, height, width, channel], 0-255: an array, or a stack that reads its rows when it is indexed.
      labels: [N] in 0 .. num_classes - 1; None for unlabelled images.
      num_classes: 0 for unlabelled images. Where classes have names, the number of those of the training split; else
        one more than the greatest label of this split.
      class_names: of the labels, where they are known.
      captions: one an image, or None. Batches hold no captions, because they are text.
      files: the name of each image's file; () where the images come from an array.
      known: the table of facts, where the reader has made it already.
      notes: sentences about what the reader found and did.
    """

    name: str
    split: str
    pixels: Pixels | MixedPixels
    labels: Int32[np.ndarray, " N"] | None
    num_classes: int
    class_names: tuple[str, ...] = ()
    captions: tuple[str, ...] | None = None
    files: tuple[str, ...] = ()
    known: Table | None = None
    notes: tuple[str, ...] = ()
    fields: ClassVar[tuple[str, ...]] = ("image",)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def parts(self) -> Mapping[str, "Source"]:
        """The source itself, as the set of the field `image`."""
        return MappingProxyType({"image": self})

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channel); () where images differ in size."""
        return tuple(self.pixels.shape[1:])

    @property
    def in_memory(self) -> bool:
        """Whether all pixels are held in memory."""
        return held(self.pixels)

    @property
    def images(self) -> UInt8[np.ndarray, "N height width channel"]:
        """All pixels as one array, which is made from lazy pixels on every call."""
        return gather(self.images_of("image"))

    def images_of(self, field: str) -> Pixels:
        """All images of the field, which is `image`.

        Raises:
          DataError: they differ in size.
        """
        return of_one_size(self.parts[field].pixels, self.name)

    def take(self, indices: Integer[np.ndarray, " rows"]) -> Batch:
        """The batch of these rows: `image`, and `label` where there are labels."""
        batch = {"image": self.images_of("image")[indices]}
        return batch if self.labels is None else batch | {"label": self.labels[indices]}

    def batch(self, order: Order) -> Batch:
        """The batch of the rows that `order` gives; the set is drawn from stream 0."""
        return self.take(order(len(self), 0))

    def choose(self, indices: Integer[np.ndarray, " rows"], name: str, **changes: Any) -> "Source":
        """A source called `name` of these rows, without a copy of their pixels.

        Args:
          changes: fields of the new source that are not simply the rows of the old one.
        """
        pick = lambda values: values and tuple(values[i] for i in indices)  # noqa: E731
        rows: dict[str, Any] = {
            "pixels": Chosen(self.pixels, indices),
            "labels": None if self.labels is None else self.labels[indices],
            "captions": pick(self.captions),
            "files": pick(self.files),
            "known": self.table[indices],
        }
        return dataclasses.replace(self, name=name, **(rows | changes))

    @functools.cached_property
    def table(self) -> Table:
        """The facts about each image; they are computed when first asked for, unless the reader knew them."""
        return self.known or table_lib.tabulate(self.images_of("image"))

    @functools.cached_property
    def fingerprint(self) -> str:
        """The sha256 of shape, pixels and labels; see `table.fingerprint`."""
        return table_lib.fingerprint(self.image_shape, self.table.digests, self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two sets of images of one shape for unpaired translation: a `DataSource` with the fields `a` and `b`.

    Each set is shuffled on its own, so that row i of `a` has nothing to do with row i of `b`. Its length, and so an
    epoch, is that of the larger set. It has no labels, whether its parts have them or not.
    """

    name: str
    a: Source
    b: Source
    fields: ClassVar[tuple[str, ...]] = ("a", "b")
    labels: ClassVar[None] = None
    num_classes: ClassVar[int] = 0
    class_names: ClassVar[tuple[str, ...]] = ()

    def __len__(self) -> int:
        return max(len(self.a), len(self.b))

    @property
    def parts(self) -> Mapping[str, Source]:
        """The two sets by field."""
        return MappingProxyType({"a": self.a, "b": self.b})

    @property
    def split(self) -> str:
        """The split that both sets were opened at."""
        return self.a.split

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channel), which both sets share."""
        return self.a.image_shape

    @property
    def in_memory(self) -> bool:
        """Whether the pixels of both sets are held in memory."""
        return self.a.in_memory and self.b.in_memory

    @functools.cached_property
    def fingerprint(self) -> str:
        """The sha256 of the two fingerprints, first `a`, then `b`."""
        return hashlib.sha256(f"{self.a.fingerprint} {self.b.fingerprint}".encode()).hexdigest()

    def images_of(self, field: str) -> Pixels:
        """All images of the field `a` or `b`."""
        return self.parts[field].images_of("image")

    def batch(self, order: Order) -> Batch:
        """Rows of `a` by stream 1 and rows of `b` by stream 2, independent of each other."""
        return {
            field: part.images_of("image")[order(len(part), stream)]
            for stream, (field, part) in enumerate(self.parts.items(), start=1)
        }
