"""Files that the commands exchange: images as an .npz, a folder of PNGs or one PNG grid; results as JSON."""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from genmodels.data.base import Settings, Source
from genmodels.data.images import EXTENSIONS
from genmodels.data.listing import others
from genmodels.data.media import Folder
from genmodels.data.sources import make_source
from genmodels.errors import ConfigError, DataError, StorageError
from genmodels.evaluators.base import Result
from genmodels.reporting.grids import save_grid, to_pil
from genmodels.workdir import atomic_path, read_json, write_text

Images = UInt8[np.ndarray, "N height width channel"]
NOT_FINITE = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
ARCHIVES = {".tar": "tar", ".zip": "zip"}
LABEL = re.compile(r"_label(\d+)$")


def check_out(out: str) -> pathlib.Path:
    """The path of --out=DIR|FILE.npz|FILE.png.

    Raises:
      ConfigError: another suffix, or a folder where a file is meant or the reverse.
    """
    path = pathlib.Path(out)
    if path.suffix not in ("", ".npz", ".png"):
        raise ConfigError(f"--out={out}: must be a folder or end in .npz or .png")
    if path.exists() and path.is_dir() == bool(path.suffix):
        raise ConfigError(
            f"--out={out}: exists and is {'a folder' if path.is_dir() else 'a file'}; choose another name"
        )
    if path.is_dir() and any(path.glob("[!.]*.png")):
        raise ConfigError(f"--out={out}: holds PNGs already, which would mix with these; choose an empty folder")
    return path


def write_images(path: pathlib.Path, images: Images, labels: Int[np.ndarray, " N"] | None, caption: str) -> None:
    """Writes images (and labels) as an .npz, a .png grid, or a folder of numbered PNGs.

    Raises:
      StorageError: the path cannot be written.
    """
    if path.suffix == ".npz":
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, images=images, **({} if labels is None else {"labels": labels}))
    elif path.suffix == ".png":
        distinct = 10 if labels is None else len(np.unique(labels))
        save_grid(path, images, max(1, min(len(images), distinct)), "Samples", caption)
    else:
        for index, image in enumerate(images):
            label = "" if labels is None else f"_label{labels[index]}"
            with atomic_path(path / f"{index:06d}{label}.png") as temporary:
                to_pil(image).save(temporary, format="PNG")


def read_images(flag: str, name: str, mixed: bool = False) -> Source:
    """The images of an .npz or of a folder, such as `write_images` writes; labels may stand in file names.

    A .tar or .zip is read too, and so is a source written as a call: 'folder("DIR", convert="rgb")'.

    Args:
      flag: for messages, e.g. "--generated".
      mixed: images may differ in size; their source's pixels are then `data.pixels.Mixed`.
    Raises:
      DataError: nothing there, not readable, one image, images of several sizes, or a stranger in a folder of images.
    """
    path = pathlib.Path(name)
    if path.suffix.lower() in EXTENSIONS:
        raise DataError(f"{flag}={name}: is one image; name a folder, a .tar or .zip of images, or an .npz")
    scheme = "folder" if path.is_dir() else ARCHIVES.get(path.suffix, "npz")
    try:
        spec = name if "(" in name and not path.exists() else f"{scheme}:{name}"
        source = make_source(spec, settings=Settings(mixed=mixed))
    except DataError as error:
        advice = str(error).replace("config.data.", "")  # here an option of the source itself
        hint = f""" (write {flag}='{scheme}("{name}", ...)')""" if advice != str(error) else ""
        if "different sizes" in advice:
            hint += "; distances between features can name a resize instead: --resize=clean or tf1"
        raise DataError(f"{flag}: {advice}{hint}") from error
    if scheme == "folder" and (strangers := others(Folder(f"{flag}={name}", path))):
        raise DataError(
            f"{flag}={name}: holds {strangers[0]}, which is no image; move it out, so that all of it is measured"
        )
    matches = [LABEL.search(pathlib.Path(file).stem) for file in source.files]
    if not matches or not all(matches):
        return source
    labels = np.array([int(match[1]) for match in matches], np.int32)
    return dataclasses.replace(source, labels=labels, num_classes=int(labels.max()) + 1, class_names=())


def write_results(path: pathlib.Path, results: Iterable[Result]) -> None:
    """Writes {"results": [{"name", "value", "protocol"}]}, and "curve" and "table" where there are such.

    A value that is no JSON number is "Infinity" or "NaN".
    """
    rows = [
        result.as_json() | ({} if math.isfinite(result.value) else {"value": NOT_FINITE[str(result.value)]})
        for result in results
    ]
    write_text(path, json.dumps({"results": rows}, indent=2, allow_nan=False))


def read_results(path: pathlib.Path) -> list[dict[str, Any]]:
    """The results that `write_results` wrote, values as floats.

    Raises:
      StorageError: the file cannot be read or holds something else.
    """
    try:
        return [
            {"name": row["name"], "value": float(row["value"]), "protocol": dict(row["protocol"])}
            | {key: dict(row[key]) for key in ("curve", "table") if key in row}
            for row in read_json(path)["results"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{path}: not a result of genmodels.evaluate; move it elsewhere") from error
