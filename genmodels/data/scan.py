"""Turns a store of encoded images into a Source, by reading every file once before anything else happens.

First all headers are read, which finds different sizes and kinds in seconds. Then every image is decoded, which finds
damaged files and fixes the number of images; a set that is small enough stays in memory. The next start reads the
result from the cache.
"""

import collections
import concurrent.futures
import dataclasses
import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from genmodels.cli.progress import progress
from genmodels.data import cache
from genmodels.data.base import Settings, Source
from genmodels.data.images import Header, decode, read_header
from genmodels.data.listing import Listing
from genmodels.data.media import ImageStore
from genmodels.data.pixels import Decoded, Mixed, digest
from genmodels.data.resize import CHANNELS, Rule
from genmodels.data.table import Table
from genmodels.errors import DataError

MAX_CHUNK_FILES = 64  # files that a thread takes at once
MAX_DECODED_BYTES = 2**26  # of decoded pixels that all threads together hold, approximately
MIN_THREADED_PIXELS = (
    128 * 128
)  # of an image; decoding smaller ones is mostly Python, where threads wait for each other
MAX_NAMED = 5  # files that a message names besides the first

REMEDIES = {
    "alpha": "has transparency: config.data.convert=rgb (or grey) lays it over white, rgba keeps a fourth channel",
    "16-bit": "has 16 bits a channel: config.data.convert=grey (or rgb) keeps the upper 8",
    "CMYK": "is CMYK, for print: config.data.convert=rgb (or grey) translates it",
}


def open_files(store: ImageStore, split: str, settings: Settings, list_split: Callable[[], Listing]) -> Source:
    """The images of a folder, archive or prepared data set.

    Args:
      list_split: lists the files of the split; it is called only where the cache has no entry.
    Raises:
      DataError: there are no images, one is damaged, or they differ in size or kind and no rule makes them alike.
    """
    rule = settings.rule
    name = cache.key(
        type(store).__name__,
        str(store.path.resolve()),
        split,
        store.stamp,
        rule,
        settings.skip_damaged,
        settings.listing,
    )
    entry = cache.read(name, lambda shape: _fits(shape, settings))
    if entry is None and settings.mixed and (source := _open_mixed(store, split, list_split(), settings)):
        return source
    if entry is None or (entry[2] is None and _fits(entry[0]["shape"], settings)):
        listing = list_split()
        try:
            info, arrays, images = _scan(store, listing, settings)
        except DataError as error:
            if settings.thorough and not settings.skip_damaged and (damaged := _every_damage(store, listing, settings)):
                also = _other_fault(store, listing, settings, len(damaged))
                raise DamagedError(store.where, damaged, also) from error
            raise
        cache.write(name, info, arrays, images)
    else:
        info, arrays, images = entry
    table = Table(arrays["digests"], arrays["extremes"], arrays["origins"])
    _check_random_access(store, info["shape"], settings)
    files = tuple(info["names"])
    pixels = Decoded(store, files, rule, tuple(info["shape"]), table.digests) if images is None else images
    return Source(
        store.where,
        split,
        pixels,
        arrays.get("labels"),
        info["num_classes"],
        tuple(info["class_names"]),
        info["captions"] and tuple(info["captions"]),
        files,
        table,
        tuple(info["notes"]),
    )


def _other_fault(store: ImageStore, listing: Listing, settings: Settings, damaged: int) -> str:
    """What is wrong with the files that are intact; "" if nothing is, or if all are damaged."""
    if damaged == len(listing.names):
        return ""
    try:
        _scan(store, listing, dataclasses.replace(settings, skip_damaged=True))
    except DataError as error:
        return str(error).removeprefix(f"{store.where}: ")
    return ""


