"""What a config section may hold: the fields of the dataclasses that read it, each with its default, type and meaning.

A meaning is written once, in the `Attributes:` of the dataclass's docstring; `train --describe` prints it.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from genmodels.errors import ConfigError, choose

SCALARS = (int, float, bool, str)
ENTRY = re.compile(r"  (\w+(?:, \w+)*): (.*)")  # of `Attributes:`; one text may serve several fields

REPEATED = ("blocks", "depth")  # keys of config.model that count layers; so do tuples
MAX_LAYERS = 1000

# Fields that are no config keys: the data sets image_shape, num_classes and out_channels, commands set the others.
NO_SETTINGS = {"image_shape", "num_classes", "out_channels", "mixed", "listing", "thorough"}


class Setting(NamedTuple):
    """A config key.

    Attributes:
      default: what it is where neither the experiment nor the command line sets it; None follows another key.
      hint: its type.
      meaning: from the docstring of its dataclass.
    """

    default: Any
    hint: Any
    meaning: str

    @property
    def type_name(self) -> str:
        """Its type as a reader writes it: int, tuple[str, ...]."""
        hint = without_none(self.hint)
        if hint not in SCALARS and typing.get_origin(hint) is not tuple:
            return type(self.default).__name__
        return hint.__name__ if hint in SCALARS else str(hint)


def without_none(hint: Any) -> Any:
    """T of T | None; any other type as it is."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union) and types.NoneType in typing.get_args(hint):
        rest = [arg for arg in typing.get_args(hint) if arg is not types.NoneType]
        return rest[0] if len(rest) == 1 else hint
    return hint


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type; types other than scalars and tuples of them are left to their owner."""
    if value is None and without_none(hint) is not hint:
        return True
    hint = without_none(hint)
    if hint in SCALARS:
        if isinstance(value, bool) or hint is bool:
            return hint is bool and isinstance(value, bool)
        return isinstance(value, (int, float) if hint is float else hint)
    if typing.get_origin(hint) is tuple:
        return isinstance(value, (tuple, list)) and all(fits(item, typing.get_args(hint)[0]) for item in value)
    return True


def meanings(cls: type) -> dict[str, str]:
    """The text of each field in the `Attributes:` of a class's docstring and of those that it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        inside = False
        names: list[str] = []
        for line in inspect.cleandoc(base.__doc__ or "").splitlines():
            entry = ENTRY.fullmatch(line)
            if not line.startswith(" "):
                inside, names = line == "Attributes:", []
            elif inside and entry:
                names = entry[1].split(", ")
                found |= dict.fromkeys(names, entry[2])
            elif inside:
                found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def _fields(cls: type) -> list[dataclasses.Field]:
    """The fields that its constructor takes, without the two that Flax gives every module."""
    fields = [field for field in dataclasses.fields(cls) if field.init]
    of_flax = {"parent", "name"} if any(field.name == "parent" for field in fields) else set()
    return [field for field in fields if field.name not in of_flax]


def _hints(cls: type) -> dict[str, Any]:
    """The types of these fields; annotations that are strings are resolved where their module knows the names."""
    types_of = {field.name: field.type for field in _fields(cls)}
    if any(isinstance(hint, str) for hint in types_of.values()):
        resolved = typing.get_type_hints(cls)
        return {name: resolved[name] for name in types_of}
    return types_of


def settings_of(cls: type) -> dict[str, Setting]:
    """The keys of a section that the dataclass `cls` reads: its fields with a default that JSON has."""
    texts, hints, found = meanings(cls), _hints(cls), {}
    for field in _fields(cls):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if isinstance(default, (*SCALARS, tuple, types.NoneType)) and field.name not in NO_SETTINGS:
            found[field.name] = Setting(default, hints[field.name], texts.get(field.name, ""))
    return found


def check_section(where: str, section: Mapping[str, Any] | ConfigDict, hints: Mapping[str, Any]) -> None:
    """Checks the keys and the types of a section's values.

    Args:
      where: the section's name; "" is the config itself.
      hints: the type of each key that it may have.
    Raises:
      ConfigError: an unknown key (with a suggestion), or a value of another type.
    """
    prefix = f"config.{where}." if where else "config."
    for key in section:
        choose(f"key {prefix}{key}", key, hints)
    for key, value in section.items():
        if not fits(value, hints[key]):
            wanted = without_none(hints[key])
            raise ConfigError(f"{prefix}{key}={value!r}: must be {wanted.__name__ if wanted in SCALARS else wanted}")


def _check_layers(section: Mapping[str, Any] | ConfigDict) -> None:
    """Raises ConfigError for more layers than any network has: to trace them would take hours."""
    for key, value in section.items():
        count = len(value) if isinstance(value, tuple | list) else value if key in REPEATED else 0
        if count > MAX_LAYERS:
            raise ConfigError(f"config.model.{key}: {count:,} layers are more than {MAX_LAYERS:,}")


def build(cls: type, section: Mapping[str, Any] | ConfigDict, where: str, **fixed: Any) -> Any:
    """Instantiates the dataclass `cls` from a config section.

    Raises:
      ConfigError: a key that `cls` does not have (with a suggestion), or values that it refuses.
    """
    hints = {name: hint for name, hint in _hints(cls).items() if name not in fixed}
    check_section(where, section, hints)
    if where == "model":
        _check_layers(section)
    try:
        return cls(**section, **fixed)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.{where}: {error}") from error
