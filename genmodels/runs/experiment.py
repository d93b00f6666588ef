"""Reading experiment files: FILE.py or FILE.py:VARIANT, with every mistake in them told in one line."""

import difflib
import pathlib
import re
import runpy
from collections.abc import Sequence

from ml_collections import ConfigDict

from genmodels import config as config_lib
from genmodels.errors import ConfigError, GenmodelsError, choose


def is_experiment(value: str) -> bool:
    """Whether it names an experiment file rather than a work directory."""
    return re.fullmatch(r".+\.py(:\w*)?", value) is not None


def load(flag: str, value: str) -> ConfigDict:
    """The config of an experiment file.

    Args:
      flag: what names it, for messages: "--config".
    Raises:
      ConfigError: the file is missing, does not run or has no get_config.
    """
    name, _, variant = value.partition(":")
    path = pathlib.Path(name)
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.py")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(f"{flag}={value}: no such file{hint}")
    try:
        return runpy.run_path(name)["get_config"](*([variant] if variant else []))
    except GenmodelsError as error:
        raise ConfigError(f"{flag}={value}: {error}") from error
    except KeyError as error:
        raise ConfigError(f"{flag}={value}: the file has no {error}") from error
    except Exception as error:  # any mistake in a user's file
        raise ConfigError(f"{flag}={value}: the file does not run: {type(error).__name__}: {error}") from error


def _values(argv: Sequence[str], name: str) -> list[str]:
    """The values given as --name=value or --name value."""
    pairs = zip(argv, [*argv[1:], ""], strict=True)
    return [arg.partition("=")[2] or after for arg, after in pairs if arg.lstrip("-").partition("=")[0] == name]


def check_command_line(argv: Sequence[str]) -> None:
    """Checks the experiment file and the keys of its overrides before absl sees them, for the sake of clear words.

    Raises:
      ConfigError: the file is missing, does not run or has no get_config; or an override names an unknown key.
    """
    for value in _values(argv, "config"):
        config = load("--config", value)
        flat = config_lib.flatten(config)
        sections = {key.rpartition(".")[0] for key in flat}
        for arg in argv:
            if arg.startswith("--config."):
                key = arg.partition("=")[0].removeprefix("--config.")
                if key in sections:
                    raise ConfigError(
                        f"--config.{key} is a section; set one of its keys, e.g. --config.{key}.{_first(flat, key)}"
                    )
                choose_key(key, flat)


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
