"""The entry point that all commands share: flag errors of one line, and exit codes that a scheduler can act on."""

import errno
import functools
import io
import logging as standard_logging
import os
import sys
from collections.abc import Callable

from absl import app, flags, logging

from genmodels.core import xla
from genmodels.errors import EXIT_INTERRUPTED, ConfigError, GenmodelsError, StorageError

Check = Callable[[list[str]], None]


def fail(error: GenmodelsError) -> None:
    """Prints the error as one line and ends the process with its exit code."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    sys.exit(error.exit_code)


def _parse(argv: list[str], check: Check) -> list[str]:
    """Parses flags; an error in them or in the experiment file becomes one line and an exit code."""
    try:
        check(argv)
        rest = flags.FLAGS(list(argv))
        if rest[1:]:
            raise ConfigError(f"unexpected argument {rest[1]!r}: options are written --name=value")
    except GenmodelsError as error:
        fail(error)
    except (flags.Error, TypeError, ValueError) as error:
        fail(ConfigError(str(error)))
    return rest


def run(main: Callable[[], int | None], check: Check = lambda argv: None) -> None:
    """Runs a command: parses flags, calls `main`, exits with the code that it returns (None is 0) or its error's code.

    Args:
      check: called with the command line before absl parses it, to raise clearer errors; it may change the list.
    """
    xla.configure()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # letters that a terminal cannot show must not end a command
            stream.reconfigure(errors="backslashreplace")
    logging.set_verbosity(logging.ERROR)
    standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)  # Orbax's tasks log errors that we raise

    def call(argv):
        try:
            sys.exit(main() or 0)
        except GenmodelsError as error:
            fail(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:  # the reader of the output, such as `head`, has left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            fail(StorageError(f"{error.filename}: {error.strerror}; give a shorter name"))

    app.run(call, flags_parser=functools.partial(_parse, check=check))
