"""Functions outside this package that a config or a flag names as "module:function": a task or an extractor.

Modules are found as Python finds them. `python -m` puts the current directory on the path; nothing here does.
"""

import importlib
import pathlib
import traceback
from types import ModuleType
from typing import Any

from genmodels.errors import ConfigError, GenmodelsError

HINT = '; the name must be "module:function", installed or in a folder on the path of Python'


def is_user_code(name: str) -> bool:
    """Whether a name has the form "module:function"; of an extractor, "inception:PATH" has it too."""
    return ":" in name


def module_of(key: str, name: str) -> ModuleType:
    """Imports the module of "module:function".

    Args:
      key: the flag or config key that holds the name, for messages.
    Raises:
      ConfigError: the module cannot be imported; the message is one line that names the key and the line of the module.
    """
    return attempt(key, name, importlib.import_module, name.partition(":")[0], hint=HINT)


def call(key: str, name: str, *args: Any) -> Any:
    """Imports the module of "module:function" and calls the function.

    Args:
      key: the flag or config key that holds the name, for messages.
      args: what the function is called with.
    Returns:
      What the function returns.
    Raises:
      ConfigError: the module cannot be imported, it has no such function, or the function raises; the message is one
        line that names the key and the line of the module. A GenmodelsError of the function passes unchanged.
    """
    function = attempt(key, name, getattr, module_of(key, name), name.partition(":")[2], hint=HINT)
    return attempt(key, name, function, *args)


def attempt(key: str, name: str, function: Any, *args: Any, hint: str = "") -> Any:
    """What a user's function returns.

    Args:
      key, name: the flag or config key and the "module:function" that it holds, for messages.
      hint: what to say besides where the module or the function was not found.
    Raises:
      ConfigError: the function raises anything, SystemExit included; one line. A GenmodelsError passes unchanged.
    """
    try:
        return function(*args)
    except GenmodelsError:
        raise
    except (Exception, SystemExit) as error:
        module = name.partition(":")[0]
        not_found = isinstance(error, ModuleNotFoundError) and error.name == module
        missing = not module or not_found or isinstance(error, AttributeError)
        raise ConfigError(f"{key}={name}: {_describe(error, module)}{hint if missing else ''}") from error


def _describe(error: BaseException, module: str) -> str:
    """The error in one line, with the last line of the module's own file that led to it."""
    stem = module.rpartition(".")[2]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if pathlib.Path(f.filename).stem == stem]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
