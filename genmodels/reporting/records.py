"""The records in metrics.jsonl, read so that damage costs the damaged lines alone.

A kill cuts a line short, and a disk that fails may leave zeros or the bytes of another file.
"""

import json
import pathlib
from typing import Any, NamedTuple

from genmodels.core.files import atomic_path
from genmodels.errors import StorageError

Record = dict[str, Any]
MAX_NUMBER = 2**63  # a larger whole number is damage, and no float
MAX_NAMED = 3  # damaged lines that a warning names


class Damaged(NamedTuple):
    """A line that is no record.

    Attributes:
      number: of the line, from 1.
      line: its bytes.
      reason: in words.
    """

    number: int
    line: bytes
    reason: str


def parse(path: pathlib.Path) -> tuple[list[Record], list[Damaged]]:
    """The records of a metrics.jsonl and its damaged lines, each in order; none of a file that does not exist.

    Raises:
      StorageError: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    records, damaged = [], []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            try:
                records.append(_record(line))
            except (ValueError, RecursionError) as error:
                damaged.append(Damaged(number, line, str(error)))
    return records, damaged


def _record(line: bytes) -> Record:
    """Raises ValueError, which says why, or RecursionError if the line is no record."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except ValueError:
        raise ValueError("it is not JSON, or a part of it is missing") from None
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    step, warnings = record.get("step"), record.get("warnings", [])
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise ValueError("it has no step")
    if not isinstance(warnings, list) or not all(isinstance(text, str) for text in warnings):
        raise ValueError("its warnings are no list of texts")
    for name, value in record.items():
        if name != "warnings" and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{name!a} is not a number")
        if isinstance(value, int) and abs(value) >= MAX_NUMBER:
            raise ValueError(f"{name!a} is too large")
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text is not Unicode") from None
    return record


def describe(path: pathlib.Path, damaged: list[Damaged]) -> str:
    """One line that names the damaged lines of a file."""
    first, *others = damaged
    named = ", ".join(str(one.number) for one in damaged[:MAX_NAMED])
    more = f" and {len(damaged) - MAX_NAMED} more" if len(damaged) > MAX_NAMED else ""
    of_first = f" of line {first.number}" if others else ""
    lines, are = ("lines", "are") if others else ("line", "is")
    return f"{path}: {lines} {named}{more} {are} damaged ({first.reason}{of_first})"


def read_metrics(path: pathlib.Path, *, move_damage: bool = False) -> list[Record]:
    """The records of a metrics.jsonl; prints a warning that names the lines which are damaged and left out.

    Args:
      move_damage: the file is about to be written again, so that damaged lines are kept in a file beside it.
    Raises:
      StorageError: the file cannot be read, or the damaged lines cannot be kept.
    """
    records, damaged = parse(path)
    if damaged:
        aside = path.with_name(f"{path.name}.damaged")
        if move_damage:
            before = aside.read_bytes() if aside.is_file() and not aside.is_symlink() else b""
            with atomic_path(aside) as temporary:
                temporary.write_bytes(before + b"".join(one.line + b"\n" for one in damaged))
        what = f"moved to {aside.name}" if move_damage else "left out"
        print(f"warning: {describe(path, damaged)} and {what}", flush=True)
    return records
