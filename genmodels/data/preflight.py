"""What the data is, in words and in a picture, before anything is compiled for it."""

import pathlib
from collections.abc import Iterator

import numpy as np

from genmodels.core.grids import save_grid
from genmodels.data.base import Pair, Source

SHEET_ROWS, SHEET_COLUMNS = 8, 10
FEW = 3


def describe(source: Source | Pair) -> list[str]:
    """The facts a line each, what looks wrong in lines that begin with "warning:"."""
    if isinstance(source, Pair):
        sides = [f"{side}: {line}" for side in ("a", "b") for line in describe(getattr(source, side))]
        return [printable(f"{source.name}: an epoch is {len(source):,} pairs"), *sides]
    return [printable(line) for line in (*_facts(source), *(f"warning: {line}" for line in _warnings(source)))]


def printable(text: str) -> str:
    """The text with bytes of file names that are no UTF-8 written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


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
        shown = ", ".join(f"{name} {count:,}" for name, count in zip(names[:12], counts, strict=False))
        yield f"{source.num_classes} classes, {counts.min():,} to {counts.max():,} images each: {shown}" + (
            f", ... {len(names) - 12} more" if len(names) > 12 else ""
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
    elif extremes.max() - int(extremes.min()) < 64:
        yield f"values span only {extremes.min()} to {extremes.max()} of 0 to 255"
    _, first, counts = np.unique(source.table.digests, axis=0, return_index=True, return_counts=True)
    copies = len(source) - len(counts)
    if copies:
        repeated = first[np.argsort(-counts)[:FEW]]
        examples = ", ".join(f"{_file(source, row)} x{counts[first == row][0]}" for row in repeated)
        yield f"{copies:,} images are copies of others ({examples})"
    if source.labels is not None:
        counts = np.bincount(source.labels, minlength=source.num_classes)
        absent = np.flatnonzero(counts == 0)
        if len(absent):
            names = ", ".join(_class_name(source, number) for number in absent[:FEW].tolist())
            yield f"no image of {len(absent)} classes ({names} ...)"
        elif counts.max() > 10 * counts.min():
            least = _class_name(source, int(np.argmin(counts)))
            yield f"classes are unbalanced: {least} has {counts.min():,} images, the largest {counts.max():,}"


def _file(source: Source, row: int | np.integer) -> str:
    return source.files[row] if source.files else f"image {row}"


def _count(source: Source, rows: np.ndarray) -> str:
    return f"{len(rows):,} images ({', '.join(_file(source, row) for row in rows[:FEW])} ...)"


def overlap(train: Source, test: Source) -> str:
    """How many test images are training images too."""
    seen = {digest.tobytes() for digest in train.table.digests}
    both = [row for row, digest in enumerate(test.table.digests) if digest.tobytes() in seen]
    if both:
        return f"warning: {_count(test, np.array(both))} of the test split are in the training split too"
    return "no test image is in the training split"


def sheet(source: Source | Pair) -> tuple[np.ndarray, int, str]:
    """(images, columns, caption) of a contact sheet: classes in columns where they are few, else a spread of all."""
    if isinstance(source, Pair):
        half = SHEET_ROWS // 2
        sides = [_spread(side, half * SHEET_COLUMNS) for side in (source.a, source.b)]
        return np.concatenate(sides), SHEET_COLUMNS, f"first rows: {source.a.name}; then: {source.b.name}"
    classes = source.num_classes
    if not 1 < classes <= 2 * SHEET_COLUMNS:
        return _spread(source, SHEET_ROWS * SHEET_COLUMNS), SHEET_COLUMNS, "evenly spread over the set"
    counts = np.bincount(source.labels, minlength=classes)
    present = np.flatnonzero(counts)
    rows = min(SHEET_ROWS, counts[present].min())
    first = np.stack([np.flatnonzero(source.labels == number)[:rows] for number in present], axis=1)
    names = ", ".join(_class_name(source, number) for number in present.tolist())
    return source.pixels[first.reshape(-1)], len(present), f"one class a column: {names}"


def _spread(source: Source, count: int):
    return source.pixels[np.unique(np.linspace(0, len(source) - 1, count).round().astype(int))]


def save_sheet(path: pathlib.Path, source: Source | Pair) -> None:
    """Writes a contact sheet of a data source."""
    images, columns, caption = sheet(source)
    title = f"{source.name} ({source.split}): {len(source):,} images"
    save_grid(path, images, columns, printable(title), printable(caption))
