"""What `genmodels.apply` does once its flags are read: inputs for any predict function, and its outputs in files."""

import ast
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from genmodels.errors import ConfigError, choose
from genmodels.inference import Run, check_labels
from genmodels.reporting.files import read_images, write_images
from genmodels.reporting.grids import save_grid
from genmodels.tasks import Predict
from genmodels.workdir import atomic_path

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


def write(out: pathlib.Path, name: str, predict: Predict, outputs: dict[str, np.ndarray], caption: str) -> None:
    """Writes every array into an .npz, where `image` is called images as `sample` has it; or images as files.

    Raises:
      ConfigError: they are no images, and `out` is no .npz.
    """
    if out.suffix == ".npz":
        with atomic_path(out) as temporary:
            np.savez_compressed(temporary, **{"images" if key == "image" else key: x for key, x in outputs.items()})
        return
    images = outputs[predict.output]
    if images.dtype != np.uint8:
        raise ConfigError(f"--out={out}: {name} gives {predict.output}, which is no image: end it in .npz")
    if images.ndim == 5 and out.suffix == ".png":
        save_grid(out, images.reshape(-1, *images.shape[2:]), images.shape[1], name, f"{caption}; a path a row")
    else:
        write_images(out, images.reshape(-1, *images.shape[-3:]), None, caption)
