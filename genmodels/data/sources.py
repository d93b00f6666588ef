"""The registry of data sources: what a string such as "folder:photos" names. A scheme is a function and a row here."""

import dataclasses
import difflib
import functools
import inspect
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from genmodels import config as config_lib
from genmodels.data import arrays, tfds
from genmodels.data.base import Pair, Settings, Source
from genmodels.data.compose import COMBINATIONS
from genmodels.data.images import EXTENSIONS
from genmodels.data.listing import list_images, others
from genmodels.data.media import Folder, ImageStore, Tar, Zip
from genmodels.data.scan import open_files
from genmodels.data.spec import Call, parse
from genmodels.errors import ConfigError, DataError, choose

SPLITS = ("train", "test")
DEFAULT = Settings()
NOT_SETTINGS = ("source", "workers", "augment")  # keys of config.data for others than the readers
ARCHIVES = {".tar": "tar", ".zip": "zip"}
LABEL = re.compile(r"_label(\d+)$")  # at the end of a file's stem, as reporting.files.write_images names them


def make_source(spec: str, split: str = "train", settings: Settings = DEFAULT) -> Source | Pair:
    """Opens the source called `spec`.

    Args:
      settings: how images are read; options written in `spec` go before.
    Raises:
      ConfigError: an unknown scheme, split or option.
      DataError: the files are missing or are not what they should be.
    """
    choose("split", split, SPLITS)
    return _open(parse(spec), split, settings)


def from_config(section: Mapping[str, Any] | ConfigDict, split: str = "train") -> Source | Pair:
    """The source that `config.data` describes; raises as `make_source` does."""
    values = {key: value for key, value in section.items() if key not in NOT_SETTINGS}
    return make_source(section["source"], split, config_lib.build(Settings, values, "data"))


def _open(call: Call, split: str, settings: Settings) -> Source | Pair:
    choose("data source", call.name, [*SCHEMES, *COMBINATIONS])
    if call.name in COMBINATIONS:
        return _combine(call, split, settings)
    extra = {"data_dir"} if call.name == "tfds" else set()
    fields = (set(Settings.__dataclass_fields__) | extra) - {"mixed"}
    for key, value in call.options.items():
        choose(f"option of {call.name}", key, fields)
        if key in extra and not isinstance(value, str):
            raise ConfigError(f"{call.text}: {key}={value!r} must be str")
    own = {key: call.options[key] for key in call.options.keys() - extra}
    settings = config_lib.build(Settings, {**vars(settings), **own}, "data")
    if len(call.args) > 1 or not all(isinstance(arg, str) for arg in call.args):
        raise ConfigError(f'{call.text}: {call.name} takes one path, e.g. {call.name}("PATH")')
    path = call.args[0] if call.args else ""
    return SCHEMES[call.name](path, split, settings, **{key: call.options[key] for key in call.options.keys() & extra})


def _combine(call: Call, split: str, settings: Settings) -> Source | Pair:
    function = COMBINATIONS[call.name]

    def opener(arg: str | Call) -> Callable[[str], Source]:
        def opened(split: str) -> Source:
            source = _open(parse(arg) if isinstance(arg, str) else arg, split, settings)
            if isinstance(source, Pair):
                raise ConfigError(
                    f"{call.text}: a pair cannot be a part of {call.name}; put {call.name} inside the pair"
                )
            return source

        return opened

    parameters = inspect.signature(function).parameters
    options = [name for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for key, value in call.options.items():
        choose(f"option of {call.name}", key, options)
        hint = parameters[key].annotation
        if not config_lib.fits(value, hint):
            raise ConfigError(f"{call.text}: {key}={value!r} must be {hint.__name__}")
    try:
        bound = inspect.signature(function).bind(call.text, split, *map(opener, call.args), **call.options)
    except TypeError as error:
        raise ConfigError(f"{call.text}: {error}") from error
    return function(*bound.args, **bound.kwargs)


def _check_path(scheme: str, text: str, is_there: Callable[[pathlib.Path], bool], what: str) -> pathlib.Path:
    """The path, once it is seen to be there; names the nearest one otherwise."""
    if not text:
        raise ConfigError(f"{scheme}: must name a {what}, {scheme}:PATH")
    path = pathlib.Path(text).expanduser()
    if not is_there(path):
        siblings = [other.name for other in path.parent.glob("*") if is_there(other)] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise DataError(f"{scheme}:{text}: {'is not a' if path.exists() else 'no such'} {what}{hint}")
    return path


def _folder(text: str, split: str, settings: Settings) -> Source:
    path = _check_path("folder", text, pathlib.Path.is_dir, "folder")
    return _files(Folder(f"folder:{text}", path), split, settings)


def _archive(kind: type, text: str, split: str, settings: Settings) -> Source:
    scheme = kind.__name__.lower()
    path = _check_path(scheme, text, pathlib.Path.is_file, "file")
    return _files(kind(f"{scheme}:{text}", path), split, settings)


def _files(store: ImageStore, split: str, settings: Settings) -> Source:
    return open_files(store, split, settings, lambda: list_images(store, split))


def _tfds(text: str, split: str, settings: Settings, data_dir: str = "") -> Source:
    records = tfds.open_records(text, split, data_dir)
    return open_files(records, split, settings, records.list_images)


def _arrays(scheme: str, load: Callable, text: str, split: str, settings: Settings) -> Source:
    where = f"{scheme}:{text}" if text else scheme
    if scheme != "digits":
        kind, is_there = ("folder", pathlib.Path.is_dir) if scheme == "idx" else ("file", pathlib.Path.is_file)
        _check_path(scheme, text, is_there, kind)
    return arrays.from_arrays(where, split, *load(os.path.expanduser(text), split), settings)


SCHEMES: dict[str, Callable[..., Source]] = {
    "folder": _folder,
    "tar": functools.partial(_archive, Tar),
    "zip": functools.partial(_archive, Zip),
    "tfds": _tfds,
    "digits": functools.partial(_arrays, "digits", arrays.load_digits),
    "npz": functools.partial(_arrays, "npz", arrays.load_npz),
    "idx": functools.partial(_arrays, "idx", arrays.load_idx),
}


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
