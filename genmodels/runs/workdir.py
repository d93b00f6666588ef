"""The work directory of a run: who may write it, and what it belongs to.

config.json      the resolved config            checkpoints/   whole states
data.json        what the data was              data.png       a contact sheet of it
samples/         pictures, each with its own title
metrics.jsonl    one JSON object a line         eval/          results of evaluate
parameters.txt   the parameter table            report.html    the report
prerequisites/   work directories of experiments that were trained first
"""

import contextlib
import fcntl
import json
import pathlib
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from genmodels import config as config_lib
from genmodels.core.files import write_text
from genmodels.errors import ConfigError, StorageError
from genmodels.runs.experiment import is_experiment

PREREQUISITES = "prerequisites"


def read_json(path: pathlib.Path) -> Any:
    """The contents of a JSON file.

    Raises:
      StorageError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise StorageError(f"{path}: no such file; is {path.parent} a work directory of genmodels.train?") from None
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: cannot be read: {error}") from error


def read_config(workdir: pathlib.Path) -> ConfigDict:
    """The resolved config of a run."""
    return config_lib.from_json(json.dumps(read_json(workdir / "config.json")))


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Creates the work directory, checks that it can be written, and keeps other runs out of it.

    Raises:
      StorageError: it cannot be written, or another run is using it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if not stat.S_IMODE(workdir.stat().st_mode) & 0o222:  # root may write anyway, but someone said no
            raise PermissionError("it is marked read-only")
        lock = (workdir / ".lock").open("a")
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


def check_owner(
    workdir: pathlib.Path, config: ConfigDict, data: dict[str, Any], absent: Mapping[str, Any]
) -> ConfigDict | None:
    """Checks that the directory is new (None) or belongs to this config and data (the config it has).

    Args:
      absent: what keys mean that a config lacks, see `config.conflicts`.
    Raises:
      ConfigError: it belongs to another experiment or to other data; names what differs.
    """
    if not (workdir / "config.json").exists():
        return None
    old = read_config(workdir)
    differing = config_lib.conflicts(old, config, absent)
    if differing:
        more = f" and {len(differing) - 2} more" if len(differing) > 2 else ""
        raise ConfigError(
            f"--workdir={workdir} belongs to another experiment: {'; '.join(differing[:2])}{more}; choose "
            f"another --workdir"
        )
    before = read_json(workdir / "data.json")
    for key, value in data.items():
        if key != "source" and before.get(key, value) != value:  # it may have moved
            raise ConfigError(
                f"--workdir={workdir}: the data has changed since this run began ({key} was {before.get(key)}, is "
                f"{value}); choose another --workdir"
            )
    return old


def claim(workdir: pathlib.Path, config: ConfigDict, data: dict[str, Any], origins: dict[str, Any]) -> None:
    """Makes the directory belong to this config and data.

    Args:
      origins: the identity of every run that this one came from; config.json keeps it beside the config.
    """
    write_text(workdir / "data.json", json.dumps(data, indent=2))
    described = ConfigDict(config.to_dict() | ({config_lib.ORIGINS: origins} if origins else {}))
    write_text(workdir / "config.json", config_lib.to_json(described))


def origins_of(config: ConfigDict | None) -> dict[str, Any]:
    """What `claim` kept of the runs that a run came from."""
    return {} if config is None else config.to_dict().get(config_lib.ORIGINS, {})


def locate(value: str, workdir: pathlib.Path) -> pathlib.Path:
    """The work directory that `value` names: itself, or, of an experiment, the one inside `workdir`."""
    if not is_experiment(value):
        return pathlib.Path(value)
    file, _, variant = value.partition(":")
    return workdir / PREREQUISITES / "-".join([pathlib.Path(file).stem, *([variant] if variant else [])])


def serves(workdir: pathlib.Path) -> list[str]:
    """Names of the prerequisites that `workdir` is one of, from itself outwards; of an ordinary run, none."""
    names = []
    while workdir.parent.name == PREREQUISITES:
        names.append(workdir.name)
        workdir = workdir.parent.parent
    return names
