"""The entry point that all commands share: flag errors of one line, and exit codes that a scheduler can act on."""

import errno
import functools
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable

from absl import app, flags, logging

from genmodels.cli import sinks
from genmodels.core import orbax_noise, xla
from genmodels.errors import EXIT_INTERRUPTED, ConfigError, GenmodelsError, StorageError

Check = Callable[[list[str]], None]


def fail(error: GenmodelsError, cause: BaseException | None = None) -> None:
    """Prints the error as one line and ends the process with its exit code.

    Under --v=1 the traceback comes first, that of `cause` where it is given.
    """
    if logging.get_verbosity() > logging.INFO:
        traceback.print_exception(cause or error)
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    if orbax_noise.threads_left():
        sys.stdout.flush()
        os._exit(error.exit_code)
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # letters that a terminal cannot show must not end a command
            stream.reconfigure(errors="backslashreplace")
    sinks.protect()
    xla.configure()
    logging.set_verbosity(logging.ERROR)
    # Where jax cannot keep a compiled program, on a full disk for example, only time is lost.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache", UserWarning)

    def call(argv):
        try:
            sys.exit(main() or 0)
        except GenmodelsError as error:
            fail(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        except OSError as error:
            long = error.errno == errno.ENAMETOOLONG
            text = f"{error.filename}: {error.strerror}; give a shorter name" if long else str(error)
            fail(StorageError(text), error)
        except (MemoryError, RuntimeError) as error:
            from genmodels.core import failures  # here, because it imports jax, which slows every command's start

            known = failures.explain(error, "the computation", "config.train.batch_size or config.eval.batch_size")
            if known is None:
                raise
            fail(known, error)

    app.run(call, flags_parser=functools.partial(_parse, check=check))
