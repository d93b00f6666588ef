"""The registry of data sources: what a string such as "folder:photos" names.

A new scheme is a function and a row in SCHEMES; a new combination of sources is a row in `compose.COMBINATIONS`.
"""

import ast
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
from genmodels.core.names import printable
from genmodels.data import arrays, idx, tfds
from genmodels.data.base import LISTING, DataSource, Settings, Source
from genmodels.data.compose import COMBINATIONS
from genmodels.data.images import EXTENSIONS
from genmodels.data.listing import Listing, list_images, others
from genmodels.data.media import Folder, ImageStore, OneFile, Tar, Zip
from genmodels.data.scan import open_files
from genmodels.data.spec import Call, parse
from genmodels.errors import ConfigError, DataError, choose

SPLITS = ("train", "test")
DEFAULT = Settings()
NOT_SETTINGS = ("source", "workers", "augment")  # keys of config.data that do not say how images are read
WITHOUT_PATH = ("digits", "tfds")  # schemes whose argument is no path
ARCHIVES = {".tar": "tar", ".zip": "zip"}
# The label in a file's stem, and the name of its class after it, as reporting.files.write_images writes them.
LABEL = re.compile(r"_label(\d+)$|^\d{6,}_label(\d+)_.+$")


def make_source(spec: str, split: str = "train", settings: Settings = DEFAULT) -> DataSource:
    """Opens a split of the source that `spec` names.

    Args:
      spec: "SCHEME:PATH" or a call, see `spec.parse`.
      split: "train" or "test".
      settings: how images are read; options written in `spec` override them.
    Raises:
      ConfigError: an unknown scheme, split or option.
      DataError: files are missing or damaged, or images differ and no setting makes them alike.
    """
    choose("split", split, SPLITS)
    return _open(parse(spec), split, settings)


def from_config(
    section: Mapping[str, Any] | ConfigDict, split: str = "train", *, listing: int = LISTING, thorough: bool = False
) -> DataSource:
    """Opens a split of the source that the section `config.data` describes; raises as `make_source` does.

    Args:
      listing, thorough: see `Settings`.
    """
    values = {key: value for key, value in section.items() if key not in NOT_SETTINGS}
    settings = config_lib.build(Settings, values, "data")
    return make_source(section["source"], split, dataclasses.replace(settings, listing=listing, thorough=thorough))


def _open(call: Call, split: str, settings: Settings) -> DataSource:
    choose("data source", call.name, [*SCHEMES, *COMBINATIONS])
    if call.name in COMBINATIONS:
        return _combine(call, split, settings)
    extra = {"data_dir"} if call.name == "tfds" else set()
    fields = (set(Settings.__dataclass_fields__) | extra) - config_lib.NO_SETTINGS
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


