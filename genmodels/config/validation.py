"""Checks of a config before anything is built, and the length of a run."""

import math
import operator
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from genmodels.config.defaults import common_settings, sections
from genmodels.config.effects import check_effects
from genmodels.config.sections import COMMON
from genmodels.config.settings import check_section, fits
from genmodels.config.stored import ORIGINS, flatten
from genmodels.errors import ConfigError, choose

DURATIONS = ("steps", "epochs", "examples")
MAX_STEPS = 2**31 - 1  # the state counts steps in 32 bits
MAX_PATTERN = 1000  # letters of a regular expression


def total_steps(config: ConfigDict, num_examples: int) -> int:
    """The length of the run in steps, from whichever of steps, epochs and examples is set.

    Raises:
      ConfigError: none or several of them are set, one is negative, or the run is longer than MAX_STEPS.
    """
    train = config.train
    chosen = [name for name in DURATIONS if train[name]]
    if len(chosen) != 1 or not 0 < train[chosen[0]] < math.inf:
        given = ", ".join(f"{name}={train[name]}" for name in DURATIONS)
        raise ConfigError(f"exactly one of config.train.steps, .epochs and .examples must be positive; got {given}")
    examples = {"steps": train.steps * train.batch_size, "epochs": train.epochs * num_examples}
    wanted = examples.get(chosen[0], train.examples)
    if wanted > MAX_STEPS * train.batch_size:
        raise ConfigError(f"config.train.{chosen[0]}={train[chosen[0]]} is a run of more than {MAX_STEPS:,} steps")
    return max(1, round(wanted / train.batch_size))


# Highest values of keys that must be at least 1.
POSITIVE = {
    "train.batch_size": 2**20,
    "train.accumulate": 2**20,
    "train.max_bad_steps": MAX_STEPS,
    "checkpoint.keep": MAX_STEPS,
    "eval.batch_size": 2**14,
    "eval.num_samples": 10**8,
    "eval.subsets": 10**6,
    "eval.subset_size": 10**8,
    "eval.neighbours": 10**6,
    "eval.splits": 10**6,
}
NOT_NEGATIVE = (
    "data.workers",
    "eval.likelihood_images",
    "log.every",
    "log.samples_every",
    "checkpoint.every",
    "optim.warmup",
)
FRACTIONS = ("optim.b1", "optim.b2", "optim.momentum", "ema.decay")

# Lowest and highest values. Within them a gradient whose norm is finite in float32 gives finite parameters: no element
# is above 1.8e19, and Adam divides them by eps or more.
LIMITS = {"optim.learning_rate": (0, 100), "optim.weight_decay": (0, 10), "optim.eps": (1e-15, 1e3)}
CLIP_LIMITS = (1e-30, 1e30)  # where it is not 0

PATTERNS = ("init_fresh", "frozen", "optim.no_decay")


def _with_networks(flat: Mapping[str, Any], keys: tuple[str, ...]) -> list[tuple[str, Any]]:
    """The values of these keys, and those set for one network in their place: optim.NETWORK.learning_rate."""
    alike = {key: f"optim.{key.split('.')[2]}" for key in flat if key.startswith("optim.") and key.count(".") == 2}
    found = [(key, flat[key]) for key in keys] + [(key, flat[key]) for key, shared in alike.items() if shared in keys]
    return [(key, value) for key, value in found if value is not None]


def _check_keys(config: ConfigDict, own: Mapping[str, Any] | None) -> None:
    """Raises ConfigError for a section or key that the config cannot have, or a common value of another type.

    Args:
      own: the sections of the task, see `sections`; None where they may be any.
    """
    hints: dict[str, dict[str, Any]] = {section: {} for section in COMMON}
    for key, setting in common_settings().items():
        section, _, name = key.rpartition(".")
        hints[section][name] = setting.hint
    parts = {section: operator.attrgetter(section)(config) if section else config for section in COMMON}
    for name, part in config.optim.items():
        if isinstance(part, ConfigDict):
            parts[f"optim.{name}"] = part
            hints[f"optim.{name}"] = {key: hint | None for key, hint in hints["optim"].items()}
    for section, part in parts.items():
        values = {key: value for key, value in part.items() if not isinstance(value, ConfigDict)}
        check_section(section, values, hints[section])
    if own is not None:
        known = {section.partition(".")[0] for section in [*COMMON, *own, ORIGINS]} - {""}
        for name in (name for name, part in config.items() if isinstance(part, ConfigDict)):
            choose("section config." + name, name, known)


