"""Keys that another key leaves without effect, such as optim.momentum under adam: to set one is a mistake.

The common keys' conditions are here. A task's module may have `EFFECTS`, a tuple of `Effect`, for its own.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from genmodels.config.defaults import carried_over, module_of, settings
from genmodels.config.stored import filled, flatten
from genmodels.errors import ConfigError

Flat = Mapping[str, Any]


class Effect(NamedTuple):
    """A condition under which keys have an effect.

    Attributes:
      keys: the keys "a.b".
      holds: tells from {"a.b": value} of a config whether they have one.
      words: what must be set for it, as a reader writes it.
    """

    keys: tuple[str, ...]
    holds: Callable[[Flat], bool]
    words: str


def when(key: str, *values: Any, keys: Iterable[str]) -> Effect:
    """The effect of `keys` where `key` has one of these values."""
    return Effect(tuple(keys), lambda flat: flat.get(key) in values, f"config.{key}={' or '.join(map(str, values))}")


COMMON_EFFECTS = (
    when("optim.name", "adam", "adamw", "lion", keys=["optim.b1", "optim.b2"]),
    when("optim.name", "adam", "adamw", keys=["optim.eps"]),
    when("optim.name", "adamw", "lion", keys=["optim.weight_decay"]),
    when("optim.name", "sgd", keys=["optim.momentum"]),
    Effect(
        ("optim.no_decay",),
        lambda flat: flat["optim.name"] in ("adamw", "lion") and flat["optim.weight_decay"] > 0,
        "config.optim.weight_decay, with config.optim.name=adamw or lion",
    ),
    Effect(("ema.decay",), lambda flat: not flat["ema.horizon"], "config.ema.horizon=0.0, which else sets the decay"),
    Effect(
        ("ema.warmup",),
        lambda flat: flat["ema.decay"] > 0 or flat["ema.horizon"] > 0,
        "an average: config.ema.horizon or config.ema.decay above 0",
    ),
    Effect(("init_fresh",), lambda flat: bool(flat["init_from"]), "config.init_from"),
)


def _networks(flat: Flat) -> list[str]:
    """The networks that have a section `optim.NETWORK`."""
    return sorted({key.split(".")[1] for key in flat if key.startswith("optim.") and key.count(".") == 2})


def _view(flat: Flat, network: str) -> Flat:
    """The config as one network's optimizer sees it: its own keys in the place of those of `optim`."""
    prefix = f"optim.{network}."
    own = {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}
    return {**flat, **{f"optim.{key}": value for key, value in own.items() if value is not None}}


def _of_shared(flat: Flat, networks: list[str]) -> dict[str, str]:
    """The keys of `optim` that every network replaces by its own."""
    shared = [key for key in flat if key.startswith("optim.") and key.count(".") == 1]
    own = {key: [f"optim.{network}.{key.removeprefix('optim.')}" for network in networks] for key in shared}
    replaced = {key: keys for key, keys in own.items() if keys and all(flat.get(one) is not None for one in keys)}
    return {
        key: f"a network without its own value, but {' and '.join(f'config.{one}' for one in keys)} are set"
        for key, keys in replaced.items()
    }


def without_effect(config: ConfigDict) -> dict[str, str]:
    """{"a.b": what it needs} of the keys whose values change nothing.

    Raises:
      ConfigError: an unknown task, or a switch without such a choice.
    """
    flat = {key: setting.default for key, setting in settings(config).items()} | flatten(config)
    networks = _networks(flat)
    found = _of_shared(flat, networks)
    for effect in (*COMMON_EFFECTS, *getattr(module_of(config.task), "EFFECTS", ())):
        for key in effect.keys:
            views = {f"optim.{network}.{key.removeprefix('optim.')}": _view(flat, network) for network in networks}
            if not key.startswith("optim.") or not networks:
                if not effect.holds(flat):
                    found[key] = effect.words
                continue
            found |= {one: effect.words for one, view in views.items() if not effect.holds(view)}
            if not any(effect.holds(view) for one, view in views.items() if flat.get(one) is None):
                found.setdefault(key, effect.words)
    return found


def _idle_values(config: ConfigDict) -> dict[str, tuple[str, Any]]:
    """{"a.b": (what it needs, its default)} of the keys without effect that differ from their defaults."""
    flat, known = flatten(config), settings(config)
    return {
        key: (needs, known[key].default)
        for key, needs in without_effect(config).items()
        if key in flat and key in known and flat[key] != known[key].default
    }


def check_effects(config: ConfigDict) -> None:
    """Raises ConfigError for a key that differs from its default and has no effect; says what it needs."""
    flat = flatten(config)
    for key, (needs, default) in _idle_values(config).items():
        leave = "do not set it" if default is None else f"leave it at {default!r}"
        raise ConfigError(f"config.{key}={flat[key]!r} has no effect: it needs {needs}; {leave}, or set what it needs")


def without_idle_values(config: ConfigDict) -> ConfigDict:
    """A copy with defaults in the place of values without effect, which runs of an earlier version may have."""
    return ConfigDict(filled(config.to_dict(), {key: default for key, (_, default) in _idle_values(config).items()}))


def switched(config: ConfigDict, changes: Mapping[str, Any]) -> tuple[ConfigDict, dict[str, Any]]:
    """`config` after switches were changed, and what it had set that the new choice has no place or no use for.

    What has a place is carried over as `defaults.carried_over` says. Of this, a value that only the new choice leaves
    without effect has its default.

    Args:
      changes: {key: value} of switches, e.g. {"diffusion.process": "flow"}.
    Returns:
      The new config, and {key: value} of the values that were left out.
    Raises:
      ConfigError: an unknown task, or a switch without such a choice.
    """
    before = without_effect(config)
    result, left_out = carried_over(config, changes)
    flat = flatten(result)
    idle = {key: default for key, (_, default) in _idle_values(result).items() if key not in before}
    result.update_from_flattened_dict(idle)
    return result, left_out | {key: flat[key] for key in idle}
