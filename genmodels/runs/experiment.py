"""Reading experiment files: FILE.py or FILE.py:VARIANT, and turning every mistake in them into one line."""

import ast
import contextlib
import difflib
import os
import pathlib
import re
import runpy
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from genmodels import config as config_lib
from genmodels.cli import value_flags
from genmodels.config.settings import without_none
from genmodels.errors import ConfigError, GenmodelsError, choose


def is_experiment(value: str) -> bool:
    """Whether it names an experiment file rather than a work directory."""
    return re.fullmatch(r".+\.py(:\w*)?", value) is not None


def run(flag: str, value: str) -> dict[str, Any]:
    """The names that an experiment file defines.

    Args:
      flag: what names it, for messages: "--config".
    Raises:
      ConfigError: the file is missing or does not run.
    """
    path = pathlib.Path(os.path.expanduser(value.partition(":")[0]))
    if not os.path.isfile(path):  # pathlib's own question raises an error for a name that no file can have
        beside = path.parent.glob("*.py") if os.path.isdir(path.parent) else ()
        near = difflib.get_close_matches(path.name, [p.name for p in beside], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(f"{flag}={value}: no such file{hint}")
    with _mistakes_named(flag, value):
        return runpy.run_path(str(path))


def load(flag: str, value: str) -> ConfigDict:
    """The config of an experiment file, FILE.py[:VARIANT], with every key of its task.

    Args:
      flag: what names it, for messages: "--config".
    Raises:
      ConfigError: the file is missing, does not run or has no get_config.
    """
    variant = value.partition(":")[2]
    module = run(flag, value)
    if "get_config" not in module:
        raise ConfigError(f"{flag}={value}: the file has no 'get_config'")
    with _mistakes_named(flag, value):
        config = module["get_config"](*([variant] if variant else []))
        if not isinstance(config, ConfigDict):
            raise ConfigError(f"get_config must return a ConfigDict, it returned {type(config).__name__}")
        return _with_data_of_promises(config_lib.completed(config))


def _with_data_of_promises(config: ConfigDict) -> ConfigDict:
    """The config whose promises name the data that they were made on, before the command line names other data."""
    source = {"data": config.data.source}
    config.expect = tuple(source | dict(one) if isinstance(one, Mapping) else one for one in config.expect)
    return config


@contextlib.contextmanager
def _mistakes_named(flag: str, value: str) -> Iterator[None]:
    """Turns whatever goes wrong in a user's file into one line that names the file."""
    try:
        yield
    except GenmodelsError as error:
        raise ConfigError(f"{flag}={value}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{flag}={value}: the file does not run: {type(error).__name__}: {error}") from error


def _values(argv: Sequence[str], name: str) -> list[str]:
    """The values given as --name=value or --name value."""
    pairs = zip(argv, [*argv[1:], ""], strict=True)
    matching = [(arg, after) for arg, after in pairs if arg.lstrip("-").partition("=")[0] == name]
    return [arg.partition("=")[2] if "=" in arg else after for arg, after in matching]


def _with_switches(config: ConfigDict, argv: Sequence[str]) -> tuple[ConfigDict, list[str]]:
    """The config after the switches on the command line, the task's name first, and notes on what each left out."""
    notes = []
    for of_task in (True, False):
        keys = ["task"] if of_task else list(config_lib.switches(config.task).values())
        changes = {name: values[-1] for name in keys if (values := _values(argv, f"config.{name}"))}
        flat = config_lib.flatten(config)
        changes = {name: value for name, value in changes.items() if flat.get(name) != value}
        if changes:
            config, left_out = config_lib.switched(config, changes)
            given = " ".join(f"--config.{name}={value}" for name, value in changes.items())
            names = ", ".join(f"config.{name}" for name in sorted(left_out))
            notes += [f"note: {given} leaves out what the experiment says of {names}"] if names else []
    return config, notes


class _Parser(flags.ArgumentParser):
    """Reads the experiment that --config names, so that overrides of switches bring their keys before they are set."""

    def parse(self, path: str) -> ConfigDict:
        """Raises ConfigError as `load` does."""
        config, notes = _with_switches(load("--config", path), sys.argv)
        for note in notes:
            print(note, flush=True)
        return config.lock()


def define_flag(text: str, values: flags.FlagValues = flags.FLAGS) -> flags.FlagHolder:
    """The flag --config=FILE.py[:VARIANT], whose keys --config.a.b=c sets."""
    holder = config_flags.DEFINE_config_file("config", None, text, flag_values=values)
    values[holder.name].parser = _Parser()
    return holder


def overrides(holder: flags.FlagHolder) -> set[str]:
    """The keys that the command line sets."""
    return set(config_flags.get_override_values(flags.FLAGS[holder.name]))


def describe(config: ConfigDict, given: Collection[str]) -> Iterator[str]:
    """A line for each key: value, type and what set it, then its meaning.

    Args:
      given: keys that the command line sets.
    """
    known = config_lib.settings(config)
    for key, value in config_lib.flatten(config).items():
        setting = known.get(key, config_lib.Setting(None, type(value), ""))
        shown = "not set" if value is None else repr(value)
        who = "command line" if key in given else "file" if value != setting.default else "default"
        yield f"config.{key} = {shown}  ({setting.type_name}, {who})"
        yield from textwrap.wrap(setting.meaning, 112, initial_indent=" " * 8, subsequent_indent=" " * 8)


def check_command_line(argv: list[str]) -> None:
    """Checks the experiment file and the keys of its overrides before absl sees them, for the sake of clear words.

    Words for a key that holds several, as in --config.eval.metrics=a,b, are put in quotes in `argv` itself.

    Raises:
      ConfigError: the file is missing, does not run or has no get_config; or an override names an unknown key.
    """
    given = [arg for arg in argv if arg.startswith("--config.")]
    files = _values(argv, "config")
    if given and not files:
        raise ConfigError(f"{given[0]}: a key can be set only with --config=FILE, which says what keys there are")
    for value in files:
        config, _ = _with_switches(load("--config", value), argv)
        flat = config_lib.flatten(config)
        sections = {key.rpartition(".")[0] for key in flat}
        for arg in given:
            key = arg.partition("=")[0].removeprefix("--config.")
            if key in sections:
                raise ConfigError(
                    f"--config.{key} is a section; set one of its keys, e.g. --config.{key}.{_first(flat, key)}"
                )
            choose_key(key, flat)
        _put_words_in_quotes(argv, {key: setting.hint for key, setting in config_lib.settings(config).items()})


def _put_words_in_quotes(argv: list[str], hints: Mapping[str, Any]) -> None:
    """Replaces --config.a.b=x,y by --config.a.b=('x','y') where the key holds a tuple of strings."""
    for index, arg in enumerate(argv):
        key = arg.partition("=")[0].removeprefix("--config.")
        if not arg.startswith("--config.") or without_none(hints.get(key)) != tuple[str, ...]:
            continue
        place = index if "=" in arg else index + 1  # --config.a.b x,y has its value in the next argument
        if place < len(argv):
            flag, _, value = argv[place].partition("=") if place == index else ("", "", argv[place])
            argv[place] = (f"{flag}=" if flag else "") + repr(_words(value))


def _words(value: str) -> tuple[str, ...]:
    """The words of a value: of a tuple or list in Python's syntax, else its parts between commas."""
    try:
        found = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return tuple(value_flags.split(value))
    return tuple(map(str, found)) if isinstance(found, tuple | list) else (value,)


def _first(flat: dict, section: str) -> str:
    return next(key for key in flat if key.startswith(f"{section}.")).removeprefix(f"{section}.")


def choose_key(key: str, flat: dict) -> None:
    """Raises ConfigError, suggesting the nearest key, unless `key` is in the flattened config."""
    if key in flat:
        return
    near = difflib.get_close_matches(key, flat, n=1, cutoff=0.4)
    section = key.rpartition(".")[0]
    siblings = [name.removeprefix(f"{section}.") for name in flat if name.startswith(f"{section}.")]
    if section and siblings:
        try:
            choose("key", key.removeprefix(f"{section}."), siblings)
        except ConfigError as error:
            raise ConfigError(f"--config.{key}: {error}") from None
    hint = f"; did you mean --config.{near[0]}?" if near else f"; there are {', '.join(sorted(flat))}"
    raise ConfigError(f"--config.{key}: unknown key{hint}")
