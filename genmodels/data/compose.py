"""Sources made of other sources: `pair`, `concat`, `subset` and `split`. None of them copies an image."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from genmodels.data import classes as classes_lib
from genmodels.data.base import DataSource, Pair, Source
from genmodels.data.pixels import Joined, Pixels
from genmodels.data.table import Table
from genmodels.errors import ConfigError, DataError

Open = Callable[[str], Source]  # from "train" or "test" to that split of a part


def _shape(source: Source) -> str:
    return "x".join(map(str, source.image_shape)) or "many sizes"


def _same_shape(what: str, parts: list[Source]) -> None:
    for part in parts[1:]:
        if part.image_shape != parts[0].image_shape:
            raise DataError(
                f"{what}: {parts[0].name} has images of {_shape(parts[0])}, {part.name} of {_shape(part)}: bring "
                f"them to one shape with config.data.size, config.data.crop and config.data.convert"
            )


def pair(name: str, split: str, a: Open, b: Open) -> Pair:
    """Two sets of images for unpaired translation.

    Raises:
      DataError: the images of the two sets differ in shape.
    """
    parts = [a(split), b(split)]
    _same_shape("pair", parts)
    return Pair(name, *parts)


def concat(name: str, split: str, *parts: Open, labels: bool = True) -> Source:
    """Several sets one after the other.

    Classes of the same name become one class. Where no class has a name, those of the same number do; beside classes
    that are named by numbers, as those of `subset` are, a number is a name.

    Args:
      labels: False drops the labels of all sets.
    Raises:
      ConfigError: fewer than two sets.
      DataError: the images differ in shape, or only some sets have labels or class names.
    """
    sources = [part(split) for part in parts]
    if len(sources) < 2:
        raise ConfigError(f"{name}: needs two sources or more")
    _same_shape("concat", sources)
    named = [source for source in sources if source.class_names]
    if labels and all(classes_lib.are_numbers(source.class_names) for source in named):
        sources = [source if source in named or not named else _named_by_number(source) for source in sources]
    class_names = tuple(dict.fromkeys(each for source in sources for each in source.class_names))
    all_labels = None
    if labels and any(source.num_classes for source in sources):
        for what, has in (("labels", lambda s: s.num_classes), ("class names", lambda s: s.class_names)):
            with_, without = [s for s in sources if has(s)], [s for s in sources if not has(s)]
            if with_ and without:
                raise DataError(
                    f"concat: {with_[0].name} has {what}, {without[0].name} has none; concat(..., labels=False) "
                    f"drops all labels"
                )
        number = {each: index for index, each in enumerate(class_names)}
        all_labels = np.concatenate([_renumbered(source, number) for source in sources])
    known = Table(*(np.concatenate([getattr(s.table, field) for s in sources]) for field in vars(sources[0].table)))
    captions = tuple(text for s in sources for text in s.captions or ("",) * len(s))
    return Source(
        name,
        split,
        Joined(cast(tuple[Pixels, ...], tuple(source.pixels for source in sources))),
        all_labels,
        0 if all_labels is None else len(class_names) or max(source.num_classes for source in sources),
        () if all_labels is None else class_names,
        captions if any(source.captions for source in sources) else None,
        tuple(file for source in sources for file in source.files or ("",) * len(source)),
        known,
        tuple(f"{source.name}: {note}" for source in sources for note in source.notes),
    )


def _named_by_number(source: Source) -> Source:
    return dataclasses.replace(source, class_names=tuple(map(str, range(source.num_classes))))


def _labels(source: Source) -> np.ndarray:
    if source.labels is None:
        raise DataError(f"{source.name}: has no labels")
    return source.labels


def _renumbered(source: Source, number: dict[str, int]) -> np.ndarray:
    labels = _labels(source)
    return np.array([number[each] for each in source.class_names], np.int32)[labels] if number else labels


def subset(name: str, split: str, part: Open, *, classes: Any = (), count: int = 0) -> Source:
    """Chosen classes of a set, a number of its images, or both.

    Args:
      classes: one class or several, by name or number (see `data.classes`); in this order they become the labels 0, 1,
        ... They keep their names, and classes without names keep their numbers as names.
      count: how many images of the training split to keep, chosen at random but the same in every run; 0 keeps all.
        Other splits keep all of theirs, so that scores stay comparable.
    Raises:
      ConfigError: an unknown class, or more images are wanted than there are.
    """
    source = part(split)
    asked = classes not in ((), [])
    if not asked and not count:
        raise ConfigError(f"{name}: name the images to keep: classes=(...) or count=N")
    chosen = np.arange(len(source))
    changes: dict[str, Any] = {}
    if asked:
        numbers = classes_lib.class_numbers(classes, source.class_names, source.num_classes, name)
        if len(set(numbers)) < len(numbers):
            raise ConfigError(f"{name}: classes={classes!r} names a class twice")
        chosen = np.flatnonzero(np.isin(_labels(source), numbers))
        renumber = np.full(source.num_classes, -1, np.int32)
        renumber[numbers] = np.arange(len(numbers))
        changes = {
            "labels": renumber[_labels(source)],
            "num_classes": len(numbers),
            "class_names": tuple(source.class_names[n] if source.class_names else str(n) for n in numbers),
        }
    if asked and not len(chosen):
        raise ConfigError(f"{name}: no {split} image is of the classes {', '.join(map(str, classes))}")
    if (split == "train" and count > len(chosen)) or count < 0 or not len(chosen):
        raise ConfigError(f"{name}: count={count}, but there are {len(chosen)} {split} images to choose from")
    if count and split == "train":
        chosen = np.sort(np.random.RandomState(0).permutation(chosen)[:count])
    changes |= {"labels": changes["labels"][chosen]} if changes else {}
    return source.choose(chosen, name, **changes)


def split(name: str, split: str, part: Open, *, test: float, seed: int = 0) -> Source:
    """Holds out a share of the training images as a test split.

    A hash of each image's file (of its pixels, where images have no files) decides which side the image is on. It stays
    on that side when other images are added or removed and at every size; copies of an image are on the same side.

    Args:
      test: the share that is held out, approximately.
      seed: another seed holds out other images.
    Raises:
      ConfigError: the share is not within (0, 1), or one side is empty.
    """
    if not 0 < test < 1:
        raise ConfigError(f"{name}: test={test} must be within (0, 1)")
    source = part("train")
    salt = str(seed).encode()
    hashes = [
        hashlib.blake2b(digest.tobytes(), digest_size=8, salt=salt[:16]).digest() for digest in source.table.origins
    ]
    held_out = np.array([int.from_bytes(each, "big") < test * 2**64 for each in hashes])
    chosen = np.flatnonzero(held_out if split == "test" else ~held_out)
    if not len(chosen):
        raise ConfigError(f"{name}: test={test} of {len(source)} images leaves the {split} side empty")
    return source.choose(chosen, name, split=split)


COMBINATIONS: dict[str, Callable[..., DataSource]] = {"pair": pair, "concat": concat, "subset": subset, "split": split}
