"""A config as JSON, and what may differ between the config of a run and the one that resumes it."""

import json
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

ORIGINS = "origins"  # a section that config.json has besides: the identity of every run that this one came from

# Sections and keys that may differ when a work directory is resumed: how long the run lasts, on what, and what it
# writes. A new length moves a decaying learning rate and the EMA's horizon; the loop says so. The data and the teacher
# may have moved: they are known by their contents.
RESUMABLE = (
    "train.steps",
    "train.epochs",
    "train.examples",
    "parallel",
    "shard_parameters",
    "data.source",
    "data.memory_gb",
    "data.workers",
)
MOVABLE = "distill.teacher"  # may have another place, but not come or go
RESUMABLE_SECTIONS = ("log", "checkpoint", "eval", "likelihood", "expect", ORIGINS)


def to_json(config: ConfigDict) -> str:
    """The resolved config as indented JSON."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True, allow_nan=False)


def from_contents(contents: Mapping[str, Any]) -> ConfigDict:
    """The config of what a JSON file holds; lists become tuples again."""

    def tuples(value):
        if isinstance(value, dict):
            return {key: tuples(item) for key, item in value.items()}
        return tuple(tuples(item) for item in value) if isinstance(value, list) else value

    return ConfigDict(tuples(contents))


def from_json(text: str) -> ConfigDict:
    """The config that `to_json` wrote."""
    return from_contents(json.loads(text))


def flatten(config: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """{"a.b": value} for every leaf of a config or of plain nested dictionaries."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, (Mapping, ConfigDict)):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def filled(contents: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries with the values of these keys "a.b" set; sections that are missing are made."""
    found = {key: filled(item, {}) if isinstance(item, Mapping) else item for key, item in contents.items()}
    for key, value in values.items():
        *sections, name = key.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return found


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dictionaries that `flatten` took apart."""
    return filled({}, flat)


def conflicts(
    old: ConfigDict, new: ConfigDict, absent: Mapping[str, Any] = MappingProxyType({}), idle: Collection[str] = ()
) -> list[str]:
    """The keys, as "config.a.b was X, is Y", whose change would make a resumed run another experiment.

    Args:
      absent: {"a.b": value} that a config without the key means, so that runs begun before there was one go on.
      idle: keys that have no effect in either config.
    """
    before, after = (dict(absent) | flatten(from_json(to_json(config))) for config in (old, new))
    missing = "absent"

    def shown(value):
        return "not set" if value is None else value

    return [
        f"config.{key} was {shown(before.get(key, missing))}, is {shown(after.get(key, missing))}"
        for key in sorted(before.keys() | after.keys(), key=lambda key: (key != "task", key))  # which says most
        if before.get(key, missing) != after.get(key, missing)
        and key not in RESUMABLE
        and key not in idle
        and not (key == MOVABLE and before.get(key) and after.get(key))
        and key.split(".")[0] not in RESUMABLE_SECTIONS
    ]
