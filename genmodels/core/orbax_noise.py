"""What Orbax and TensorStore do of their own about an error that they raise as well.

A write that fails is logged with a traceback by each thread that took part, and every abandoned write or read of an
array prints another one when it is freed. `Checkpoints` raises the error itself, once and in one line.
"""

import logging
import sys
import threading
import warnings
from typing import Any

from absl import logging as absl_logging

LIBRARY = "/orbax/"  # in the paths of Orbax's modules


def _wanted(record: logging.LogRecord) -> bool:
    """False for what Orbax logs and for tasks of asyncio whose error nobody fetched, unless --v=1 is given."""
    foreign = LIBRARY in record.pathname or record.name == "asyncio"
    return not foreign or absl_logging.get_verbosity() > absl_logging.INFO


def _is_echo(error: BaseException | None) -> bool:
    """Whether the error comes from a read or write that Orbax abandoned because another one had failed."""
    return type(error) is Exception or (isinstance(error, RuntimeError) and "Event loop is closed" in str(error))


class _Hook:
    """A `sys.unraisablehook` that passes everything but echoes on to the one before it."""

    def __init__(self, before: Any):
        self._before = before

    def __call__(self, seen: Any) -> None:
        if not _is_echo(seen.exc_value):
            self._before(seen)


def silence() -> None:
    """Silences it for the rest of the process; done before, it does nothing."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_wanted)  # which adds it once
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)


def threads_left() -> bool:
    """Whether threads of a write that failed are still there, for which a process waits before it ends.

    They wait for other parts of the write, which never began, for twenty minutes.
    """
    return any("orbax" in type(thread).__module__ and not thread.daemon for thread in threading.enumerate())
