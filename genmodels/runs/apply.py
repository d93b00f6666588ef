"""The inputs of any predict function, gathered from what a command is given: paths of images, labels, a row count."""

import ast
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from genmodels.data.sources import read_images
from genmodels.errors import ConfigError, choose
from genmodels.runs.inference import Run, check_labels

IMAGES = ("image", "a", "b")  # fields of inputs that are images


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """{key: value} of "key=value" strings; a value is a Python number or word.

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
    """The inputs of a predict function, and their number of rows.

    Args:
      paths: of images, one for each field of images that it takes; labels in them serve where none are given.
      num: how many rows where it takes no images; with images, at most so many of them.
    Raises:
      ConfigError, DataError: paths, labels or num are missing, superfluous, or do not fit the model.
    """
    predict = run.predictor.task.predict[choose("predict function", name, run.predictor.task.predict)]
    fields = [field for field in IMAGES if field in predict.inputs]
    if len(paths) != len(fields):
        wanted = ",".join(f"{field.upper()}_PATH" for field in fields)
        needs = f"takes {len(fields)} sets of images: --input={wanted}" if fields else "takes no images: give --num"
        raise ConfigError(f"--predict={name} {needs}")
    if not fields and num is None:
        raise ConfigError(f"--predict={name} takes no images: say how many rows with --num")
    sources = {field: read_images("--input", path) for field, path in zip(fields, paths, strict=True)}
    shape = tuple(run.data.image_shape)
    for source in sources.values():
        if source.image_shape != shape:
            found, wanted = ("x".join(map(str, one)) for one in (source.image_shape, shape))
            raise ConfigError(
                f"--input={source.name}: images of {found}, this model takes {wanted}; have them brought to it: "
                f'\'folder("DIR", size={shape[0]}, crop="center")\''
            )
    counts = [len(source) for source in sources.values()]
    rows = min([*counts, num] if num is not None else counts)
    inputs = {field: source.pixels[:rows] for field, source in sources.items()}
    if labels is None and "label" in predict.inputs:
        found = [source.labels for source in sources.values() if source.labels is not None]
        labels = found[0][:rows] if found else None
        if labels is None and sources:
            raise ConfigError(f"--predict={name} needs the labels of the images, which have none: give --labels")
    if "label" in predict.inputs:
        known = run.data.num_classes
        inputs["label"] = np.resize(check_labels(np.arange(known) if labels is None else labels, known), rows)
    elif labels is not None:
        raise ConfigError(f"--labels: the predict function {name} takes none")
    return inputs, rows
