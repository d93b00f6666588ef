"""Parameters by name, "network/module/leaf", and regular expressions that choose some by matching the whole name."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from genmodels.errors import ConfigError

PyTree = Any


def named(tree: PyTree, prefix: str = "") -> dict[str, Any]:
    """{"a/b/c": leaf} for every leaf; `prefix` goes before each name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    names = ((jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves)
    return {f"{prefix}/{name}" if prefix else name: leaf for name, leaf in names}


def matches(patterns: Sequence[str], name: str) -> bool:
    """Whether one of the regular expressions matches the whole name."""
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def mask(tree: PyTree, patterns: Sequence[str], prefix: str = "") -> PyTree:
    """True where the name of a leaf is matched."""
    found = [matches(patterns, name) for name in named(tree, prefix)]
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(tree), found)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def split(tree: PyTree, patterns: Sequence[str], prefix: str = "") -> tuple[PyTree, PyTree]:
    """(those not matched, those matched): the tree twice, with None, which is no leaf, for what the other one has."""
    chosen = mask(tree, patterns, prefix)
    return tuple(jax.tree.map(lambda c, leaf, w=want: leaf if c == w else None, chosen, tree) for want in (False, True))


def merge(part: PyTree, other: PyTree) -> PyTree:
    """The tree that `split` took apart."""
    return jax.tree.map(lambda a, b: b if a is None else a, part, other, is_leaf=_is_none)


def only(part: PyTree, tree: PyTree) -> PyTree:
    """Those leaves of the whole `tree` that `part`, made by `split`, has."""
    return jax.tree.map(lambda a, leaf: None if a is None else leaf, part, tree, is_leaf=_is_none)


def check_matches(key: str, patterns: Iterable[str], names: Iterable[str]) -> None:
    """Raises ConfigError, suggesting what there is, for a regular expression that matches none of the names."""
    names = list(names)
    for pattern in patterns:
        if any(re.fullmatch(pattern, name) for name in names):
            continue
        modules = sorted({f"{'/'.join(name.split('/')[:depth])}/.*" for name in names for depth in range(1, 5)})
        near = difflib.get_close_matches(pattern, [*names, *modules], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(modules[:8])} ..."
        raise ConfigError(f"{key}: {pattern!r} matches no parameter; {hint}")
