"""Errors of XLA and of memory, as one line that names the config keys to change."""

import contextlib
from collections.abc import Iterator

import jax

from genmodels.errors import ConfigError, GenmodelsError

OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "bad_alloc")
UNSUPPORTED = ("UNIMPLEMENTED", "INVALID_ARGUMENT")  # of the program, so that the same program fails again
MAX_TEXT = 200  # characters of XLA's own words


def explain(
    error: BaseException, doing: str, batch: str, dtype: str = "config.model.dtype", also: str = ""
) -> GenmodelsError | None:
    """The error that says what to change; None for one that comes neither from XLA nor from a lack of memory.

    Args:
      doing: what failed, the subject of the message: "the training step".
      batch: the config key that says how many rows are computed at once.
      dtype: the key of the precision of the computation; "" if there is none.
      also: what a changed key needs besides, e.g. " with a new --workdir".
    Returns:
      A ConfigError where the same config will fail again: it wants more memory, or an operation that is not there. Else
      the error of a crash, which may be tried again.
    """
    if not isinstance(error, (jax.errors.JaxRuntimeError, MemoryError)):
        return None
    text = " ".join(str(error).split())[:MAX_TEXT] or type(error).__name__
    if isinstance(error, MemoryError) or any(word in text for word in OUT_OF_MEMORY):
        narrower = f"set {dtype} to bfloat16, " if dtype else ""
        advice = f"lower {batch}, {narrower}or choose smaller sizes in config.model{also}"
        return ConfigError(f"{doing} ran out of memory: {advice} ({text})")
    keys = f"{dtype}, {batch}" if dtype else batch
    if text.startswith(UNSUPPORTED):
        devices = f"{jax.default_backend()} devices"
        advice = f"change {keys} or the sizes in config.model{also}"
        return ConfigError(f"{doing} cannot run on {devices}: {advice} ({text})")
    return GenmodelsError(f"{doing} failed on the device: if it fails again, change {keys} ({text})")


@contextlib.contextmanager
def explained(doing: str, batch: str, dtype: str = "config.model.dtype") -> Iterator[None]:
    """Raises the errors of `explain`, which has the same arguments, in the place of those that they explain."""
    try:
        yield
    except Exception as error:
        known = explain(error, doing, batch, dtype)
        if known is None:
            raise
        raise known from error
