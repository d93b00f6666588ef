"""What genmodels.data.inspect opens: both splits of a source, or every file of them that cannot be read."""

import re
from collections.abc import Mapping
from typing import Any

from genmodels.core.names import printable
from genmodels.data.base import DataSource
from genmodels.data.scan import DamagedError
from genmodels.data.sources import from_config
from genmodels.errors import DataError, GenmodelsError

MAX_DAMAGED = 100  # damaged files that are listed
KEY = re.compile(r"(?<!--)\bconfig\.data(?:\.|: )(?=\w)")


def _in_flags(text: str) -> str:
    """A message about keys of config.data in the words of the flags that set them."""
    return KEY.sub("--", text)


def open_splits(section: Mapping[str, Any]) -> tuple[DataSource, DataSource | None, str]:
    """(training split, test split or None, why there is no test split).

    Prints a line for each damaged file of either split.

    Args:
      section: the values of config.data, as the command's flags give them.
    Raises:
      DataError, ConfigError: as `from_config` does, with flags in the place of config keys; or files are damaged.
    """
    found: dict[str, DataSource] = {}
    damaged: dict[tuple[str, str], str] = {}
    broken: list[DamagedError] = []
    why = ""
    for split in ("train", "test"):
        try:
            found[split] = from_config(section, split, thorough=True)
        except DamagedError as error:
            broken.append(error)
            damaged |= {(error.where, name): reason for name, reason in error.files.items()}
        except GenmodelsError as error:
            if split == "train" or not isinstance(error, DataError):
                text = _in_flags(str(error))
                raise type(error)(text if "--" in text else f"--source: {text}") from error
            why = _in_flags(str(error))
    if not broken:
        return found["train"], found.get("test"), why
    for (where, name), reason in list(damaged.items())[:MAX_DAMAGED]:
        print(printable(f"damaged: {where}: {name}: {reason}"))
    if len(damaged) > MAX_DAMAGED:
        print(f"damaged: {len(damaged) - MAX_DAMAGED:,} more files")
    files = "1 file is" if len(damaged) == 1 else f"{len(damaged):,} files are"
    raise DataError(f"{files} damaged: {_in_flags(str(broken[0]))}") from broken[0]
