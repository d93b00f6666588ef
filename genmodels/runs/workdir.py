"""The work directory of a run: its files, who may write it, and which experiment and data it belongs to.

config.json      the resolved config                  checkpoints/   whole training states
data.json        facts about the training data        data.png       a contact sheet of it
metrics.jsonl    logged averages, one JSON object     curves.json    which metrics the report draws together:
                 a line, each with its "step"                        [{"title", "metrics", "y_label", "logarithmic"}]
parameters.txt   the parameter table                  samples/       pictures, each with its own title
eval/            results of genmodels.evaluate        report.html    the report
prerequisites/   work directories of experiments that were trained first
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import stat
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from genmodels import config as config_lib
from genmodels.core.files import write_text
from genmodels.data.base import LISTING, TEXT_LISTING
from genmodels.errors import ConfigError, StorageError
from genmodels.runs.experiment import is_experiment

PREREQUISITES = "prerequisites"
MAX_JSON_BYTES = 2**28
MAX_COUNT = 2**40
BEFORE_CONFIG = ("checkpoints", "curves.json", "data.json", PREREQUISITES)  # may be written before config.json
LOGS = re.compile(r".*\.(log|out|err)|log.*\.txt|nohup.*")  # files that a shell or a scheduler may have begun


def read_json(path: pathlib.Path) -> Any:
    """The contents of a JSON file of a work directory.

    Raises:
      StorageError: the file is missing, is not JSON, or is larger than MAX_JSON_BYTES.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it has more than {MAX_JSON_BYTES:,} bytes")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StorageError(f"{path}: no such file; is {path.parent} a work directory of genmodels.train?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(f"{path}: cannot be read: {error}") from error


def check_links(workdir: pathlib.Path) -> None:
    """Checks that a work directory holds files, folders, and links within it.

    A link to a place outside would be read, shown or written there, and a pipe would be waited for.

    Raises:
      StorageError: names what is something else.
    """
    inside = pathlib.Path(os.path.realpath(workdir))
    for folder, folders, files in os.walk(workdir):
        for path in (pathlib.Path(folder, name) for name in [*folders, *files]):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                if not os.path.exists(path) or not pathlib.Path(os.path.realpath(path)).is_relative_to(inside):
                    raise StorageError(
                        f"{path}: is a link out of the work directory or to nothing, which is not followed; put the "
                        f"files themselves there, or make {workdir} itself the link"
                    )
            elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise StorageError(f"{path}: is neither a file nor a folder; remove it")


def read_config(workdir: pathlib.Path) -> ConfigDict:
    """The resolved config of a run, checked. Every command that opens a work directory begins here.

    Raises:
      StorageError: it is no work directory, its config.json is no config, or a link in it leads out of it.
    """
    path = workdir / "config.json"
    try:
        if path.exists():
            check_links(workdir)
    except (OSError, ValueError) as error:
        raise StorageError(f"{workdir}: cannot be read: {error}") from error
    try:
        return config_lib.opened(read_json(path))
    except (ConfigError, RecursionError) as error:
        raise StorageError(f"{path}: {error}; restore the file that genmodels.train wrote") from error


def _is_count(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_COUNT


# What data.json must have, how it is checked, and what to say if it does not hold.
FACTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "source": (lambda value: isinstance(value, str), "a string"),
    "split": (lambda value: isinstance(value, str), "a string"),
    "fingerprint": (lambda value: isinstance(value, str), "a string"),
    "count": (_is_count, "a number of images"),
    "num_classes": (_is_count, "a number of classes"),
    "image_shape": (
        lambda value: isinstance(value, list) and len(value) == 3 and all(_is_count(side, 1) for side in value),
        "[height, width, channels]",
    ),
    "fields": (
        lambda value: isinstance(value, list) and value != [] and all(isinstance(name, str) for name in value),
        "a list of names",
    ),
    "listing": (lambda value: value in (TEXT_LISTING, LISTING), f"{TEXT_LISTING} or {LISTING}"),
    "class_names": (
        lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
        "a list of names",
    ),
}
# What a file means that was written before there was the key.
BEFORE: dict[str, Any] = {"fields": ["image"], "listing": TEXT_LISTING, "class_names": []}


