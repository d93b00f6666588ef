"""Names of files and classes: the order in which people count them, and what a file system takes."""

import re
import sys
from typing import Any

SUFFIX = re.compile(r"\.[A-Za-z]\w*$")  # of a file's name; the folder v1.5 has none
DIGITS = re.compile(r"([0-9]+)")
MAX_SAFE_NAME = 40  # characters; a file's name may have 255 bytes, four a character


def natural(path: str) -> tuple[Any, ...]:
    """A key that sorts paths as people count: img_2.png before img_10.png, and the folder 9 before the folder 10.

    Paths are compared part by part. Those that differ only in suffixes or in leading zeros stay in the order of their
    characters.
    """
    stems = [SUFFIX.sub("", part, count=1) for part in path.split("/")]
    return tuple(map(_counted, stems)), path


def _counted(text: str) -> tuple[Any, ...]:
    """Words and numbers in turn; numbers as (digits, text), because an integer of thousands of digits takes long."""
    words = [word if index % 2 == 0 else word.lstrip("0") for index, word in enumerate(DIGITS.split(text))]
    return tuple(word if index % 2 == 0 else (len(word), word) for index, word in enumerate(words))


def without_leading_zeros(name: str) -> str:
    """The name with every number written plainly: img_007 becomes img_7."""
    return DIGITS.sub(lambda number: number[0].lstrip("0") or "0", name)


def printable(text: str) -> str:
    """The text with the bytes of file names that are not UTF-8 written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def safe(name: str) -> str:
    """The name as part of a file's name: what is no letter, digit, dot or underscore becomes a hyphen."""
    encoding = sys.getfilesystemencoding()
    known = name.encode(encoding, "replace").decode(encoding)
    return "".join(each if each.isalnum() or each in "._" else "-" for each in known)[:MAX_SAFE_NAME]
