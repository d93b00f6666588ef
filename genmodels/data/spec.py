"""The strings that name data sources: "SCHEME:PATH", or a call in Python's syntax whose arguments may be other sources.

folder:photos
folder("photos", size=64, crop="center")
pair("folder:summer", "folder:winter")
subset(split("npz:all.npz", test=0.1), classes=(3, 5))
"""

import ast
import dataclasses
import pathlib
import re
from typing import Any

from genmodels.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Call:
    """A parsed source.

    Attributes:
      name: the scheme or combination, e.g. "folder" or "pair".
      args: paths and other sources (strings, or calls).
      options: keyword arguments.
      text: the call as a string.
    """

    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    text: str


def parse(text: str, key: str = "config.data.source", example: str = 'folder("photos", size=64)') -> Call:
    """Parses "SCHEME:PATH" or a call; other strings in this syntax, such as likelihoods, are parsed too.

    Args:
      key: the config key or flag, for error messages.
      example: a correct call, for error messages.
    Raises:
      ConfigError: the text is empty, or it begins like a call but is not a valid one.
    """
    text = text.strip()
    if not re.match(r"\w+\s*\(", text):
        name, colon, path = text.partition(":")
        if not name:
            raise ConfigError(f"{key}={text!r}: must be SCHEME:PATH, e.g. folder:photos")
        return Call(name, (path,) if colon else (), {}, text)
    try:
        return _call(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two where calls are too deep
        reason = error.msg if isinstance(error, SyntaxError) else error or "it is nested too deeply"
        raise ConfigError(
            f"{key}={text!r}: {reason}; write a call as in Python, with strings in quotes: {example}"
        ) from error


def _call(node: ast.AST) -> Call:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError(f"{ast.unparse(node)} is not a call")
    args = tuple(_argument(arg) for arg in node.args)
    options: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ValueError("** is not allowed")
        if keyword.arg in options:
            raise ValueError(f"{ast.unparse(node)} gives an option twice")
        options[keyword.arg] = _value(keyword)
    return Call(node.func.id, args, options, ast.unparse(node))


def _argument(node: ast.expr) -> str | Call:
    if isinstance(node, ast.Call):
        return _call(node)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError(f"{ast.unparse(node)} must be in quotes, or a call")


def _value(keyword: ast.keyword) -> Any:
    try:
        return ast.literal_eval(keyword.value)
    except ValueError:
        raise ValueError(f"{ast.unparse(keyword)} is not a plain value; words must be in quotes") from None


def may_be_one(a: str | Call, b: str | Call) -> bool:
    """Whether two sources may be the same one, whose paths are written as seen from different folders.

    "folder:photos" may be "folder:/home/photos". Options and the order of parts must be equal.

    Raises:
      ConfigError: one of them is not a source.
    """
    first, second = (parse(one) if isinstance(one, str) else one for one in (a, b))
    if (first.name, first.options, len(first.args)) != (second.name, second.options, len(second.args)):
        return False
    return all(map(_may_be_one_argument, first.args, second.args))


def _may_be_one_argument(a: str | Call, b: str | Call) -> bool:
    if not (isinstance(a, str) and isinstance(b, str)) or (":" in a and ":" in b):
        return may_be_one(a, b)
    short, long = sorted((pathlib.PurePath(one).parts for one in (a, b)), key=len)
    return long[len(long) - len(short) :] == short
