"""The config in a work directory, which anybody may have written: checked before anything reads a value of it."""

from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from genmodels.config.defaults import common_settings, sections, switches
from genmodels.config.stored import ORIGINS, filled, flatten, from_contents
from genmodels.config.validation import MAX_STEPS, check_values
from genmodels.core import user_code
from genmodels.errors import ConfigError

MAX_NUMBER = 1e300
KINDS = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def _kind(value: Any) -> str:
    return KINDS.get(type(value), "a number")


def _check_names(contents: Mapping[str, Any], prefix: str = "config.") -> None:
    """Raises ConfigError for a key that no section can have."""
    for key, value in contents.items():
        if not key.isidentifier() or hasattr(ConfigDict, key):
            raise ConfigError(f"{prefix}{key[:100]!r}: is not a valid name of a key")
        if isinstance(value, Mapping):
            _check_names(value, f"{prefix}{key}.")


def _check_numbers(where: str, value: Any) -> None:
    """Raises ConfigError for a number that is not finite, or larger than any that a config needs."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_numbers(f"{where}.{key}", item)
    elif isinstance(value, list):
        for item in value:
            _check_numbers(where, item)
    elif isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
        raise ConfigError(f"{where}: holds a number that is not finite, or is larger than {MAX_NUMBER:g}")


def _check_places(contents: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Raises ConfigError where the contents have a value in the place of a section, or a section in that of a value."""
    for key in keys:
        place: Any = contents
        *names, last = key.split(".")
        for depth, name in enumerate(names):
            place = place.get(name, {})  # a section that is missing is filled in
            if not isinstance(place, Mapping):
                where = ".".join(names[: depth + 1])
                raise ConfigError(f"config.{where}: must be an object with keys, it is {_kind(place)}")
        if isinstance(place.get(last), Mapping):
            raise ConfigError(f"config.{key}: must be a value, it is an object")


def _check_origins(origins: Any) -> None:
    """Raises ConfigError unless it is {name: identity of a run}, see `runs.inference.Run.identity`."""
    for name, identity in origins.items() if isinstance(origins, Mapping) else [("", None)]:
        if not isinstance(identity, Mapping) or not all(
            isinstance(identity.get(k), str) for k in ("sha256", "workdir")
        ):
            raise ConfigError(f"config.{ORIGINS}.{name}: must be the identity of a run, with sha256 and workdir")
        if not isinstance(identity.get("step"), int) or not 0 <= identity["step"] <= MAX_STEPS:
            raise ConfigError(f"config.{ORIGINS}.{name}.step={identity.get('step')!r}: must be a step")


def opened(contents: Any) -> ConfigDict:
    """The config that the contents of a config.json describe, with the keys that every config has.

    A key that is missing, because there was none when the file was written, has its default. The sections of a task
    outside this package are not checked, because no code that a work directory names is imported here.

    Args:
      contents: what a JSON file holds.
    Raises:
      ConfigError: it is no config; names the key at fault and says what is wrong.
    """
    if not isinstance(contents, Mapping):
        raise ConfigError(f"must be an object with keys, it is {_kind(contents)}")
    _check_names(contents)
    known = {key: setting.default for key, setting in common_settings().items()}
    _check_places(contents, known)
    _check_numbers("config", contents)
    flat = flatten(contents)
    config = from_contents(filled(contents, {key: value for key, value in known.items() if key not in flat}))
    if not isinstance(config.task, str):
        raise ConfigError(f"config.task={config.task!r}: must be the name of a task")
    own = None
    if not user_code.is_user_code(config.task):
        others = contents.keys() - {key.partition(".")[0] for key in known}
        _check_places(contents, [f"{name}." for name in others])
        _check_places(contents, switches(config.task).values())
        for key in switches(config.task).values():
            if not isinstance(flat.get(key, ""), str):
                raise ConfigError(f"config.{key}={flat[key]!r}: must be a name")
        own = sections(config)
        _check_places(contents, [f"{section}." for section in own or () if section])
    check_values(config, own)
    _check_origins(config.to_dict().get(ORIGINS, {}))
    return config
