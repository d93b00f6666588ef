"""The config that an experiment starts from: every key of its task, filled from the dataclasses that read it.

Which sections a task has may depend on a few keys, its switches: `diffusion.process`, `model.name`. A task's module
has `SWITCHES`, {argument of `defaults`: key}, and `sections(config)`, {section: the dataclass or dataclasses that read
it}, for the switches as `config` has them. A module without these two has sections of any content.
"""

import importlib
import typing
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict, config_dict

from genmodels.config.sections import COMMON
from genmodels.config.settings import Setting, fits, settings_of, without_none
from genmodels.config.stored import flatten
from genmodels.core import user_code
from genmodels.errors import ConfigError, choose

OF_THE_CHOICE = ("expect", "eval.likelihoods")  # what a file says of the method and the networks that it chose


def module_of(task: str) -> ModuleType:
    """The module of a task.

    It is found by name, at run time: tasks plug into the config, while as imports all of their code would lie below it.

    Raises:
      ConfigError: an unknown task.
    """
    return importlib.import_module("genmodels.tasks").module_of(task)


def _resolved(reader: type | str) -> type:
    """A dataclass, or the one that "module:name" names."""
    if isinstance(reader, type):
        return reader
    module, _, name = reader.partition(":")
    return getattr(importlib.import_module(module), name)


def _settings(sections: Mapping[str, Any]) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for section, readers in sections.items():
        prefix = f"{section}." if section else ""
        for reader in readers if isinstance(readers, tuple) else (readers,):
            found |= {prefix + key: setting for key, setting in settings_of(_resolved(reader)).items()}
    return found


def common_settings() -> dict[str, Setting]:
    """The keys "a.b" that every config has."""
    return _settings(COMMON)


def sections(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any] | None:
    """{section: who reads it} of the config's task, for its switches as they are; None where the task does not say.

    Raises:
      ConfigError: an unknown task, or a switch without such a choice.
    """
    task = config.get("task")
    if not isinstance(task, str):
        raise ConfigError(f'config.task={task!r}: must name a task, as in defaults("diffusion")')
    found = getattr(module_of(task), "sections", None)
    if found is None or not user_code.is_user_code(task):
        return None if found is None else found(config)
    return user_code.attempt("config.task", task, found, config)


def settings(config: Mapping[str, Any] | ConfigDict) -> dict[str, Setting]:
    """All keys "a.b" of a config's task; raises as `sections` does."""
    return common_settings() | _settings(sections(config) or {})


def switches(task: str) -> dict[str, str]:
    """{argument of `defaults`: key} of the keys that decide which others there are."""
    return getattr(module_of(task), "SWITCHES", {})


def _put(config: Any, key: str, value: Any) -> None:
    *names, last = key.split(".")
    for name in names:
        if name not in config:
            config[name] = type(config)()
        config = config[name]
    config[last] = value


def _filled(found: Mapping[str, Setting]) -> ConfigDict:
    """A config of these keys. One whose default is None keeps its type, so that the command line can read a value."""
    config = ConfigDict()
    for key, setting in found.items():
        hint = without_none(setting.hint)
        empty = setting.default is None
        _put(config, key, config_dict.placeholder(typing.get_origin(hint) or hint) if empty else setting.default)
    return config


def defaults(task: str = "", **chosen: Any) -> ConfigDict:
    """The settings of a task, with the values most experiments keep: `defaults("diffusion", process="edm")`.

    Args:
      task: a name of `genmodels.tasks.TASKS`; "" gives the sections that all tasks have.
      chosen: the task's switches: `process` of diffusion, `network` of the classifier.
    Raises:
      ConfigError: an unknown task or switch.
    """
    if not task:
        return _filled(common_settings())
    nested: dict[str, Any] = {"task": task}
    keys = switches(task)
    for name, value in chosen.items():
        _put(nested, keys[choose(f"switch of task {task}:", name, keys)], value)
    config = _filled(settings(nested))
    config.update(nested)
    return config


def completed(config: ConfigDict) -> ConfigDict:
    """`config` with every key of its task: the defaults under the values that it has.

    Keys and values that the task does not know are kept, so that `validate` and the task refuse them by name.

    Raises:
      ConfigError: an unknown task, or a switch without such a choice.
    """
    result = _filled(settings(config))
    for key, value in flatten(config).items():
        _put(result, key, value)
    return result


def carried_over(config: ConfigDict, changes: Mapping[str, Any]) -> tuple[ConfigDict, dict[str, Any]]:
    """`config` after switches were changed, and what it had set that the new choice has no place for.

    A value that differs from the old choice's default is kept where the new choice has such a key of that type. What
    is expected of the old choice goes: `expect` and `eval.likelihoods`. Keys that neither choice has are kept, so that
    `validate` and the task refuse them by name.

    Args:
      changes: {key: value} of switches, e.g. {"diffusion.process": "flow"}.
    Returns:
      The new config, and {key: value} of the values that were left out.
    Raises:
      ConfigError: an unknown task, or a switch without such a choice.
    """
    before, nested = settings(config), config.to_dict()
    for key, value in changes.items():
        _put(nested, key, value)
    after = settings(nested)
    result, left_out = _filled(after), {}
    for key, value in flatten(config).items():
        if key in before and value == before[key].default:
            continue
        if key in OF_THE_CHOICE or (key in before and key not in after) or not fits(value, _hint(after, key)):
            left_out[key] = value
        else:
            _put(result, key, value)
    for key, value in changes.items():
        _put(result, key, value)
        left_out.pop(key, None)
    return result, left_out


def _hint(known: Mapping[str, Setting], key: str) -> Any:
    return known[key].hint if key in known else Any
