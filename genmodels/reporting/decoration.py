"""Pictures and plots are decoration: one that fails is a warning, never a lost number or the end of a run."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def decoration(what: Any, say: Callable[[str], Any] = print) -> Iterator[None]:
    """Turns any error in the block into a line that says that `what` was not drawn, and why."""
    try:
        yield
    except Exception as error:  # of the drawing, of the data, of the disk, or of a task's own function
        say(f"warning: {what} was not drawn: {' '.join(str(error).split()) or type(error).__name__}")
