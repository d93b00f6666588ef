"""Functions outside this package that a config or a flag names as "module:function": a task or an extractor."""

import importlib
import pathlib
import sys
import traceback
from typing import Any

from genmodels.errors import ConfigError, GenmodelsError


def is_user_code(name: str) -> bool:
    """Whether a name has the form "module:function", which no name of this package has."""
    return ":" in name


def call(key: str, name: str, *args: Any) -> Any:
    """Imports the module of "module:function" and calls the function.

    The module is looked for in the current directory first, then among the installed ones.

    Args:
      key: the flag or config key that holds the name, for messages.
      args: what the function is called with.
    Returns:
      What the function returns.
    Raises:
      ConfigError: the module cannot be imported, it has no such function, or the function raises; the message is one
        line that names the key and the line of the module. A GenmodelsError of the function passes unchanged.
    """
    module, _, function = name.partition(":")
    sys.path.insert(0, "")
    try:
        try:
            found = getattr(importlib.import_module(module), function)
        except Exception as error:  # any mistake in a user's file
            hint = '; the name must be "module:function", importable from the current directory or installed'
            raise ConfigError(f"{key}={name}: {_describe(error, module)}{hint}") from error
        try:
            return found(*args)
        except GenmodelsError:
            raise
        except Exception as error:
            raise ConfigError(f"{key}={name}: {_describe(error, module)}") from error
    finally:
        sys.path.remove("")


def _describe(error: Exception, module: str) -> str:
    """The error in one line, with the last line of the module's own file that led to it."""
    stem = module.rpartition(".")[2]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if pathlib.Path(f.filename).stem == stem]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
