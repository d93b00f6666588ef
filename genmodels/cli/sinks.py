"""Standard output and error that may break: a full disk under a log, a reader that left, a descriptor that was closed.

An output that breaks must not end a command. The broken stream is dropped, the other one says so, and the command goes
on.
"""

import contextlib
import os
import sys
from typing import Any


class Sink:
    """A text stream that is dropped when it cannot be written; otherwise it behaves as the stream.

    Args:
      stream: where the text goes.
      name: its name in messages.
      other: where it is said that the stream is dropped.
      forward: whether `other` gets the text from then on.
    """

    def __init__(self, stream: Any, name: str, other: Any, *, forward: bool):
        self._stream = stream
        self._name = name
        self._other = other
        self._forward = forward
        self._dropped = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text; returns its length even where it is lost."""
        self._attempt("write", text)
        return len(text)

    def flush(self) -> None:
        """Flushes what was written."""
        self._attempt("flush")

    def _attempt(self, method: str, *args: str) -> None:
        if not self._dropped:
            try:
                getattr(self._stream, method)(*args)
                if self._forward:
                    self._stream.flush()  # else text that is lost later could not be forwarded
                return
            except (BlockingIOError, RuntimeError):  # a pipe that is full for now; a signal's handler amid a write
                return
            except ValueError:
                if not self._stream.closed:
                    raise
                self._drop(None)
            except OSError as error:
                self._drop(error)
        if self._forward:
            with contextlib.suppress(OSError, ValueError):
                getattr(self._other, method)(*args)

    def _drop(self, error: OSError | None) -> None:
        """Sends what is still in the stream's buffer nowhere; says why unless the reader, such as `head`, has left."""
        self._dropped = True
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        if error is not None and not isinstance(error, BrokenPipeError):
            with contextlib.suppress(OSError, ValueError):
                print(f"note: {self._name} cannot be written ({error.strerror})", file=self._other, flush=True)


def _open_descriptors() -> None:
    """Opens those of the descriptors 0, 1 and 2 that are closed, so that no file of a run becomes one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def protect() -> None:
    """Puts a Sink in the place of standard output, and one in that of standard error.

    If standard error breaks, its text goes to standard output. Text for a stream that was closed when Python started
    goes nowhere.
    """
    _open_descriptors()
    out, err = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    sys.stdout = Sink(out, "standard output", err, forward=False)
    sys.stderr = Sink(err, "standard error", out, forward=True)
