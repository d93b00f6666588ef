"""Signals that ask a run to save and end.

SIGTERM   a scheduler stops the job                    85
SIGHUP    the terminal was closed                      85
SIGUSR1   Slurm warns before the time limit            85
SIGINT    Ctrl-C; a second one ends the run at once    130
SIGQUIT   Ctrl-\\, as Ctrl-C                            130
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator

from genmodels.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED

CODES = {
    signal.SIGTERM: EXIT_PREEMPTED,
    signal.SIGHUP: EXIT_PREEMPTED,
    signal.SIGUSR1: EXIT_PREEMPTED,
    signal.SIGINT: EXIT_INTERRUPTED,
    signal.SIGQUIT: EXIT_INTERRUPTED,
}


def _caught() -> list[signal.Signals]:
    """All of CODES but a SIGHUP that is ignored: `nohup` started the run, which is to outlive its terminal.

    SIGINT and SIGQUIT are caught even then. Shells ignore them in what a script starts with "&", where nobody but a
    user who names the process can send them.
    """
    return [number for number in CODES if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN]


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
        if CODES[signal.Signals(number)] == code == EXIT_INTERRUPTED:
            os._exit(EXIT_INTERRUPTED)
        code = CODES[signal.Signals(number)]

    def requested():
        nonlocal training
        training = True
        return code

    before = {number: signal.signal(number, on_signal) for number in _caught()}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
