"""What the experiment files in a folder say of themselves, as lines for people."""

import pathlib
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from genmodels.config import Variant
from genmodels.errors import ConfigError
from genmodels.runs import experiment

WIDTH = 120


class Entry(NamedTuple):
    """One variant of one experiment.

    Attributes:
      name: FILE.py or FILE.py:VARIANT, as --config takes it.
      variant: what the file says of it.
      source: its data.
      expect: its promises, `config.expect`.
    """

    name: str
    variant: Variant
    source: str
    expect: tuple[Mapping[str, Any], ...]


def entries(path: pathlib.Path) -> tuple[str, list[Entry]]:
    """The first line of an experiment file, and its variants; a file without VARIANTS has itself alone.

    Raises:
      ConfigError: the file does not run.
    """
    module = experiment.run("--folder", str(path))
    title = (module.get("__doc__") or path.stem).strip().splitlines()[0]
    variants = module.get("VARIANTS", {"": Variant("")})
    if not isinstance(variants, Mapping) or not all(isinstance(one, Variant) for one in variants.values()):
        raise ConfigError(f"--folder: {path}: VARIANTS must be a dictionary of genmodels.config.Variant")
    found = []
    for name, variant in variants.items():
        config = experiment.load("--folder", f"{path}:{name}" if name else str(path))
        found.append(Entry(f"{path}:{name}" if name else str(path), variant, config.data.source, config.expect))
    return title, found


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else repr(value)  # training refuses the latter


def expected(promises: Iterable[Any]) -> str:
    """Promises in one line: "fd_digits 11 (tolerance 4), nll 4.6 (tolerance 0.15)"."""
    return ", ".join(
        f"{one['metric']} {_number(one['value'])} (tolerance {_number(one['tolerance'])})" for one in promises
    )


def lines(folder: pathlib.Path) -> Iterator[str]:
    """The catalogue of a folder.

    Raises:
      ConfigError: there are no experiments in it, or one does not run.
    """
    paths = sorted(folder.glob("*.py"))
    if not paths:
        raise ConfigError(f"--folder={folder}: no experiment files; run this in the repository, or name their folder")
    for path in paths:
        title, found = entries(path)
        yield title
        for entry in found:
            facts = [entry.variant.what, f"data {entry.source}"]
            facts.append(f"expects {expected(entry.expect)}" if entry.expect else "expects nothing")
            facts.append(f"time {entry.variant.time or 'not measured'}")
            yield f"  {entry.name}"
            yield from textwrap.wrap(
                "; ".join(filter(None, facts)), WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
        yield ""
