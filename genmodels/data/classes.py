"""Classes by name and by number.

A class has a label, its number in 0 .. num_classes - 1, and mostly a name. Whatever takes classes takes either: a word
is a name. A number is a label, unless classes are named by numbers: then a number is always a name, because it could
mean one class as a name and another as a label.
"""

import difflib
import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Int32

from genmodels.core.names import printable
from genmodels.errors import ConfigError

NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
MAX_LISTED = 20  # names of classes that a message lists


def are_numbers(names: Collection[str]) -> bool:
    """Whether there are names and all are numbers."""
    return bool(names) and all(NUMBER.fullmatch(name) for name in names)


def listed(names: Sequence[str]) -> str:
    """The names, separated by commas; of many, the first and a count."""
    more = f" ... {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return printable(", ".join(names[:MAX_LISTED]) + more)


def names_in(labels: Int[np.ndarray, " N"], names: Sequence[str]) -> str:
    """The names of the classes that occur, in the order in which they first do; "" where names are not known."""
    return listed([names[label] for label in dict.fromkeys(labels.tolist())]) if names else ""


def class_number(wanted: Any, names: Sequence[str], num_classes: int) -> int:
    """The label of the class that a name or a number means.

    Args:
      names: of the classes; () where they are not known.
    Raises:
      ConfigError: there is no such class; the message suggests the nearest name, or lists what there is.
    """
    if isinstance(wanted, bool) or not isinstance(wanted, int | str | np.integer):
        raise ConfigError(f"no class {wanted!r}: a label is the name or the number of a class")
    text = unicodedata.normalize("NFC", str(wanted))  # file systems may write one letter as two
    same = [unicodedata.normalize("NFC", name) for name in names]
    if text in same:
        return names.index(str(wanted)) if wanted in names else same.index(text)
    numbers = [index for index, name in enumerate(names) if NUMBER.fullmatch(name)]
    if NUMBER.fullmatch(text) and not numbers and 0 <= int(text) < num_classes:
        return int(text)
    if NUMBER.fullmatch(text) and numbers:
        equal = [index for index in numbers if int(names[index]) == int(text)]  # the folder 07 for the number 7
        if len(equal) == 1:
            return equal[0]
        raise ConfigError(f"no class is named {text}; classes are named by numbers here: there are {listed(names)}")
    near = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    numbered = f"0 to {num_classes - 1}" if num_classes else "none"
    there = f"{listed(names)} (labels {numbered})" if names and not numbers else listed(names) or numbered
    raise ConfigError(f"no class {wanted!r}{hint}; there are {there}")


def class_numbers(
    wanted: Any, names: Sequence[str], num_classes: int, what: str = "labels"
) -> Int32[np.ndarray, " labels"]:
    """The labels of one class or several, each by name or number, see `class_number`.

    Args:
      what: what takes them, for messages.
    Raises:
      ConfigError: there are none, or one is no class.
    """
    if isinstance(wanted, np.ndarray):
        wanted = wanted.tolist()
    wanted = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    if not wanted:
        raise ConfigError(f"{what}: is empty; give names or numbers of classes")
    found = {}
    for key, each in {repr(each): each for each in wanted}.items():
        try:
            found[key] = class_number(each, names, num_classes)
        except ConfigError as error:
            raise ConfigError(f"{what}: {error}") from error
    return np.array([found[repr(each)] for each in wanted], np.int32)


def renumbered(
    labels: Int[np.ndarray, " N"], theirs: Sequence[str], ours: Sequence[str], where: str
) -> Int[np.ndarray, " N"]:
    """Labels of classes named `theirs` as labels of the classes named `ours`; unchanged where either has no names.

    Raises:
      ConfigError: a class that occurs has a name that is not among ours.
    """
    if not theirs or not ours:
        return labels
    number = {name: index for index, name in enumerate(ours)}
    found = np.array([number.get(name, -1) for name in theirs], np.int32)
    unknown = [theirs[index] for index in np.unique(labels) if found[index] < 0]
    if unknown:
        raise ConfigError(f"{where}: has the class {unknown[0]!r}, which is none of {listed(ours)}")
    return found[labels]
