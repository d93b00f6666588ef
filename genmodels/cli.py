"""What every command shares: flags parsed with errors of one line, and exit codes that a scheduler can act on."""

import difflib
import logging as standard_logging
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from genmodels import config as config_lib
from genmodels import experiment, xla
from genmodels.errors import EXIT_INTERRUPTED, ConfigError, GenmodelsError, choose


def fail(error: GenmodelsError) -> None:
    """Prints the error as one line and leaves with its exit code."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    sys.exit(error.exit_code)


def _values(argv: Sequence[str], name: str) -> list[str]:
    """The values given as --name=value or --name value."""
    pairs = zip(argv, [*argv[1:], ""], strict=True)
    return [arg.partition("=")[2] or after for arg, after in pairs if arg.lstrip("-").partition("=")[0] == name]


def check_experiment(argv: Sequence[str]) -> None:
    """Checks the experiment file and the keys of its overrides before absl sees them, for the sake of clear words.

    Raises:
      ConfigError: the file is missing, does not run or has no get_config; or an override names an unknown key.
    """
    for value in _values(argv, "config"):
        config = experiment.load("--config", value)
        flat = config_lib.flatten(config)
        sections = {key.rpartition(".")[0] for key in flat}
        for arg in argv:
            if arg.startswith("--config."):
                key = arg.partition("=")[0].removeprefix("--config.")
                if key in sections:
                    raise ConfigError(
                        f"--config.{key} is a section; set one of its keys, e.g. --config.{key}.{_first(flat, key)}"
                    )
                choose_key(key, flat)


def _first(flat: dict, section: str) -> str:
    return next(key for key in flat if key.startswith(f"{section}.")).removeprefix(f"{section}.")


def choose_key(key: str, flat: dict) -> None:
    """Raises ConfigError, suggesting the nearest key, unless `key` is in the flattened config."""
    if key in flat:
        return
    near = difflib.get_close_matches(key, flat, n=1, cutoff=0.4)
    section = key.rpartition(".")[0]
    siblings = [name.removeprefix(f"{section}.") for name in flat if name.startswith(f"{section}.")]
    if section and siblings:
        try:
            choose("key", key.removeprefix(f"{section}."), siblings)
        except ConfigError as error:
            raise ConfigError(f"--config.{key}: {error}") from None
    hint = f"; did you mean --config.{near[0]}?" if near else f"; there are {', '.join(sorted(flat))}"
    raise ConfigError(f"--config.{key}: unknown key{hint}")


def integers(flag: str, values: Sequence[str] | None) -> list[int] | None:
    """The integers of a list flag; None where it was not given.

    Raises:
      ConfigError: it is empty, or something in it is no integer.
    """
    if values is None:
        return None
    try:
        found = [int(value) for value in values]
    except ValueError:
        raise ConfigError(f"--{flag}={','.join(values)}: must be integers separated by commas") from None
    if not found:
        raise ConfigError(f"--{flag}= is empty: give integers separated by commas")
    return found


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses flags, turning whatever goes wrong in them or in the experiment file into one line."""
    try:
        check_experiment(argv)
        rest = flags.FLAGS(list(argv))
        if rest[1:]:
            raise ConfigError(f"unexpected argument {rest[1]!r}: options are written --name=value")
    except GenmodelsError as error:
        fail(error)
    except (flags.Error, TypeError, ValueError) as error:
        fail(ConfigError(str(error)))
    return rest


def run(main: Callable[[], int | None]) -> None:
    """Runs a command: parse, call `main`, exit with what it returns (None is 0) or with its error's code."""
    xla.configure()
    logging.set_verbosity(logging.ERROR)
    standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)  # Orbax's tasks repeat what we say

    def call(argv):
        try:
            sys.exit(main() or 0)
        except GenmodelsError as error:
            fail(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)

    app.run(call, flags_parser=_parse)