def read_data(workdir: pathlib.Path) -> dict[str, Any]:
    """The contents of data.json, checked. Keys that an older file lacks have the values of BEFORE.

    Raises:
      StorageError: the file is missing, or a fact in it is missing or of another kind.
    """
    path = workdir / "data.json"
    facts = read_json(path)
    if not isinstance(facts, dict):
        raise StorageError(f"{path}: must be an object with keys; restore the file that genmodels.train wrote")
    facts = BEFORE | facts
    for key, (holds, words) in FACTS.items():
        if not holds(facts.get(key)):
            raise StorageError(
                f"{path}: {key} must be {words}, it is {json.dumps(facts.get(key))[:100]}; restore the file that "
                f"genmodels.train wrote"
            )
    if len(facts["class_names"]) not in (0, facts["num_classes"]):
        raise StorageError(f"{path}: class_names must be a list of {facts['num_classes']} names")
    return facts


def listing_of(workdir: pathlib.Path) -> int:
    """The rules by which a run's data is listed (`data.base.Settings.listing`), for a new directory the newest.

    Runs that began before data.json had the key keep the order and the labels that they began with.

    Raises:
      StorageError: data.json cannot be read.
    """
    return read_data(workdir)["listing"] if os.path.exists(workdir / "data.json") else LISTING


def check_not_foreign(workdir: pathlib.Path) -> None:
    """Checks that a folder which holds no run yet does not hold anything else either, such as somebody's files.

    Hidden files, and logs that a shell may have begun there, are no obstacle.

    Raises:
      StorageError: names what is there; or nothing can have such a name.
    """
    try:
        os.stat(workdir)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"--workdir={workdir}: cannot be opened: {error.strerror}") from error
    if not workdir.is_dir() or (workdir / "config.json").exists():
        return
    for path in sorted(workdir.iterdir()):
        ours = path.name in BEFORE_CONFIG or path.name.startswith(".")
        if not ours and not (path.is_file() and LOGS.fullmatch(path.name)):
            raise StorageError(
                f"--workdir={workdir}: holds {path.name}, which belongs to no run; choose a new or an empty folder"
            )


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Creates the work directory, checks that it can be written, and keeps other runs out of it.

    Raises:
      StorageError: it cannot be written, or another run is using it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        check_links(workdir)
        if not stat.S_IMODE(workdir.stat().st_mode) & 0o222:  # root could write all the same
            raise PermissionError("it is marked read-only")
        lock = (workdir / ".lock").open("ab")
    except OSError as error:
        raise StorageError(f"--workdir={workdir}: cannot be written: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StorageError(
                f"--workdir={workdir}: another run is writing here; wait for it or choose another"
            ) from None
        write_text(workdir / ".probe", "written at start-up to see that the disk takes data\n")
        (workdir / ".probe").unlink()
        yield


def claim(workdir: pathlib.Path, config: ConfigDict, data: dict[str, Any], origins: dict[str, Any]) -> None:
    """Writes config.json and data.json, which make the directory belong to this config and data.

    Args:
      origins: the identity of every run that this one builds on; config.json keeps them beside the config.
    """
    write_text(workdir / "data.json", json.dumps(data, indent=2))
    described = ConfigDict(config.to_dict() | ({config_lib.ORIGINS: origins} if origins else {}))
    write_text(workdir / "config.json", config_lib.to_json(described))


def origins_of(config: ConfigDict | None) -> dict[str, Any]:
    """The identities of the runs that a run builds on, from its config.json; none for a new run."""
    return {} if config is None else config.to_dict().get(config_lib.ORIGINS, {})


def resolve(value: str, workdir: pathlib.Path) -> pathlib.Path:
    """The work directory that a config value names: a path, or an experiment, which is trained inside `workdir`."""
    if not is_experiment(value):
        return pathlib.Path(os.path.expanduser(value))
    file, _, variant = value.partition(":")
    return workdir / PREREQUISITES / "-".join([pathlib.Path(file).stem, *([variant] if variant else [])])


def enclosing_prerequisites(workdir: pathlib.Path) -> list[str]:
    """The names of the prerequisites/ entries that `workdir` lies in, innermost first; none for an ordinary run."""
    names = []
    while workdir.parent.name == PREREQUISITES:
        names.append(workdir.name)
        workdir = workdir.parent.parent
    return names
