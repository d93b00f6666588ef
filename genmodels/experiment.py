"""Reading experiment files: FILE.py or FILE.py:VARIANT, with every mistake in them told in one line."""

import difflib
import pathlib
import re
import runpy

from ml_collections import ConfigDict

from genmodels.errors import ConfigError, GenmodelsError


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