def _open_mixed(store: ImageStore, split: str, listing: Listing, settings: Settings) -> Source | None:
    """The images at their own sizes; None where all have the same size, or a rule gives them the same."""
    rule, where = settings.rule, store.where
    headers: list[Any] = [None] * len(listing.names)
    for row, header in _each(store, listing.names, read_header, f"{where}: headers"):
        headers[row] = header
    listing, headers = _without_damaged(where, listing, headers, {}, settings)
    if rule.size or len({header.size for header in headers}) == 1:
        return None
    if store.sequential:
        raise DataError(f"{where}: images of different sizes in a compressed tar have no random access: decompress it")
    _check_kinds(where, listing.names, headers, rule)
    table = Table.empty(len(headers))
    outcomes: list[Any] = [None] * len(headers)
    for row, outcome in _each(store, listing.names, lambda file: decode(file, rule), f"{where}: images"):
        if isinstance(outcome, Exception):
            outcomes[row] = outcome
        else:
            table.set(row, outcome, digest(repr(outcome.shape).encode() + outcome.tobytes()))
    good = np.flatnonzero([outcome is None for outcome in outcomes])
    listing, _ = _without_damaged(where, listing, outcomes, {}, settings)
    table = table[good]
    pixels = Mixed(store, listing.names, rule, table.digests)
    return Source(
        where,
        split,
        pixels,
        listing.labels,
        listing.num_classes,
        listing.class_names,
        listing.captions,
        listing.names,
        Table(table.origins, table.extremes, table.origins),  # origins hash the shapes too, digests do not
        (f"{len({header.size for header in headers})} different sizes", *listing.notes),
    )


def _check_random_access(store: ImageStore, shape: Sequence[int], settings: Settings) -> None:
    if store.sequential and not _fits(shape, settings):
        raise DataError(
            f"{store.where}: {_gigabytes(shape):.1f} GB of pixels do not fit config.data.memory_gb="
            f"{settings.memory_gb:g}, and a compressed tar has no random access: decompress it, or raise memory_gb"
        )


def _gigabytes(shape: Sequence[int]) -> float:
    return float(np.prod(shape, dtype=np.float64)) / 1e9


def _fits(shape: Sequence[int], settings: Settings) -> bool:
    return _gigabytes(shape) <= settings.memory_gb


