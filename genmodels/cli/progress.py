"""The progress of a pass over many files or samples, on the terminal."""

import sys
import time


class Progress:
    """Shows a line that is updated in place on a terminal, else prints a line every five seconds; nothing before that.

    Used in a `with` block, at whose end the line is cleared.
    """

    def __init__(self, what: str, total: int):
        self._what, self._total, self._done = what, total, 0
        self._start = self._shown = time.perf_counter()
        self._live = sys.stdout.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def advance(self, count: int) -> None:
        """Counts `count` more as done."""
        self._done += count
        now = time.perf_counter()
        if now - self._shown < (0.2 if self._live else 5) or self._done == self._total:
            return
        self._shown = now
        pace = self._done / (now - self._start)
        left = (self._total - self._done) / pace
        line = f"{self._what}: {self._done:,} of {self._total:,}  {pace:,.0f}/s  ETA {left:.0f} s"
        print(f"\r\033[K{line}" if self._live else line, end="" if self._live else "\n", flush=True)

    def close(self) -> None:
        """Clears the line on the terminal."""
        if self._live and self._shown != self._start:
            print("\r\033[K", end="", flush=True)
