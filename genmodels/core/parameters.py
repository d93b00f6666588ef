"""Names of parameters, "network/module/leaf", and regular expressions that select parameters by their full names."""

import contextlib
import difflib
import re
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax

from genmodels.errors import ConfigError

PyTree = Any

MATCHING_SECONDS = 5.0  # far more than the names of any network need


def named(tree: PyTree, prefix: str = "") -> dict[str, Any]:
    """A nested tree as a flat dictionary {"a/b/c": leaf}; `prefix`, if given, is prepended to every name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    names = ((jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves)
    return {f"{prefix}/{name}" if prefix else name: leaf for name, leaf in names}


@contextlib.contextmanager
def _limited_time(patterns: Sequence[str]) -> Iterator[None]:
    """Ends matching that takes too long: an expression such as (a*)*b takes time that is exponential in the name.

    Only the main thread of a process can be interrupted; others match without a limit.

    Raises:
      ConfigError: the time is over; names the patterns.
    """
    if not patterns or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        raise ConfigError(
            f"the regular expressions {', '.join(map(repr, patterns))} take more than {MATCHING_SECONDS:g} s to match "
            f"names of parameters; write them without a repetition inside another"
        )

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MATCHING_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def matches(patterns: Sequence[str], name: str) -> bool:
    """Whether one of the regular expressions matches the full name."""
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def matching(patterns: Sequence[str], names: Iterable[str]) -> list[bool]:
    """Whether each name matches one of the patterns.

    Raises:
      ConfigError: matching takes longer than MATCHING_SECONDS.
    """
    with _limited_time(patterns):
        return [matches(patterns, name) for name in names]


def mask(tree: PyTree, patterns: Sequence[str], prefix: str = "") -> PyTree:
    """A tree of booleans, True for every leaf whose name matches a pattern; raises as `matching` does."""
    found = matching(patterns, named(tree, prefix))
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(tree), found)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def split(tree: PyTree, patterns: Sequence[str], prefix: str = "") -> tuple[PyTree, PyTree]:
    """Two copies of the tree: one keeps the leaves that match no pattern, the other the leaves that match one.

    Each copy has None, which jax does not count as a leaf, in place of the leaves that the other copy keeps.
    """
    chosen = mask(tree, patterns, prefix)
    return tuple(jax.tree.map(lambda c, leaf, w=want: leaf if c == w else None, chosen, tree) for want in (False, True))


def merge(part: PyTree, other: PyTree) -> PyTree:
    """The inverse of `split`: the leaves of `part`, and those of `other` where `part` has None."""
    return jax.tree.map(lambda a, b: b if a is None else a, part, other, is_leaf=_is_none)


def only(part: PyTree, tree: PyTree) -> PyTree:
    """The leaves of `tree` at the places where `part` has leaves, and None elsewhere."""
    return jax.tree.map(lambda a, leaf: None if a is None else leaf, part, tree, is_leaf=_is_none)


def check_matches(key: str, patterns: Iterable[str], names: Iterable[str]) -> None:
    """Raises ConfigError, with a suggestion, if a regular expression matches none of the names, or takes too long.

    Args:
      key: the config key that holds the patterns, for the message.
    """
    names = list(names)
    for pattern in patterns:
        if any(matching((pattern,), names)):
            continue
        modules = sorted({f"{'/'.join(name.split('/')[:depth])}/.*" for name in names for depth in range(1, 5)})
        near = difflib.get_close_matches(pattern, [*names, *modules], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"patterns that match are {', '.join(modules[:8])} ..."
        raise ConfigError(f"{key}: {pattern!r} matches no parameter; {hint}")