def _scan(store: ImageStore, listing: Listing, settings: Settings) -> tuple[dict[str, Any], dict[str, np.ndarray], Any]:
    """Reads all files; returns (info, arrays, images) for the cache; images is None if they do not fit in memory."""
    rule, where = settings.rule, store.where
    headers: list[Any] = [None] * len(listing.names)
    distinct: dict[Any, Any] = {}  # most headers are equal, and sharing one object saves memory
    for row, header in _each(store, listing.names, read_header, f"{where}: headers"):
        headers[row] = distinct.setdefault(header, header)
    damaged: dict[str, str] = {}
    listing, headers = _without_damaged(where, listing, headers, damaged, settings)
    notes = [*listing.notes, *_check(where, listing.names, headers, rule)]
    shape = (len(headers), *_image_shape(headers[0], rule))
    _check_random_access(store, shape, settings)
    table = Table.empty(len(headers))
    images = np.empty(shape, np.uint8) if _fits(shape, settings) else None
    outcomes: list[Any] = [None] * len(headers)
    largest = max(header.size[0] * header.size[1] for header in headers)
    threads = _cores() if largest > MIN_THREADED_PIXELS else 1
    chunk = max(1, min(MAX_CHUNK_FILES, MAX_DECODED_BYTES // (3 * largest * (2 * threads + 1))))

    def decoded(file):
        data = file.read()
        return decode(io.BytesIO(data), rule), digest(data)

    for row, outcome in _each(store, listing.names, decoded, f"{where}: images", threads, chunk):
        if isinstance(outcome, Exception):
            outcomes[row] = outcome
            continue
        image, origin = outcome
        if image.shape != shape[1:]:
            outcomes[row] = ValueError(f"its pixels have the shape {image.shape}, its header says {shape[1:]}")
            continue
        table.set(row, image, origin)
        if images is not None:
            images[row] = image
    good = np.flatnonzero([outcome is None for outcome in outcomes])
    listing, _ = _without_damaged(where, listing, outcomes, damaged, settings)
    if images is not None:
        for row, old in enumerate(good):  # in place: a copy would double the memory
            if row != old:
                images[row] = images[old]
        images = images[: len(good)]
    if damaged:
        few = "; ".join(f"{name} ({reason})" for name, reason in itertools.islice(damaged.items(), 3))
        notes.append(f"skipped {len(damaged)} damaged {_plural(len(damaged), 'file')}: {few}")
    info = {
        "shape": [len(good), *shape[1:]],
        "names": listing.names,
        "class_names": listing.class_names,
        "num_classes": listing.num_classes,
        "captions": listing.captions,
        "notes": notes,
    }
    labels = {} if listing.labels is None else {"labels": listing.labels}
    return info, vars(table[good]) | labels, images


def _cores() -> int:
    """The number of cores that this process may use; on macOS, which does not tell, all cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _image_shape(header: Header, rule: Rule) -> tuple[int, int, int]:
    height, width = (rule.size, rule.size) if rule.size else header.size
    return height, width, CHANNELS[rule.convert or header.kind]


class DamagedError(DataError):
    """Files of a source cannot be read.

    Attributes:
      where: the source's name.
      files: {name: reason}.
    """

    def __init__(self, where: str, files: dict[str, str], also: str = ""):
        """`also` is another fault of the same source, for the message."""
        (name, reason), *rest = files.items()
        more = f" and {len(rest)} more ({shortened([name for name, _ in rest])})" if rest else ""
        super().__init__(
            f"{where}: {name}{more} cannot be read: {reason}; repair or remove, or set "
            f"config.data.skip_damaged=True{also and '; besides, '}{also}"
        )
        self.where, self.files = where, files


def shortened(names: Sequence[str]) -> str:
    """The first names of many, separated by commas."""
    return ", ".join(names[:MAX_NAMED]) + (" ..." if len(names) > MAX_NAMED else "")


def _errors(names: Sequence[str], outcomes: Sequence[Any]) -> dict[str, str]:
    """{name: reason} of the outcomes that are errors."""
    pairs = zip(names, outcomes, strict=True)
    return {name: str(outcome) for name, outcome in pairs if isinstance(outcome, Exception)}


def _every_damage(store: ImageStore, listing: Listing, settings: Settings) -> dict[str, str]:
    """{name: reason} of all files that cannot be decoded."""
    outcomes: list[Any] = [None] * len(listing.names)
    for row, outcome in _each(store, listing.names, lambda file: decode(file, settings.rule), f"{store.where}: damage"):
        outcomes[row] = outcome if isinstance(outcome, Exception) else None
    return _errors(listing.names, outcomes)


def _without_damaged(
    where: str, listing: Listing, outcomes: list[Any], damaged: dict[str, str], settings: Settings
) -> tuple[Listing, list[Any]]:
    """The listing and outcomes without the rows whose outcome is an error.

    Args:
      damaged: {name: reason} of the rows that were left out; those of this call are added to it.
    Raises:
      DataError: there are such rows and they may not be skipped, or no other rows are left.
    """
    bad = _errors(listing.names, outcomes)
    if not bad:
        return listing, outcomes
    if not settings.skip_damaged:
        raise DamagedError(where, bad)
    if len(bad) == len(listing.names):
        name, reason = next(iter(bad.items()))
        raise DataError(f"{where}: none of the {len(bad)} images can be read: {name}: {reason}")
    damaged |= bad
    good = np.flatnonzero([not isinstance(outcome, Exception) for outcome in outcomes])
    return listing.keep(good), [outcomes[row] for row in good]


def _check_kinds(where: str, names: Sequence[str], headers: list[Header], rule: Rule) -> None:
    """Raises DataError unless the rule gives all images the same number of channels."""
    kinds = _group(names, [header.kind for header in headers])
    for kind, remedy in REMEDIES.items():
        if kind in kinds and not rule.convert:
            count, first = kinds[kind]
            raise DataError(f"{where}: {first}{f' and {count - 1} more' if count > 1 else ''} {remedy}")
    if len(kinds) > 1 and not rule.convert:
        (grey, first_grey), (rgb, first_rgb) = kinds["grey"], kinds["rgb"]
        raise DataError(
            f"{where}: {grey} grey ({first_grey} ...) among {rgb} RGB ({first_rgb} ...): set "
            f"config.data.convert=rgb or grey"
        )


def _check(where: str, names: Sequence[str], headers: list[Header], rule: Rule) -> list[str]:
    """Checks that the rule gives all images one shape; returns sentences about what it changes.

    Raises:
      DataError: it does not; the message names files and the setting to change.
    """
    _check_kinds(where, names, headers, rule)
    sizes = _group(names, [header.size for header in headers])
    if len(sizes) > 1 and not rule.size:
        common = [f"{n} of {h}x{w} ({name})" for (h, w), (n, name) in list(sizes.items())[:3]]
        raise DataError(
            f"{where}: {len(sizes)} different sizes: {', '.join(common)}{' ...' if len(sizes) > 3 else ''}: set "
            f"config.data.size=N and config.data.crop=center (middle square) or none (squash)"
        )
    oblong = [(name, header.size) for name, header in zip(names, headers, strict=True) if len({*header.size}) > 1]
    if oblong and rule.size and not rule.crop:
        name, (height, width) = oblong[0]
        raise DataError(
            f"{where}: {len(oblong)} images are not square ({name}: {height}x{width}): set "
            f"config.data.crop=center (middle square) or none (squash)"
        )
    notes = []
    turned = sum(header.turned for header in headers)
    if turned:
        notes.append(f"{turned} {_plural(turned, 'image')} turned upright as EXIF says")
    if rule.describe():
        low, high = min(sizes), max(sizes)
        found = f"found {low[0]}x{low[1]}" + (f" to {high[0]}x{high[1]}" if low != high else "")
        small = sum(count for size, (count, _) in sizes.items() if min(size) < rule.size)
        notes.append(f"{found}; {rule.describe()}{f'; {small} enlarged' if small else ''}")
    return notes


def _group(names: Sequence[str], values: list[Any]) -> dict[Any, tuple[int, str]]:
    """{value: (count, name of the first image with it)}, the most frequent value first."""
    first: dict[Any, str] = {}
    for name, value in zip(names, values, strict=True):
        first.setdefault(value, name)
    return {value: (count, first[value]) for value, count in collections.Counter(values).most_common()}


def _outcome(opener: Callable, function: Callable) -> Any:
    try:
        with opener() as file:
            return function(file)
    except (OSError, ValueError) as error:
        return error


def _each(
    store: ImageStore,
    names: Sequence[str],
    function: Callable,
    what: str,
    threads: int = 1,
    chunk: int = MAX_CHUNK_FILES,
) -> Iterator[tuple[int, Any]]:
    """Yields (row, outcome) of every file in any order; the outcome is what `function` returns or raises."""
    rows = {name: row for row, name in enumerate(names)}
    jobs = store.in_order(names)

    def work(part):
        return [(rows[name], _outcome(opener, function)) for name, opener in part]

    with progress(what, len(names)) as bar, concurrent.futures.ThreadPoolExecutor(threads) as pool:
        running: collections.deque[concurrent.futures.Future] = collections.deque()
        while (part := list(itertools.islice(jobs, chunk))) or running:
            if part:
                running.append(pool.submit(work, part))
            if len(running) > 2 * threads or not part:
                outcomes = running.popleft().result()
                yield from outcomes
                bar.update(len(outcomes))