def _combine(call: Call, split: str, settings: Settings) -> DataSource:
    function = COMBINATIONS[call.name]

    def opener(arg: str | Call) -> Callable[[str], Source]:
        def opened(split: str) -> Source:
            source = _open(parse(arg) if isinstance(arg, str) else arg, split, settings)
            if not isinstance(source, Source):
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
    """Returns the path.

    Raises:
      ConfigError: the text is empty.
      DataError: there is no such folder or file, or no file can have this name; the message suggests the nearest name.
    """
    if not text:
        raise ConfigError(f"{scheme}: names no {what}; write {scheme}:PATH")
    path = pathlib.Path(os.path.expanduser(text))
    if not is_there(path):
        beside = path.parent.glob("*") if os.path.isdir(path.parent) else ()
        near = difflib.get_close_matches(path.name, [other.name for other in beside if is_there(other)], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise DataError(f"{scheme}:{text}: {_obstacle(path, what)}{hint}")
    return path


def _obstacle(path: pathlib.Path, what: str) -> str:
    """Why a path is not what it should be: a file or a folder."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return f"no such {what}"
    except (OSError, ValueError) as error:  # the name is too long, or a folder above may not be read
        return f"cannot be opened ({error.strerror if isinstance(error, OSError) else error})"
    return f"is not a {what}"


# os.path is used below, because pathlib's own questions raise errors for names that no file can have.
def _folder(text: str, split: str, settings: Settings) -> Source:
    path = _check_path("folder", text, os.path.isdir, "folder")
    return _files(Folder(f"folder:{text}", path), split, settings)


def _image(text: str, split: str, settings: Settings) -> Source:
    path = _check_path("image", text, os.path.isfile, "file")
    return open_files(OneFile(f"image:{text}", path), split, settings, lambda: Listing((path.name,), None))


def _archive(kind: type, text: str, split: str, settings: Settings) -> Source:
    scheme = kind.__name__.lower()
    path = _check_path(scheme, text, os.path.isfile, "file")
    return _files(kind(f"{scheme}:{text}", path), split, settings)


def _files(store: ImageStore, split: str, settings: Settings) -> Source:
    return open_files(store, split, settings, lambda: list_images(store, split, settings.listing))


def _tfds(text: str, split: str, settings: Settings, data_dir: str = "") -> Source:
    records = tfds.open_records(text, split, data_dir)
    return open_files(records, split, settings, records.list_images)


def _arrays(scheme: str, load: Callable, text: str, split: str, settings: Settings) -> Source:
    where = f"{scheme}:{text}" if text else scheme
    if scheme != "digits":
        kind, is_there = ("folder", os.path.isdir) if scheme == "idx" else ("file", os.path.isfile)
        _check_path(scheme, text, is_there, kind)
    images, labels = load(os.path.expanduser(text), split)
    return arrays.from_arrays(where, split, images, labels, settings)


def _npz(text: str, split: str, settings: Settings) -> Source:
    source = _arrays("npz", arrays.load_npz, text, split, settings)
    return arrays.with_npz_names(source, os.path.expanduser(text))


SCHEMES: dict[str, Callable[..., Source]] = {
    "folder": _folder,
    "image": _image,
    "tar": functools.partial(_archive, Tar),
    "zip": functools.partial(_archive, Zip),
    "tfds": _tfds,
    "digits": functools.partial(_arrays, "digits", arrays.load_digits),
    "npz": _npz,
    "idx": functools.partial(_arrays, "idx", idx.load_idx),
}


def read_images(flag: str, name: str, mixed: bool = False, single: bool = False) -> Source:
    """One set of images that a flag names: an .npz, a folder, a .tar, a .zip, or a source written as a call.

    A call is, for example, 'folder("DIR", convert="rgb")'. File names such as 000012_label3.png give labels.

    Args:
      flag: the flag's name for error messages, e.g. "--generated".
      mixed: images may differ in size; their source's pixels are then `data.pixels.Mixed`.
      single: the name may be that of one image.
    Raises:
      ConfigError: a call that names two sets of images (`pair`), or is not understood.
      DataError: nothing is there or it cannot be read; it is a single image; images differ in size; or a folder also
        holds other files.
    """
    path = pathlib.Path(name)
    one_image = path.suffix.lower() in EXTENSIONS and not os.path.isdir(path)
    if one_image and not single:
        raise DataError(f"{flag}={name}: is one image; name a folder, a .tar or .zip of images, or an .npz")
    scheme = "folder" if os.path.isdir(path) else "image" if one_image else ARCHIVES.get(path.suffix, "npz")
    try:
        spec = name if "(" in name and not os.path.exists(path) else f"{scheme}:{name}"
        source = make_source(spec, settings=Settings(mixed=mixed))
    except DataError as error:
        advice = str(error).replace("config.data.", "")  # a flag has no config; the source's call takes the option
        hint = f""" (write {flag}='{scheme}("{name}", ...)')""" if advice != str(error) else ""
        if "different sizes" in advice:
            hint += "; distances between features can name a resize instead: --resize=clean or tf1"
        raise DataError(f"{flag}: {advice}{hint}") from error
    if not isinstance(source, Source):
        several = " and ".join(part.name for part in source.parts.values())
        raise ConfigError(f"{flag}={name}: holds {len(source.parts)} sets of images, {several}; name one of them")
    if scheme == "folder" and (strangers := others(Folder(f"{flag}={name}", path))):
        raise DataError(
            f"{flag}={name}: holds {strangers[0]}, which is no image; move it out, so that all images are measured"
        )
    for note in source.notes:
        print(f"note: {flag}: {printable(note)}", flush=True)
    return _labelled_by_name(source)


def with_absolute_paths(spec: str) -> str:
    """The same source with absolute paths, and with "~" replaced; what is no valid source is returned as it is."""
    try:
        return _absolute(parse(spec))
    except ConfigError:
        return spec


def _absolute(call: Call) -> str:
    def full(path: Any) -> Any:
        return os.path.abspath(os.path.expanduser(path)) if isinstance(path, str) and path else path

    options = {key: full(value) if key == "data_dir" else value for key, value in call.options.items()}
    args: list[str] = []
    for arg in call.args:
        if call.name in COMBINATIONS:
            args.append(_absolute(arg) if isinstance(arg, Call) else repr(with_absolute_paths(arg)))
        else:
            args.append(repr(arg if call.name in WITHOUT_PATH else full(arg)))
    if not options and call.name not in COMBINATIONS and len(args) < 2:
        return ":".join([call.name, *map(ast.literal_eval, args)])
    return f"{call.name}({', '.join([*args, *(f'{key}={value!r}' for key, value in options.items())])})"


def _labelled_by_name(source: Source) -> Source:
    """The source with the labels in its file names, where all of them have one."""
    found = [match for file in source.files if (match := LABEL.search(pathlib.Path(file).stem))]
    if not found or len(found) < len(source.files):
        return source
    labels = np.array([int(match[1] or match[2]) for match in found], np.int32)
    return dataclasses.replace(source, labels=labels, num_classes=int(labels.max()) + 1, class_names=())
