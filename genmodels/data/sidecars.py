"""Files beside images that say what the images are: which are read for labels, and which are only named.

dataset.json   of StyleGAN and EDM archives, {"labels": [["00000/img0.png", 3], ...]} or {"labels": null}; the label may
               be one-hot. The folders of such an archive are storage, not classes.
NAME.cls       of WebDataset archives, the label of the image NAME.png as a number in text
"""

import collections
import dataclasses
import json
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32

from genmodels.data.arrays import MAX_CLASSES
from genmodels.data.media import ImageStore
from genmodels.errors import DataError

CAPTIONS = "captions.jsonl"
DATASET = "dataset.json"
CLASS_SUFFIX = ".cls"
OTHER_PICTURES = {".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".jfif", ".ppm", ".pgm"}
MAX_KINDS = 8  # of files that are not read, which a note lists


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """What a sidecar says of the images of a split.

    Attributes:
      labels: one an image; None where the sidecar says that there are none.
      num_classes: 0 without labels.
      note: a sentence on where the labels come from.
      read: the names or suffixes of the files that say it.
    """

    labels: Int32[np.ndarray, " N"] | None
    num_classes: int
    note: str
    read: frozenset[str]


def suffix(name: str) -> str:
    """The suffix of a file's name with its dot, or "without suffix"."""
    file = name.rpartition("/")[2]
    return f".{file.rpartition('.')[2]}" if "." in file else "without suffix"


def read_file(store: ImageStore, name: str) -> bytes:
    """The contents of a file of a store.

    Raises:
      DataError: it cannot be read.
    """
    try:
        return store.open(name).read()
    except (OSError, ValueError) as error:
        raise DataError(f"{store.where}: {name} cannot be read: {error}") from error


def find_labels(store: ImageStore, bases: Sequence[str], images: Sequence[str]) -> Labels | None:
    """The labels that a sidecar gives the images of a split; None where there is no sidecar with labels.

    Args:
      bases: the folders, "" or with a slash at the end, where a dataset.json is looked for, the nearest first.
      images: the names of the images in the store.
    Raises:
      DataError: a sidecar is damaged, or does not give every image a label.
    """
    for file in dict.fromkeys(f"{base}{DATASET}" for base in bases):
        if file in store.names:
            found = _from_dataset(store, file, images)
            if found is not None:
                return found
    return _from_members(store, images)


def _from_dataset(store: ImageStore, file: str, images: Sequence[str]) -> Labels | None:
    """What a dataset.json says; None where it is another JSON file of this name."""
    where = f"{store.where}: {file}"
    try:
        contents = json.loads(read_file(store, file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: is not JSON ({error}); repair or remove it") from error
    if not isinstance(contents, dict) or "labels" not in contents:
        return None
    if contents["labels"] is None:
        return Labels(
            None,
            0,
            f"{file} says that the images have no labels; folders are storage, not classes",
            frozenset({DATASET}),
        )
    try:
        base = file.removesuffix(DATASET)
        entries = {base + name.replace("\\", "/"): label for name, label in contents["labels"]}
        twice = len(contents["labels"]) - len(entries)
    except (TypeError, ValueError, AttributeError):
        raise DataError(f'{where}: "labels" must be null or a list of ["file", label]') from None
    if twice:
        raise DataError(f"{where}: names {twice:,} images more than once; keep one label for each")
    for name in images:
        if name not in entries:
            raise DataError(f"{where}: has no label for {name}; add it, or move the image out")
    number = {name: _number(where, name, label) for name, label in entries.items()}
    widths = {len(label) if isinstance(label, list) else 0 for label in entries.values()}
    if len(widths) > 1:
        raise DataError(f"{where}: mixes labels of different lengths; make all of them numbers of classes")
    num_classes = max(*widths, max(number.values(), default=-1) + 1)
    note = f"labels are those of {file}; folders are storage, not classes"
    absent = len(entries.keys() - set(store.names))
    note += f"; {absent:,} of its entries have no image" if absent else ""
    return Labels(np.array([number[name] for name in images], np.int32), num_classes, note, frozenset({DATASET}))


def _number(where: str, name: str, label: Any) -> int:
    """The class that an entry means: a number, or a list of numbers that are 0 but for a 1."""
    numbers = label if isinstance(label, list) else [label]
    if not numbers or any(isinstance(each, bool) or not isinstance(each, int | float) for each in numbers):
        raise DataError(f"{where}: the label of {name} is {label!r}; it must be the number of a class")
    if isinstance(label, list):
        if sorted(numbers) == [0] * (len(numbers) - 1) + [1]:
            return numbers.index(1)
        raise DataError(
            f"{where}: the label of {name} is a vector that is not one-hot, such as a pose, which no model here takes; "
            f'set "labels" to null there to train without labels'
        )
    if not 0 <= label < MAX_CLASSES or label != int(label):
        raise DataError(f"{where}: the label of {name} is {label}; it must be a number from 0 to {MAX_CLASSES - 1:,}")
    return int(label)


def _key(name: str) -> str:
    """What the files of one WebDataset sample have in common: the path up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _from_members(store: ImageStore, images: Sequence[str]) -> Labels | None:
    there = set(store.names)
    members = [f"{_key(name)}{CLASS_SUFFIX}" for name in images]
    found = [name for name in dict.fromkeys(members) if name in there]
    if not found:
        return None
    first: dict[str, str] = {}
    for image, member in zip(images, members, strict=True):
        if first.setdefault(member, image) != image:
            raise DataError(
                f"{store.where}: {first[member]} and {image} are two pictures of one sample, such as an image and its "
                f"mask; leave one of each in it"
            )
    for image, member in zip(images, members, strict=True):
        if member not in there:
            raise DataError(
                f"{store.where}: {image} has no {member}, but others have; add it, or remove all {CLASS_SUFFIX}"
            )
    number = {}
    for name, opener in store.in_order(found):
        try:
            text = opener().read(64).decode()
        except (OSError, ValueError) as error:
            raise DataError(f"{store.where}: {name} cannot be read: {error}") from error
        if not text.strip().isdecimal() or int(text) >= MAX_CLASSES:
            raise DataError(f"{store.where}: {name} holds {text.strip()!r}; a label is a number from 0")
        number[name] = int(text)
    labels = np.array([number[member] for member in members], np.int32)
    note = f"labels are those of the {len(found):,} {CLASS_SUFFIX} files"
    return Labels(labels, int(labels.max()) + 1, note, frozenset({CLASS_SUFFIX}))


def unread(names: Sequence[str], images: Collection[str], read: Collection[str]) -> list[str]:
    """Sentences that name the files which are not read, and say what would be.

    Args:
      names: of all files, among them `images`.
      read: the names, without folder, or the suffixes of the other files that are read.
    """
    pictures = set(images)
    kinds: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        if name not in pictures and name.rpartition("/")[2] not in read and suffix(name) not in read:
            kinds[suffix(name)].append(name)
    like = ", ".join(f"{len(kinds[kind])} {kind}" for kind in sorted(kinds) if kind.lower() in OTHER_PICTURES)
    others = [
        f"{len(found)} {kind} ({found[0]}{' ...' if len(found) > 1 else ''})"
        for kind, found in sorted(kinds.items())
        if kind.lower() not in OTHER_PICTURES
    ]
    more = f" and {len(others) - MAX_KINDS} other kinds" if len(others) > MAX_KINDS else ""
    notes = [f"not read, because of their suffix: {like}"] if like else []
    if others:
        notes.append(
            f"not read: {', '.join(others[:MAX_KINDS])}{more}; labels are read from sub-folders, {DATASET} or "
            f"{CLASS_SUFFIX} files, captions from {CAPTIONS}"
        )
    return notes
