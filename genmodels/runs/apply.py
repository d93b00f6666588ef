"""The inputs of any predict function, gathered from a command's flags: paths of images, labels, a number of rows."""

import ast
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from genmodels.data.sources import read_images
from genmodels.errors import ConfigError, choose
from genmodels.runs.inference import Run, check_labels


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


def gather(
    run: Run, name: str, paths: Sequence[str], labels: Sequence[int] | None, num: int | None
) -> tuple[dict[str, np.ndarray], int]:
    """The inputs of a predict function, and the number of their rows.

    Args:
      paths: images for each image field that the function takes; labels stored with them are used if none are given.
      labels: repeated in turn over the rows.
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
    sources = {field: read_images("--input", path) for field, path in zip(fields, paths, strict=True)}
    shape = tuple(run.data.image_shape)
    for source in sources.values():
        if source.image_shape != shape:
            theirs, ours = ("x".join(map(str, size)) for size in (source.image_shape, shape))
            raise ConfigError(
                f"--input={source.name}: images of {theirs}, this model takes {ours}; resize them as they are read: "
                f'--input=\'folder("DIR", size={shape[0]}, crop="center")\''
            )
    counts = [len(source) for source in sources.values()]
    rows = min([*counts, num] if num is not None else counts)
    inputs = {field: source.pixels[:rows] for field, source in sources.items()}
    if labels is None and "label" in predict.inputs:
        stored = [source.labels for source in sources.values() if source.labels is not None]
        labels = stored[0][:rows].tolist() if stored else None
        if labels is None and sources:
            raise ConfigError(f"--predict={name} needs the labels of the images, which have none: give --labels")
    if "label" in predict.inputs:
        num_classes = run.data.num_classes
        chosen = check_labels(np.arange(num_classes) if labels is None else labels, num_classes)
        inputs["label"] = np.resize(chosen, rows)
    elif labels is not None:
        raise ConfigError(f"--labels: the predict function {name} takes no labels")
    return inputs, rows
