"""Flags whose values are paths, or lists of values that may be calls: "~" is a home, and a call keeps its commas."""

import os
from collections.abc import Sequence
from typing import Any

from absl import flags

flags.disclaim_key_flags()

OPENING, CLOSING = "([{", ")]}"


def split(text: str) -> list[str]:
    """The parts of a list: split at the commas that are outside of brackets, without empty ones.

    'a,folder("D", size=16)' has two parts. Quotes inside of brackets may hold brackets. What is not closed is left to
    whatever reads the part.
    """
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and depth > 0:
            quote = letter
        depth += (not quote) * ((letter in OPENING) - (letter in CLOSING))
        if letter == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _expanded(text: str) -> str:
    """The text with "~" and "~user" at its start replaced. Raises ValueError if there is no such home."""
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError(f"there is no home folder {text.partition('/')[0]}; for a file of that name, write ./{text}")
    return path


class _Path(flags.ArgumentParser):
    def parse(self, argument: Any) -> str:
        """The path with "~" and "~user" replaced."""
        return _expanded(argument)


class _List(flags.ArgumentParser):
    def parse(self, argument: Any) -> list[str]:
        """The parts of the list, with "~" replaced; a path that exists is one part, whatever commas it has."""
        if isinstance(argument, str) and len(argument) < 256 and os.path.exists(argument):
            return [argument]
        return [_expanded(part) for part in split(argument)] if isinstance(argument, str) else argument


class _ListSerializer(flags.ArgumentSerializer):
    def serialize(self, value: Sequence[str]) -> str:
        """The list as the command line has it."""
        return ",".join(value)


def define_path(name: str, default: str | None, text: str, **options: Any) -> flags.FlagHolder:
    """As flags.DEFINE_string, for a path or a data source."""
    return flags.DEFINE(_Path(), name, default, text, **options)


def define_list(name: str, default: Sequence[str] | None, text: str, **options: Any) -> flags.FlagHolder:
    """As flags.DEFINE_list, for values that may be paths, data sources, or calls with commas of their own."""
    return flags.DEFINE(_List(), name, default, text, serializer=_ListSerializer(), **options)
