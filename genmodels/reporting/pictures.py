"""Pictures of what a model makes, chosen by the inputs and the output of its predict functions alone.

A predict function has a picture when its output is "image" (one image a row) or "frames" (a sequence of images a row),
or when it says what its result shows (`Predict.shows`). Without images among its inputs the picture is a grid of
samples, by class where it takes labels; with images these lie above what the function makes of them; and a sequence is
a row. A new kind of model gets its pictures without a line here.
"""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from genmodels.core.grids import layout, save_grid
from genmodels.data.base import DataSource
from genmodels.data.classes import names_in
from genmodels.data.pixels import Pixels
from genmodels.metrics.nearest import nearest_neighbours
from genmodels.reporting.decoration import decoration
from genmodels.reporting.picture_files import FILES
from genmodels.runs.inference import Predictor, Run
from genmodels.tasks import Predict

Images = UInt8[np.ndarray, "N height width channel"]
Call = Callable[[int, dict[str, Any]], dict[str, np.ndarray]]  # (number of rows, inputs) to a predict function's result

EXAMPLES = 10  # columns of samples, rows of sequences; twice as many inputs
SAMPLE_ROWS = 8
MAX_SAMPLES = 100  # in the picture of an evaluation
MAX_CLASS_COLUMNS = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Sheet:
    """A picture of a predict function.

    Attributes:
      images: all images, row after row.
      columns: how many images a row has.
      caption: what the rows are.
      made: the output of the predict function alone.
    """

    images: Images
    columns: int
    caption: str
    made: UInt8[np.ndarray, "rows ..."]


def pictured(functions: Mapping[str, Predict]) -> dict[str, Predict]:
    """The predict functions that have a picture, by name."""
    return {name: one for name, one in functions.items() if one.output in ("image", "frames") or one.shows}


