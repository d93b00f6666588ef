"""Ctrl-C and SIGTERM ask a run to save and end; a second Ctrl-C ends it at once."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator

from genmodels.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED

CODES = {signal.SIGTERM: EXIT_PREEMPTED, signal.SIGINT: EXIT_INTERRUPTED}


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], int | None]]:
    """Catches signals inside the block; yields a function that returns the exit code of the last signal, or None.

    Until the function is called for the first time nothing has been trained and nothing needs saving, so a signal ends
    the process at once.
    """
    code: int | None = None
    training = False

    def on_signal(number, frame):
        nonlocal code
        if not training:
            print("stopped before training began", file=sys.stderr)
            sys.exit(CODES[signal.Signals(number)])
        if number == signal.SIGINT and code == EXIT_INTERRUPTED:
            os._exit(EXIT_INTERRUPTED)
        code = CODES[signal.Signals(number)]

    def requested():
        nonlocal training
        training = True
        return code

    before = {number: signal.signal(number, on_signal) for number in CODES}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