def check_patterns(name: str, patterns: Any) -> None:
    """Raises ConfigError unless `patterns` is a tuple of regular expressions."""
    if not fits(patterns, tuple[str, ...]):
        raise ConfigError(f"{name}={patterns!r}: must be a tuple of regular expressions")
    for pattern in patterns:
        if len(pattern) > MAX_PATTERN:
            raise ConfigError(f"{name}: a regular expression has {len(pattern):,} letters; the most is {MAX_PATTERN:,}")
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ConfigError(f"{name}: {pattern!r} is not a regular expression: {error}") from error


def check_seed(name: str, seed: int) -> None:
    """Raises ConfigError unless `seed` is an unsigned 32-bit number, which random generators take."""
    if not 0 <= seed < 2**32:
        raise ConfigError(f"{name}={seed}: must be within [0, {2**32})")


def check_values(config: ConfigDict, own: Mapping[str, Any] | None) -> None:
    """Checks what a config must have whatever is done with it: its keys, and the types and ranges of their values.

    Args:
      own: the sections of the task, see `sections`; None where they may be any.
    Raises:
      ConfigError: names the key and what it may be.
    """
    _check_keys(config, own)
    choose("config.parallel", config.parallel, ("pmap", "sharded"))
    if config.shard_parameters and config.parallel != "sharded":
        raise ConfigError("config.shard_parameters needs config.parallel=sharded")
    flat = flatten(config)
    for key, highest in POSITIVE.items():
        if not 1 <= flat[key] <= highest:
            limit = "at least 1" if flat[key] < 1 else f"at most {highest:,}"
            raise ConfigError(f"config.{key} must be {limit}, got {flat[key]}")
    for key, value in _with_networks(flat, NOT_NEGATIVE):
        if not 0 <= value < math.inf:
            raise ConfigError(f"config.{key} must be finite and not negative, got {value}")
    choose("config.eval.split", config.eval.split, ("train", "test"))
    for key, value in _with_networks(flat, PATTERNS):
        check_patterns(f"config.{key}", value)
    for key in ("seed", "eval.seed"):
        check_seed(f"config.{key}", flat[key])
    for promise in config.expect:
        if not isinstance(promise, Mapping | ConfigDict) or not {"metric", "value", "tolerance"} <= set(promise):
            raise ConfigError(
                f"config.expect: {promise!r} must have metric, value and tolerance (and may have protocol)"
            )
        if not isinstance(promise["metric"], str):
            raise ConfigError(f"config.expect: {promise['metric']!r} must be the name of a metric")
        if not all(fits(promise[key], float) and abs(promise[key]) < math.inf for key in ("value", "tolerance")):
            raise ConfigError(f"config.expect: value and tolerance of {promise['metric']} must be finite numbers")
        if not fits(promise.get("data", ""), str):
            raise ConfigError(f"config.expect: data of {promise['metric']} must be the name of a data source")
        if promise["tolerance"] < 0 or not isinstance(promise.get("protocol", {}), Mapping | ConfigDict):
            raise ConfigError(
                f"config.expect: the tolerance of {promise['metric']} must not be negative, its protocol a dictionary"
            )


def validate(config: ConfigDict, num_devices: int) -> None:
    """Checks the values that can be wrong in training before anything is built.

    Raises:
      ConfigError: names the key and what it may be.
    """
    check_values(config, sections(config))
    batch, accumulate = config.train.batch_size, config.train.accumulate
    flat = flatten(config)
    for key, value in _with_networks(flat, tuple(LIMITS)):
        lowest, highest = LIMITS[f"optim.{key.rpartition('.')[2]}"]
        if not lowest <= value <= highest:
            raise ConfigError(f"config.{key} must be from {lowest:g} to {highest:g}, got {value}")
    for key, value in _with_networks(flat, ("optim.clip_norm",)):
        lowest, highest = CLIP_LIMITS
        if value and not lowest <= value <= highest:
            raise ConfigError(f"config.{key} must be 0 or from {lowest:g} to {highest:g}, got {value}")
    for key, value in _with_networks(flat, FRACTIONS):
        if not (value >= 0 and np.float32(value) < 1):
            raise ConfigError(f"config.{key} must be within [0, 1), got {value}")
    if not 0 <= config.ema.horizon <= 1:
        raise ConfigError(f"config.ema.horizon must be within [0, 1], got {config.ema.horizon}")
    check_effects(config)
    if batch % (num_devices * accumulate):
        raise ConfigError(
            f"config.train.batch_size={batch} does not divide into {num_devices} devices x "
            f"config.train.accumulate={accumulate}"
        )
