"""What a data source holds, in words and in a picture, and what looks wrong with it, before anything is compiled."""

import pathlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from genmodels.core.grids import save_grid
from genmodels.core.names import printable
from genmodels.data.base import DataSource, Source

SHEET_ROWS, SHEET_COLUMNS = 8, 10  # images of a contact sheet
MAX_NAMED = 3  # images or classes that a warning names
MAX_COUNTED = 12  # classes whose size is printed
MIN_VALUE_RANGE = 64  # of 0 to 255; images that span less are suspicious
MAX_CLASS_RATIO = 10  # the largest class over the smallest; more is called unbalanced


def describe(source: DataSource) -> list[str]:
    """One line for each fact about a source; lines about what looks wrong begin with "warning:".

    The lines about a source of several fields begin with the field that they are about.
    """
    if len(source.parts) == 1:
        (part,) = source.parts.values()
        return [printable(line) for line in (*_facts(part), *(f"warning: {line}" for line in _warnings(part)))]
    lines = [f"{field}: {line}" for field, part in source.parts.items() for line in describe(part)]
    return [printable(f"{source.name}: an epoch is {len(source):,} rows of {' and '.join(source.fields)}"), *lines]


def _facts(source: Source) -> Iterator[str]:
    height, width, channels = source.image_shape
    kind = {1: "grey", 3: "RGB", 4: "RGBA"}[channels]
    size = len(source) * height * width * channels
    where = "in memory" if source.in_memory else "decoded as they are needed"
    yield f"{source.name} ({source.split}): {len(source):,} images {height}x{width} {kind}, {_bytes(size)}, {where}"
    if source.labels is None:
        yield "no labels"
    else:
        counts = np.bincount(source.labels, minlength=source.num_classes)
        names = [_class_name(source, number) for number in range(source.num_classes)]
        shown = ", ".join(f"{name} {count:,}" for name, count in zip(names[:MAX_COUNTED], counts, strict=False))
        yield f"{source.num_classes} classes, {counts.min():,} to {counts.max():,} images each: {shown}" + (
            f", ... {len(names) - MAX_COUNTED} more" if len(names) > MAX_COUNTED else ""
        )
    if source.captions is not None:
        missing = sum(not caption for caption in source.captions)
        yield f"{len(source) - missing:,} captions" + (f", {missing:,} images without" if missing else "")
    low, high = source.table.extremes.min(), source.table.extremes.max()
    yield f"values {low} to {high}, fingerprint {source.fingerprint[:12]}"
    yield from source.notes


def _bytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _class_name(source: Source, number: int) -> str:
    return source.class_names[number] if source.class_names else str(number)


def _warnings(source: Source) -> Iterator[str]:
    extremes = source.table.extremes
    flat = np.flatnonzero(extremes[:, 0] == extremes[:, 1])
    if len(flat):
        which = "all images are" if len(flat) == len(source) else f"{_count(source, flat)} are"
        yield f"{which} of one value throughout"
    elif extremes.max() <= 1:
        yield "no value is above 1: were these images scaled to [0, 1] before they became uint8?"
    elif extremes.max() - int(extremes.min()) < MIN_VALUE_RANGE:
        yield f"values span only {extremes.min()} to {extremes.max()} of 0 to 255"
    _, first, counts = np.unique(source.table.digests, axis=0, return_index=True, return_counts=True)
    copies = len(source) - len(counts)
    if copies:
        repeated = first[np.argsort(-counts)[:MAX_NAMED]]
        examples = ", ".join(f"{_file(source, row)} x{counts[first == row][0]}" for row in repeated)
        yield f"{copies:,} images are copies of others ({examples})"
    if source.labels is not None:
        counts = np.bincount(source.labels, minlength=source.num_classes)
        absent = np.flatnonzero(counts == 0)
        if len(absent):
            names = ", ".join(_class_name(source, number) for number in absent[:MAX_NAMED].tolist())
            classes = "1 class has" if len(absent) == 1 else f"{len(absent)} classes have"
            yield (
                f"{classes} no images ({names}{' ...' if len(absent) > MAX_NAMED else ''}): no model can learn what is "
                f"absent; add images, or remove the class"
            )
        elif counts.max() > MAX_CLASS_RATIO * counts.min():
            least = _class_name(source, int(np.argmin(counts)))
            yield f"classes are unbalanced: {least} has {counts.min():,} images, the largest {counts.max():,}"


def _file(source: Source, row: int | np.integer) -> str:
    return source.files[row] if source.files else f"image {row}"


def _count(source: Source, rows: np.ndarray) -> str:
    return f"{len(rows):,} images ({', '.join(_file(source, row) for row in rows[:MAX_NAMED])} ...)"


def overlap(train: DataSource, test: DataSource) -> list[str]:
    """One line for each field: how many test images are training images too."""
    lines = []
    for field, part in test.parts.items():
        seen = {digest.tobytes() for digest in train.parts[field].table.digests}
        both = [row for row, digest in enumerate(part.table.digests) if digest.tobytes() in seen]
        found = "no test image is in the training split"
        if both:
            found = f"warning: {_count(part, np.array(both))} of the test split are in the training split too"
        lines.append(printable(found if len(test.parts) == 1 else f"{field}: {found}"))
    return lines


def sheet(source: DataSource) -> tuple[UInt8[np.ndarray, "N height width channel"], int, str]:
    """(images, columns, caption) of a contact sheet.

    A source of several fields has some rows of each. A source with few classes has a column for each class, any other
    one shows images at even distances over the whole set.
    """
    if len(source.parts) > 1:
        rows = max(1, SHEET_ROWS // len(source.parts))
        shown = [_spread(part, rows * SHEET_COLUMNS) for part in source.parts.values()]
        names = "; then: ".join(part.name for part in source.parts.values())
        return np.concatenate(shown), SHEET_COLUMNS, f"first rows: {names}"
    (part,) = source.parts.values()
    if part.labels is None or not 1 < part.num_classes <= 2 * SHEET_COLUMNS:
        return _spread(part, SHEET_ROWS * SHEET_COLUMNS), SHEET_COLUMNS, "evenly spread over the set"
    counts = np.bincount(part.labels, minlength=part.num_classes)
    present = np.flatnonzero(counts)
    rows = min(SHEET_ROWS, int(counts[present].min()))
    first = np.stack([np.flatnonzero(part.labels == number)[:rows] for number in present], axis=1)
    names = ", ".join(_class_name(part, number) for number in present.tolist())
    return part.images_of("image")[first.reshape(-1)], len(present), f"one class a column: {names}"


def _spread(source: Source, count: int) -> UInt8[np.ndarray, "N height width channel"]:
    return source.images_of("image")[np.unique(np.linspace(0, len(source) - 1, count).round().astype(int))]


def save_sheet(path: pathlib.Path, source: DataSource) -> None:
    """Writes the contact sheet of a source as a PNG with a title and a caption."""
    images, columns, caption = sheet(source)
    title = f"{source.name} ({source.split}): {len(source):,} images"
    save_grid(path, images, columns, printable(title), printable(caption))
