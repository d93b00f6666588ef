"""The registry of data sources: what a string such as "folder:photos" names. A scheme is a function and a row here."""

import difflib
import functools
import inspect
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from genmodels import config as config_lib
from genmodels.data import arrays, tfds
from genmodels.data.base import Pair, Settings, Source
from genmodels.data.compose import COMBINATIONS
from genmodels.data.listing import list_images
from genmodels.data.media import Folder, Medium, Tar, Zip
from genmodels.data.scan import open_files
from genmodels.data.spec import Call, parse
from genmodels.errors import ConfigError, DataError, choose

SPLITS = ("train", "test")
DEFAULT = Settings()
NOT_SETTINGS = ("source", "workers", "augment")  # keys of config.data for others than the readers


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


def _files(medium: Medium, split: str, settings: Settings) -> Source:
    return open_files(medium, split, settings, lambda: list_images(medium, split))


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
