"""The inputs of any predict function, gathered from a command's flags: paths of images, labels, a number of rows."""

import ast
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from genmodels.data.base import Source
from genmodels.data.classes import renumbered
from genmodels.data.resize import CHANNELS
from genmodels.data.sources import read_images
from genmodels.errors import ConfigError, choose
from genmodels.runs.inference import Run


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """{key: value} of "key=value" strings; a value that is not a Python literal is taken as a word.

    Raises:
      ConfigError: a string without "=".
    """
    options = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set={pair}: must be key=value")
        try:
            options[key] = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            options[key] = text
    return options


def _changed(source: Source, shape: tuple[int, ...]) -> str:
    """The call that reads the images of a source in another shape; of a source that is a call, one of its parts."""
    scheme, _, path = source.name.partition(":")
    place = f'{scheme}("{path}"' if path and "(" not in scheme else 'folder("DIR"'
    found = source.image_shape
    resize = f', size={shape[0]}, crop="center"' if found[:2] != shape[:2] else ""
    names = {channels: name for name, channels in CHANNELS.items()}
    convert = f', convert="{names[shape[2]]}"' if found[2:] != shape[2:] and shape[2] in names else ""
    return f"{place}{resize}{convert})"


def gather(
    run: Run, name: str, paths: Sequence[str], labels: Sequence[int | str] | None, num: int | None
) -> tuple[dict[str, np.ndarray], int]:
    """The inputs of a predict function, and the number of their rows.

    Args:
      paths: images for each image field that the function takes; labels stored with them are used if none are given.
        If both their classes and the run's have names, these decide.
      labels: classes by name or number, repeated in turn over the rows.
      num: the number of rows where the function takes no images; with images, at most this many of them.
    Raises:
      ConfigError, DataError: paths, labels or num are missing, superfluous, or do not fit the model.
    """
    predict = run.predictor.task.predict[choose("predict function", name, run.predictor.task.predict)]
    fields = predict.images
    if len(paths) != len(fields):
        wanted = ",".join(f"{field.upper()}_PATH" for field in fields)
        sets = "1 set" if len(fields) == 1 else f"{len(fields)} sets"
        needs = f"takes {sets} of images: --input={wanted}" if fields else "takes no images: give --num"
        raise ConfigError(f"--predict={name} {needs}")
    if not fields and num is None:
        raise ConfigError(f"--predict={name} takes no images: say how many rows with --num")
    sources = {field: read_images("--input", path, single=True) for field, path in zip(fields, paths, strict=True)}
    shape = tuple(run.data.image_shape)
    for source in sources.values():
        if source.image_shape != shape:
            theirs, ours = ("x".join(map(str, size)) for size in (source.image_shape, shape))
            raise ConfigError(
                f"--input={source.name}: images of {theirs}, this model takes {ours}; change them as they are read: "
                f"--input='{_changed(source, shape)}'"
            )
    counts = [len(source) for source in sources.values()]
    rows = min([*counts, num] if num is not None else counts)
    inputs = {field: source.images_of("image")[:rows] for field, source in sources.items()}
    if "label" in predict.inputs:
        inputs["label"] = _labels(run, name, list(sources.values()), labels, rows)
    elif labels is not None:
        raise ConfigError(f"--labels: the predict function {name} takes no labels")
    return inputs, rows


def _labels(run: Run, name: str, sources: Sequence[Source], given: Sequence[int | str] | None, rows: int) -> np.ndarray:
    """A label a row: those given, else those of the first source that has any, else all classes in turn."""
    if given is not None:
        return np.resize(run.labels(given), rows)
    if not sources:
        return np.arange(rows, dtype=np.int32) % run.data.num_classes
    labelled = next((source for source in sources if source.labels is not None), None)
    if labelled is None or labelled.labels is None:
        raise ConfigError(f"--predict={name} needs the labels of the images, which have none: give --labels")
    where = f"--input={labelled.name}"
    found = renumbered(labelled.labels[:rows], labelled.class_names, run.data.class_names, where)
    if found.max() >= run.data.num_classes:
        known = f"this model has the labels 0 to {run.data.num_classes - 1}"
        raise ConfigError(f"{where}: label {found.max()} is out of range: {known}")
    return found
