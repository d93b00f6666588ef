"""A progress bar for a pass over many things: a live line on a terminal, plain lines in a log."""

import functools
import sys

from tqdm import tqdm

LIVE_INTERVAL_S = 0.2
LOG_INTERVAL_S = 5.0


class _LogLines(tqdm):
    """tqdm that prints each of its states as a line of its own instead of rewriting one line."""

    monitor_interval = 0  # no thread: it would only adjust `miniters`, which `progress` fixes

    @staticmethod
    def status_printer(file):
        """Returns the function that writes a state to `file`."""
        return functools.partial(print, file=file, flush=True)

    def close(self) -> None:
        """Ends the pass and writes nothing, because there is no line to clear."""
        self.disable = True


def progress(what: str, total: int) -> tqdm:
    """A bar that shows how far a pass over `total` things has come, with its speed and the time left.

    It is used as a context manager; `update(n)` says that n more are done. On a terminal the bar is cleared at the end.
    Elsewhere a line is printed at most every five seconds, and none for a pass that is shorter.

    Args:
      what: the name of the pass, e.g. "samples".
    """
    live = sys.stdout.isatty()
    interval = LIVE_INTERVAL_S if live else LOG_INTERVAL_S
    return (tqdm if live else _LogLines)(
        desc=what,
        total=total,
        file=sys.stdout,
        leave=False,
        position=None if live else 0,  # other positions move the cursor
        dynamic_ncols=live,
        miniters=1,
        mininterval=interval,
        delay=interval,
        bar_format=None if live else "{desc}: {n:,} of {total:,}, {rate_noinv_fmt}, {remaining} left",
    )
