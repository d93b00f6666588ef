"""Errors that a user can correct, each with the exit code that a scheduler acts on.

0 done, 1 short of what the experiment expects on this data, 2 bad configuration (never retry), 3 diverged, 4 storage or
data, 85 preempted and saved (requeue), 130 Ctrl-C after saving. Anything else is a crash.
"""

import difflib
from collections.abc import Iterable

EXIT_EXPECTATION_MISSED = 1
EXIT_PREEMPTED = 85
EXIT_INTERRUPTED = 130


class GenmodelsError(Exception):
    """An error whose message is one line that names what is wrong and says how to correct it."""

    exit_code = 1


class ConfigError(GenmodelsError):
    """A flag, a config key or its value is wrong."""

    exit_code = 2


class DivergedError(GenmodelsError):
    """Too many consecutive updates were not finite."""

    exit_code = 3


class StorageError(GenmodelsError):
    """A work directory, checkpoint or output path cannot be used."""

    exit_code = 4


class DataError(GenmodelsError):
    """A data source is missing, or its contents are not what they should be."""

    exit_code = 4


def choose(kind: str, name: str, known: Iterable[str]) -> str:
    """Returns `name` if it is one of `known`.

    Args:
      kind: what the name is of, for the message: "sampler".
    Raises:
      ConfigError: it is not; the message suggests the nearest known name and lists all.
    """
    known = sorted(known)
    if name in known:
        return name
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"unknown {kind} {name!r}: {hint}there {'is' if len(known) == 1 else 'are'} {', '.join(known) or 'none'}"
    )