def draw(name: str, predict: Predict, call: Call, source: DataSource) -> Sheet | None:
    """The sheet of a predict function; None where the source lacks the images or labels that its inputs need.

    Args:
      source: gives the images and labels. An input named like a field of the source takes that field's images. Other
        inputs need a source with a single field, and several of them take consecutive images of it.
    """
    found = _inputs(predict, source)
    if found is None:
        return None
    num, inputs, origins = found
    outputs = call(num, inputs)
    made = outputs[predict.output]
    shows = predict.shown(name, outputs)
    if made.ndim == 5:
        shown = max(1, EXAMPLES // len(shows))
        rows = np.stack([outputs[field][:shown] for field in shows], axis=1)
        order = f"of each {len(shows)} rows, from above: " if len(shows) > 1 else "a row each: "
        caption = "; ".join([*origins, order + ", ".join(shows.values())])
        return Sheet(rows.reshape(-1, *rows.shape[3:]), rows.shape[2], caption, made)
    if origins:
        rows = np.concatenate([*(inputs[field] for field in predict.images), *(outputs[field] for field in shows)])
        return Sheet(rows, num, f"from above: {', '.join([*origins, *shows.values()])}", made)
    by_class = _one_class_a_column(inputs.get("label", np.zeros(1, int)), source.class_names)
    return Sheet(made, num // SAMPLE_ROWS, f"images 0 to {num - 1}{by_class}", made)


def _one_class_a_column(labels: Int[np.ndarray, " N"], class_names: Sequence[str]) -> str:
    """What the columns of a grid show whose labels take turns; "" where all are of one class."""
    if len(np.unique(labels)) < 2:
        return ""
    names = names_in(labels, class_names)
    return f", one class a column{names and ': '}{names}"


def _inputs(predict: Predict, source: DataSource) -> tuple[int, dict[str, Any], list[str]] | None:
    """(number of rows, inputs, where each image input comes from) for a sheet; None where the source has too little."""
    single, labelled = predict.output == "image", "label" in predict.inputs
    if not predict.images:
        classes = min(source.num_classes, MAX_CLASS_COLUMNS)
        if labelled and not classes:
            return None
        columns = classes if labelled and classes > 2 else EXAMPLES
        num = SAMPLE_ROWS * columns if single else EXAMPLES
        return num, {"label": np.arange(num, dtype=np.int32) % classes} if labelled else {}, []
    fields = {one: one if one in source.fields else source.fields[0] for one in predict.images}
    if len(source.fields) > 1 and not set(predict.images) <= set(source.fields):
        return None
    uses = collections.Counter(fields.values())
    most = min(len(source.images_of(field)) // count for field, count in uses.items())
    num = min(most, 2 * EXAMPLES if single else EXAMPLES)
    if not num or (labelled and source.labels is None):
        return None
    inputs: dict[str, Any] = {"label": source.labels[:num]} if labelled and source.labels is not None else {}
    origins, start = [], dict.fromkeys(uses, 0)
    for one, field in fields.items():
        first = start[field]
        start[field] = first + num
        inputs[one] = source.images_of(field)[first : first + num]
        origins.append(f"images {first} to {first + num - 1} of {source.parts[field].name} ({source.split})")
    return num, inputs, origins


def while_training(
    predictor: Predictor, variables: Any, source: DataSource, folder: pathlib.Path, step: int
) -> dict[str, np.ndarray]:
    """Draws <name>_<step>.png of the most telling predict functions; returns what they made.

    These are the functions that make images of no image; of a task without such a function, those that make an image of
    images; else all that have a picture.
    """
    functions = pictured(predictor.task.predict)
    single = {name: one for name, one in functions.items() if one.output == "image"}
    samples = {name: one for name, one in single.items() if not one.images}
    drawn = {}
    for name, predict in (samples or single or functions).items():
        sheet = draw(name, predict, functools.partial(predictor, variables, name), source)
        if sheet is not None:
            drawn[name] = sheet.made
            path, title = folder / f"{name}_{step:06d}.png", f"{name} at step {step}"
            save_grid(path, sheet.images, sheet.columns, title, f"{sheet.caption}; seed 0")
    return drawn


def of_functions(run: Run, names: Iterable[str], source: DataSource, seed: int, options: Mapping[str, Any]) -> None:
    """Draws samples/<name>.png (or as FILES has it) of these predict functions; one that fails is a warning.

    Args:
      options: settings of the sampler that differ from the run's; each function takes those that it has.
    """
    for name in names:
        predict = run.predictor.task.predict[name]
        chosen = {key: value for key, value in options.items() if key in predict.options}
        path = run.workdir / "samples" / f"{FILES.get(name, name)}.png"
        with decoration(path):
            sheet = draw(name, predict, functools.partial(run.predict, name, seed=seed, **chosen), source)
            if sheet is not None:
                settings = "".join(f", {key} {value}" for key, value in {**predict.options, **chosen}.items())
                caption = f"{sheet.caption}; {run.weights} weights of step {run.step}, seed {seed}{settings}"
                save_grid(path, sheet.images, sheet.columns, predict.title or name, caption)


def samples(run: Run, images: Images, labels: Int[np.ndarray, " N"] | None, protocol: str) -> None:
    """Draws samples/grid.png of the samples that were measured, by class where that fits; a failure is a warning."""
    path = run.workdir / "samples" / "grid.png"
    with decoration(path):
        chosen = np.arange(min(len(images), MAX_SAMPLES))
        if labels is not None:
            classes, counts = np.unique(labels, return_counts=True)
            rows = min(int(counts.min()), MAX_SAMPLES // len(classes))
            in_turn = np.stack([np.flatnonzero(labels == each)[:rows] for each in classes], axis=1).reshape(-1)
            chosen = in_turn if rows > 1 else chosen
        columns, by_class = layout(images[chosen], None if labels is None else labels[chosen])
        if by_class and labels is not None and (names := names_in(labels[chosen], run.data.class_names)):
            by_class = f"{by_class}: {names}"
        save_grid(path, images[chosen], columns, "Samples", ", ".join(filter(None, (protocol, by_class))))


def neighbours(run: Run, images: Images, training: Pixels) -> None:
    """Draws samples/neighbours.png, samples above their nearest training images; a failure is a warning."""
    path = run.workdir / "samples" / "neighbours.png"
    with decoration(path):
        distances, indices = nearest_neighbours(images[: 2 * EXAMPLES], training)
        rows = np.concatenate([images[: 2 * EXAMPLES], training[indices]])
        caption = (
            f"above: samples 0 to {len(distances) - 1}; below: the training image nearest to each "
            f"(mean distance {distances.mean():.2f}, pixels in 0-1)"
        )
        save_grid(path, rows, len(distances), "Nearest training images", caption)
