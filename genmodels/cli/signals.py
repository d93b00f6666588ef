"""Ctrl-C and SIGTERM ask a run to save and leave; a second Ctrl-C leaves at once."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator

from genmodels.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED

CODES = {signal.SIGTERM: EXIT_PREEMPTED, signal.SIGINT: EXIT_INTERRUPTED}


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], int | None]]:
    """Inside the block, the returned function tells the exit code that a signal asked for, or None.

    Until it is asked for the first time nothing has been trained and there is nothing to save: a signal leaves at once.
    """
    code: int | None = None
    asked = False

    def on_signal(number, frame):
        nonlocal code
        if not asked:
            print("stopped before training began", file=sys.stderr)
            sys.exit(CODES[signal.Signals(number)])
        if number == signal.SIGINT and code == EXIT_INTERRUPTED:
            os._exit(EXIT_INTERRUPTED)
        code = CODES[signal.Signals(number)]

    def ask():
        nonlocal asked
        asked = True
        return code

    before = {number: signal.signal(number, on_signal) for number in CODES}
    try:
        yield ask
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
