"""From encoded images to a Source: look at every file once, before anything else happens.

First all headers, which finds mixed sizes and kinds in seconds; then every image is decoded, which finds the damaged
ones and settles the count, and what is small enough stays in memory. The next start reads the result from the cache.
"""

import collections
import concurrent.futures
import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from genmodels.cli.progress import Progress
from genmodels.data import cache
from genmodels.data.base import Settings, Source, Table
from genmodels.data.images import CHANNELS, Header, Rule, decode, read_header
from genmodels.data.listing import Listing
from genmodels.data.media import ImageStore
from genmodels.data.pixels import Decoded, Mixed, digest
from genmodels.errors import DataError

CHUNK = 64  # files a thread takes at once, at the most
IN_FLIGHT = 2**26  # bytes of decoded pixels that all threads may hold, about
SMALL = 128 * 128  # pixels: below, Python is busier than the decoders, and threads hinder one another

REMEDIES = {
    "alpha": "has transparency: config.data.convert=rgb (or grey) lays it over white, rgba keeps a fourth channel",
    "16-bit": "has 16 bits a channel: config.data.convert=grey (or rgb) keeps the upper 8",
    "CMYK": "is CMYK, for print: config.data.convert=rgb (or grey) translates it",
}


def open_files(store: ImageStore, split: str, settings: Settings, list_split: Callable[[], Listing]) -> Source:
    """The images of a folder, archive or prepared data set.

    Args:
      list_split: which of its files belong to the split; asked when the cache does not know.

    Raises:
      DataError: there are none, one is damaged, or they differ in size or kind and no rule makes them alike.
    """
    rule = settings.rule
    name = cache.key(type(store).__name__, str(store.path.resolve()), split, store.stamp, rule, settings.skip_damaged)
    entry = cache.read(name, lambda shape: _fits(shape, settings))
    if entry is None and settings.mixed and (source := _open_mixed(store, split, list_split(), settings)):
        return source
    if entry is None or (entry[2] is None and _fits(entry[0]["shape"], settings)):
        info, arrays, images = _scan(store, list_split(), settings)
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
        len(info["class_names"]),
        tuple(info["class_names"]),
        info["captions"] and tuple(info["captions"]),
        files,
        table,
        tuple(info["notes"]),
    )


def _open_mixed(store: ImageStore, split: str, listing: Listing, settings: Settings) -> Source | None:
    """The images at their own sizes; None where all have the same, or a rule makes them so."""
    rule, where = settings.rule, store.where
    headers: list[Any] = [None] * len(listing.names)
    for row, header in _each(store, listing.names, read_header, f"{where}: headers"):
        headers[row] = header
    listing, headers = _without_damaged(where, listing, headers, {}, settings)
    if rule.size or len({header.size for header in headers}) == 1:
        return None
    if store.sequential:
        raise DataError(f"{where}: images of many sizes in a compressed tar cannot be read at random: decompress it")
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
        len(listing.class_names),
        listing.class_names,
        listing.captions,
        listing.names,
        Table(table.origins, table.extremes, table.origins),  # with the shapes, which digests of pixels leave out
        (f"{len({header.size for header in headers})} different sizes", *listing.notes),
    )


def _check_random_access(store: ImageStore, shape: Sequence[int], settings: Settings) -> None:
    if store.sequential and not _fits(shape, settings):
        raise DataError(
            f"{store.where}: {_gigabytes(shape):.1f} GB of pixels do not fit config.data.memory_gb="
            f"{settings.memory_gb:g}, and a compressed tar cannot be read at random: decompress it, or raise memory_gb"
        )


def _gigabytes(shape: Sequence[int]) -> float:
    return float(np.prod(shape, dtype=np.float64)) / 1e9


def _fits(shape: Sequence[int], settings: Settings) -> bool:
    return _gigabytes(shape) <= settings.memory_gb


def _scan(store: ImageStore, listing: Listing, settings: Settings) -> tuple[dict[str, Any], dict[str, np.ndarray], Any]:
    """(info, arrays, images) as the cache keeps them; images is None where they do not fit in memory."""
    rule, where = settings.rule, store.where
    headers: list[Any] = [None] * len(listing.names)
    distinct: dict[Any, Any] = {}  # most are equal; one object for them saves memory
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
    threads = _cores() if largest > SMALL else 1
    chunk = max(1, min(CHUNK, IN_FLIGHT // (3 * largest * (2 * threads + 1))))

    def decoded(file):
        data = file.read()
        return decode(io.BytesIO(data), rule), digest(data)

    for row, outcome in _each(store, listing.names, decoded, f"{where}: images", threads, chunk):
        if isinstance(outcome, Exception):
            outcomes[row] = outcome
            continue
        image, origin = outcome
        if image.shape != shape[1:]:
            outcomes[row] = ValueError(f"decodes to {image.shape}")
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
        "captions": listing.captions,
        "notes": notes,
    }
    labels = {} if listing.labels is None else {"labels": listing.labels}
    return info, vars(table[good]) | labels, images


def _cores() -> int:
    """Those this process may use; macOS does not tell, and gives all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _image_shape(header: Header, rule: Rule) -> tuple[int, int, int]:
    height, width = (rule.size, rule.size) if rule.size else header.size
    return height, width, CHANNELS[rule.convert or header.kind]


def _without_damaged(
    where: str, listing: Listing, outcomes: list[Any], damaged: dict[str, str], settings: Settings
) -> tuple[Listing, list[Any]]:
    """The listing and outcomes without the rows whose outcome is an error, which join `damaged`.

    Raises:
      DataError: there are such rows and they are not to be skipped, or nothing else is left.
    """
    bad = {listing.names[row]: str(error) for row, error in enumerate(outcomes) if isinstance(error, Exception)}
    if not bad:
        return listing, outcomes
    name, reason = next(iter(bad.items()))
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    if not settings.skip_damaged:
        raise DataError(
            f"{where}: {name}{more} cannot be read: {reason}; mend or remove, or set config.data.skip_damaged=True"
        )
    if len(bad) == len(listing.names):
        raise DataError(f"{where}: none of the {len(bad)} images can be read: {name}: {reason}")
    damaged |= bad
    good = np.flatnonzero([not isinstance(outcome, Exception) for outcome in outcomes])
    return listing.keep(good), [outcomes[row] for row in good]


def _check_kinds(where: str, names: Sequence[str], headers: list[Header], rule: Rule) -> None:
    """Raises DataError unless the rule gives all images the same channels."""
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
    """Checks that the rule makes all images alike; returns what is worth telling.

    Raises:
      DataError: it does not; names the files and the setting that would.
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
            f"{where}: {len(oblong)} images are not square ({name}: {height}x{width}): say how they become so, "
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
    """{value: (count, first name)}, the most frequent first."""
    first = {}
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
    store: ImageStore, names: Sequence[str], function: Callable, what: str, threads: int = 1, chunk: int = CHUNK
) -> Iterator[tuple[int, Any]]:
    """(row, outcome) of every file in whatever order; an outcome is what `function` gives, or the error it raised."""
    rows = {name: row for row, name in enumerate(names)}
    jobs = store.in_order(names)

    def work(part):
        return [(rows[name], _outcome(opener, function)) for name, opener in part]

    progress = Progress(what, len(names))
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        running: collections.deque[concurrent.futures.Future] = collections.deque()
        while (part := list(itertools.islice(jobs, chunk))) or running:
            if part:
                running.append(pool.submit(work, part))
            if len(running) > 2 * threads or not part:
                outcomes = running.popleft().result()
                yield from outcomes
                progress.advance(len(outcomes))
    progress.close()
