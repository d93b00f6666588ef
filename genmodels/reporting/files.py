"""The files that commands write: images as an .npz, a folder of PNGs or one PNG grid; results as JSON."""

import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from genmodels.core.files import atomic_path, write_arrays, write_text
from genmodels.core.grids import banded, columns_of, layout, save_grid, to_pil
from genmodels.core.names import safe
from genmodels.data.arrays import CLASS_NAMES
from genmodels.errors import ConfigError, StorageError
from genmodels.evaluators.base import Result
from genmodels.runs.workdir import read_json
from genmodels.tasks import Predict

Images = UInt8[np.ndarray, "N height width channel"]
NO_INPUTS: Mapping[str, np.ndarray] = MappingProxyType({})
NOT_FINITE = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}


def check_out(out: str) -> pathlib.Path:
    """The path of --out=DIR|FILE.npz|FILE.png.

    Raises:
      ConfigError: the suffix is another one; a folder exists where a file is to be written, or the reverse; or the
        folder holds PNGs already.
    """
    path = pathlib.Path(out)
    if path.suffix not in ("", ".npz", ".png"):
        raise ConfigError(f"--out={out}: must be a folder or end in .npz or .png")
    if path.exists() and path.is_dir() == bool(path.suffix):
        raise ConfigError(
            f"--out={out}: exists and is {'a folder' if path.is_dir() else 'a file'}; choose another name"
        )
    if path.is_dir() and any(path.glob("[!.]*.png")):
        raise ConfigError(f"--out={out}: holds PNGs already, which would mix with the new ones; choose an empty folder")
    return path


def _labels_of(labels: Int[np.ndarray, " N"] | None, class_names: Sequence[str]) -> dict[str, np.ndarray]:
    """The members of an .npz that hold labels and the names of their classes; none for images without labels."""
    named = {CLASS_NAMES: np.array(class_names, str)} if class_names else {}
    return {} if labels is None else {"labels": labels} | named


def write_images(
    path: pathlib.Path,
    images: Images,
    labels: Int[np.ndarray, " N"] | None,
    caption: str,
    class_names: Sequence[str] = (),
) -> None:
    """Writes images (and labels) as an .npz, a .png grid, or a folder of numbered PNGs.

    Args:
      class_names: of the labels, where they are known: a member of the .npz, or a part of the names of the PNGs.
    Raises:
      StorageError: the path cannot be written.
    """
    if path.suffix == ".npz":
        write_arrays(path, {"images": images} | _labels_of(labels, class_names), compress=True)
    elif path.suffix == ".png":
        columns, by_class = layout(images, labels)
        save_grid(path, images, columns, "Samples", ", ".join(filter(None, (caption, by_class))))
    else:
        for index, image in enumerate(images):
            label = "" if labels is None else f"_label{labels[index]}{_part_of_name(int(labels[index]), class_names)}"
            with atomic_path(path / f"{index:06d}{label}.png") as temporary:
                to_pil(image).save(temporary, format="PNG")


def _part_of_name(label: int, class_names: Sequence[str]) -> str:
    """The name of a label's class in a file's name, which `data.sources.LABEL` reads; "" if it says the same."""
    name = safe(class_names[label]) if class_names else ""
    return f"_{name}" if name and name != str(label) else ""


def write_outputs(
    out: pathlib.Path,
    name: str,
    predict: Predict,
    outputs: dict[str, np.ndarray],
    caption: str,
    inputs: Mapping[str, np.ndarray] = NO_INPUTS,
    class_names: Sequence[str] = (),
) -> None:
    """Writes the results of a predict function: all arrays into an .npz, or its main output as image files.

    In an .npz the field `image` is called "images", as in the files of genmodels.sample. A .png shows images that went
    in above those that came out, and a path between the two that it leads from and to.

    Args:
      inputs: of the function; images among them are shown if they have the size of those that come out.
      class_names: of the run, where they are known.
    Raises:
      ConfigError: `out` is not an .npz and the main output is not images.
    """
    labels = inputs.get("label")
    if out.suffix == ".npz":
        named = {"images" if key == "image" else key: x for key, x in outputs.items()}
        if class_names and "logits" in outputs:
            named[CLASS_NAMES] = np.array(class_names, str)
        write_arrays(out, _labels_of(labels, class_names) | named, compress=True)
        return
    images = outputs[predict.output]
    if images.dtype != np.uint8:
        raise ConfigError(f"--out={out}: the output {predict.output!r} of {name} is not an image; end --out in .npz")
    shown = {field: inputs[field] for field in predict.images if field in inputs}
    shown = {field: rows for field, rows in shown.items() if rows.shape[1:] == images.shape[-3:]}
    if out.suffix != ".png" or (images.ndim == 4 and not shown):
        flat = images.reshape(-1, *images.shape[-3:])
        if labels is not None:  # of what is made of images, the labels are not in the names
            labels = None if predict.images else np.repeat(labels, len(flat) // len(labels))
        write_images(out, flat, labels, caption, class_names)
    elif images.ndim == 5:
        ends = [rows[:, None] for rows in shown.values()]
        paths = np.concatenate([*ends[:1], images, *ends[1:]], axis=1)
        words = f"one path in each row{', with its inputs' if shown else ''}"
        save_grid(out, paths.reshape(-1, *paths.shape[2:]), paths.shape[1], name, f"{caption}; {words}")
    else:
        made = {words: outputs[field] for field, words in predict.shown(name, outputs).items()}
        made = {words: rows for words, rows in made.items() if rows.shape == images.shape}
        stacks = {
            "the input" if field == "image" else f"the input {field}": rows for field, rows in shown.items()
        } | made
        columns = columns_of(len(images), len(stacks) * images.shape[1], images.shape[2])
        save_grid(
            out, banded([*stacks.values()], columns), columns, name, f"{caption}; from above: {', '.join(stacks)}"
        )


def write_results(path: pathlib.Path, results: Iterable[Result]) -> None:
    """Writes {"results": [{"name", "value", "protocol"}]}, with a "curve" or a "table" where a result has one.

    A value that is not finite is written as "Infinity", "-Infinity" or "NaN", since JSON has no such numbers.
    """
    rows = [
        result.as_json() | ({} if math.isfinite(result.value) else {"value": NOT_FINITE[str(result.value)]})
        for result in results
    ]
    write_text(path, json.dumps({"results": rows}, indent=2, allow_nan=False))


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError("the name of a result must be text")
    return name


def _protocol(protocol: Any) -> dict[str, Any]:
    found = dict(protocol)
    if not isinstance(found.get("checkpoint_step", 0), int | str | None):
        raise TypeError("checkpoint_step must be a step")
    return found


def read_results(path: pathlib.Path) -> list[dict[str, Any]]:
    """The results that `write_results` wrote, with values as floats.

    Raises:
      StorageError: the file cannot be read or holds something else.
    """
    try:
        return [
            {"name": _name(row["name"]), "value": float(row["value"]), "protocol": _protocol(row["protocol"])}
            | {key: dict(row[key]) for key in ("curve", "table") if key in row}
            for row in read_json(path)["results"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise StorageError(f"{path}: not a result of genmodels.evaluate; move it elsewhere") from error
