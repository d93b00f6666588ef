"""Configuration: the defaults every experiment starts from, variants, durations, validation, JSON.

An experiment file calls `defaults()`, sets what it wants, and adds the sections of its task (`model`, `diffusion`).
Those two are checked by the task that reads them; everything here is checked by `validate`.
"""

import dataclasses
import json
import math
import re
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from genmodels.errors import ConfigError, choose

DURATIONS = ("steps", "epochs", "examples")

ORIGINS = "origins"  # a section that config.json has besides: the identity of every run that this one came from

# Sections and keys that may differ when a work directory is resumed: how long the run lasts, on what, and what it
# writes. A new length moves a decaying learning rate and the EMA's horizon; the loop says so. The data and the teacher
# may have moved: they are known by their contents.
RESUMABLE = (
    "train.steps",
    "train.epochs",
    "train.examples",
    "parallel",
    "shard_parameters",
    "data.source",
    "data.memory_gb",
    "data.workers",
)
MOVABLE = "distill.teacher"  # may have another place, but not come or go
RESUMABLE_SECTIONS = ("log", "checkpoint", "eval", "likelihood", "expect", ORIGINS)


def defaults() -> ConfigDict:
    """The settings that every experiment has, with the values most of them keep."""
    return ConfigDict(
        {
            "task": "diffusion",
            "seed": 0,
            "parallel": "pmap",  # or "sharded"
            "shard_parameters": False,  # split parameters over the devices; needs parallel="sharded"
            "init_from": "",  # work directory, or FILE.py[:VARIANT], whose parameters the run begins with
            "init_fresh": (),  # regular expressions: parameters that begin anew all the same
            "frozen": (),  # regular expressions: parameters, "network/module/leaf", that training leaves as they are
            "data": {
                "source": "digits",  # see genmodels/data/sources.py and the README
                "size": 0,  # height and width of every image; 0 leaves them
                "crop": "",  # how oblong images become square: center (middle square), none (squash)
                "filter": "lanczos",  # of resizing: box, bilinear, bicubic, lanczos
                "convert": "",  # grey, rgb, rgba; must be asked for
                "skip_damaged": False,  # leave out files that cannot be decoded
                "memory_gb": 2.0,  # larger sets are decoded as they are needed
                "workers": 2,  # processes that decode them
                "augment": {
                    "flip": False,  # left and right
                    "flip_vertical": False,
                    "pad_crop": 0,  # pixels
                    "brightness": 0.0,  # colour: largest change, 0 to 1
                    "contrast": 0.0,
                    "saturation": 0.0,
                    "hue": 0.0,
                    "cutout": 0,  # pixels
                },
            },
            "train": {
                "batch_size": 64,  # over all devices
                "steps": 0,  # exactly one of steps, epochs, examples
                "epochs": 0.0,
                "examples": 0,
                "accumulate": 1,  # micro-batches a step
                "max_bad_steps": 5,  # consecutive non-finite updates before giving up
            },
            "optim": {
                "name": "adam",  # adam, adamw, lion, sgd
                "learning_rate": 1e-3,
                "warmup": 0,  # steps
                "decay": "constant",  # constant, linear, cosine: to zero at the last step
                "clip_norm": 1.0,  # of the global gradient; 0 is off
                "b1": 0.9,
                "b2": 0.999,
                "eps": 1e-8,
                "weight_decay": 0.0,  # adamw and lion
                "no_decay": (),  # regular expressions: weights that do not decay
                "momentum": 0.9,  # sgd
            },
            "ema": {
                "decay": 0.0,  # 0.9999; 0 is off unless horizon is set
                "horizon": 0.0,  # averaging time as a share of the run, which then sets the decay: 0.1
                "warmup": True,  # decay at step t is at most (1 + t) / (10 + t)
            },
            "log": {"every": 50, "samples_every": 1000, "tensorboard": False},
            "checkpoint": {"every": 1000, "keep": 2, "best": "loss"},  # `best`: the logged metric to minimise; "": none
            "eval": {
                "metrics": (),
                "num_samples": 1000,
                "batch_size": 250,
                "seed": 0,
                "split": "test",
                "timesteps": (),  # of the one-step reconstructions
                "likelihoods": (),  # that `nll` measures, e.g. ("vlb", "ode"); () is all that the model has
                "likelihood_images": 0,  # how many images they see; 0 is the whole split
                "extractor": "",  # of metrics that leave it open: fd instead of fd_digits
                "resize": "none",  # to its size: none, tf1, clean
                "layer": "",  # of the FID Inception; pool3 unless named
                "subsets": 100,  # of the kernel distance
                "subset_size": 1000,
                "neighbours": 3,  # of precision, recall, density and coverage
                "splits": 10,  # of the classifier score
                "lpips_trunk": "",  # weights files of LPIPS
                "lpips_linear": "",
            },
            "expect": (),  # ({"metric":, "value":, "tolerance":, "protocol": {}}, ...)
        }
    )


def check_variant(variant: str, *known: str) -> None:
    """Raises ConfigError unless `variant` is "" or one of `known`."""
    if variant:
        choose("variant", variant, known)


SCALARS = (int, float, bool, str)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type; types other than scalars and tuples of them are left to their owner."""
    if hint in SCALARS:
        if isinstance(value, bool) or hint is bool:
            return hint is bool and isinstance(value, bool)
        return isinstance(value, (int, float) if hint is float else hint)
    if typing.get_origin(hint) is tuple:
        return isinstance(value, (tuple, list)) and all(fits(item, typing.get_args(hint)[0]) for item in value)
    return True


def build(cls: type, section: Mapping[str, Any] | ConfigDict, where: str, **fixed: Any) -> Any:
    """Instantiates the dataclass `cls` from a config section.

    Raises:
      ConfigError: a key that `cls` does not have (with a suggestion), or values that it refuses.
    """
    fields = {f.name for f in dataclasses.fields(cls) if f.init} - {"parent", "name"} - fixed.keys()
    for key in section:
        choose(f"key config.{where}.{key}", key, fields)
    types = {f.name: f.type for f in dataclasses.fields(cls)}
    for key, value in section.items():
        if not fits(value, types[key]):
            wanted = getattr(types[key], "__name__", types[key]) if types[key] in SCALARS else types[key]
            raise ConfigError(f"config.{where}.{key}={value!r}: must be {wanted}")
    try:
        return cls(**section, **fixed)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.{where}: {error}") from error


def defaults_of(**sections: type) -> dict[str, Any]:
    """{"section.key": value} of every scalar or tuple that the sections' dataclasses have by default."""
    return {
        f"{section}.{field.name}": field.default
        for section, cls in sections.items()
        for field in dataclasses.fields(cls)
        if isinstance(field.default, (*SCALARS, tuple))
    }


def total_steps(config: ConfigDict, num_examples: int) -> int:
    """The length of the run in steps, from whichever of steps, epochs and examples is set.

    Raises:
      ConfigError: none or several of them are set, or one is negative.
    """
    train = config.train
    chosen = [name for name in DURATIONS if train[name]]
    if len(chosen) != 1 or not 0 < train[chosen[0]] < math.inf:
        given = ", ".join(f"{name}={train[name]}" for name in DURATIONS)
        raise ConfigError(f"exactly one of config.train.steps, .epochs and .examples must be positive; got {given}")
    examples = {"steps": train.steps * train.batch_size, "epochs": train.epochs * num_examples}
    return max(1, round(examples.get(chosen[0], train.examples) / train.batch_size))


POSITIVE = (
    "train.batch_size",
    "train.accumulate",
    "train.max_bad_steps",
    "checkpoint.keep",
    "eval.batch_size",
    "eval.num_samples",
    "eval.subsets",
    "eval.neighbours",
    "eval.splits",
)
NOT_NEGATIVE = (
    "data.workers",
    "eval.likelihood_images",
    "log.every",
    "log.samples_every",
    "checkpoint.every",
    "optim.warmup",
    "optim.learning_rate",
    "optim.clip_norm",
    "optim.weight_decay",
    "optim.eps",
)
FRACTIONS = ("optim.b1", "optim.b2", "optim.momentum", "ema.decay")


def _with_networks(flat: Mapping[str, Any], keys: tuple[str, ...]) -> list[tuple[str, Any]]:
    """The settings of these keys, and those that replace them for one network: optim.NETWORK.learning_rate."""
    alike = {key: f"optim.{key.split('.')[2]}" for key in flat if key.startswith("optim.") and key.count(".") == 2}
    return [(key, flat[key]) for key in keys] + [(key, flat[key]) for key, shared in alike.items() if shared in keys]


PATTERNS = ("init_fresh", "frozen", "optim.no_decay")


def _check_sections(optim: ConfigDict) -> None:
    """Raises ConfigError for a value of optim.NETWORK.KEY that is not of the type of optim.KEY."""
    for network, section in optim.items():
        for key, value in section.items() if isinstance(section, ConfigDict) else ():
            shared = optim.get(key)
            if isinstance(shared, SCALARS) and not fits(value, type(shared)):
                raise ConfigError(f"config.optim.{network}.{key}={value!r}: must be {type(shared).__name__}")


def check_patterns(name: str, patterns: Any) -> None:
    """Raises ConfigError unless `patterns` is a tuple of regular expressions."""
    if not fits(patterns, tuple[str, ...]):
        raise ConfigError(f"{name}={patterns!r}: must be a tuple of regular expressions")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"{name}: {pattern!r} is not a regular expression: {error}") from error


def check_seed(name: str, seed: int) -> None:
    """Raises ConfigError unless `seed` is an unsigned 32-bit number, which random generators take."""
    if not 0 <= seed < 2**32:
        raise ConfigError(f"{name}={seed}: must be within [0, {2**32})")


def validate(config: ConfigDict, num_devices: int) -> None:
    """Checks the values that can be wrong before anything is built.

    Raises:
      ConfigError: names the key and what it may be.
    """
    choose("config.parallel", config.parallel, ("pmap", "sharded"))
    if config.shard_parameters and config.parallel != "sharded":
        raise ConfigError("config.shard_parameters needs config.parallel=sharded")
    batch, accumulate = config.train.batch_size, config.train.accumulate
    flat = flatten(config)
    _check_sections(config.optim)
    for key in POSITIVE:
        if flat[key] < 1:
            raise ConfigError(f"config.{key} must be at least 1, got {flat[key]}")
    for key, value in _with_networks(flat, NOT_NEGATIVE):
        if not 0 <= value < math.inf:
            raise ConfigError(f"config.{key} must be finite and not negative, got {value}")
    for key, value in _with_networks(flat, FRACTIONS):
        if not 0 <= value < 1:
            raise ConfigError(f"config.{key} must be within [0, 1), got {value}")
    if not 0 <= config.ema.horizon <= 1:
        raise ConfigError(f"config.ema.horizon must be within [0, 1], got {config.ema.horizon}")
    choose("config.eval.split", config.eval.split, ("train", "test"))
    if not fits(config.eval.timesteps, tuple[int, ...]):
        raise ConfigError(f"config.eval.timesteps={config.eval.timesteps!r}: must be a tuple of integers")
    if not fits(config.eval.likelihoods, tuple[str, ...]):
        raise ConfigError(f"config.eval.likelihoods={config.eval.likelihoods!r}: must be a tuple of names")
    for key, value in _with_networks(flat, PATTERNS):
        check_patterns(f"config.{key}", value)
    if config.init_fresh and not config.init_from:
        raise ConfigError("config.init_fresh needs config.init_from")
    for key in ("seed", "eval.seed"):
        check_seed(f"config.{key}", flat[key])
    for promise in config.expect:
        if not isinstance(promise, Mapping | ConfigDict) or not {"metric", "value", "tolerance"} <= set(promise):
            raise ConfigError(
                f"config.expect: {promise!r} must have metric, value and tolerance (and may have protocol)"
            )
        if not all(fits(promise[key], float) and math.isfinite(promise[key]) for key in ("value", "tolerance")):
            raise ConfigError(f"config.expect: value and tolerance of {promise['metric']} must be finite numbers")
    if batch % (num_devices * accumulate):
        raise ConfigError(
            f"config.train.batch_size={batch} does not divide into {num_devices} devices x "
            f"config.train.accumulate={accumulate}"
        )


def to_json(config: ConfigDict) -> str:
    """The resolved config as indented JSON."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True, allow_nan=False)


def from_json(text: str) -> ConfigDict:
    """The config that `to_json` wrote; JSON lists become tuples again."""

    def tuples(value):
        if isinstance(value, dict):
            return {key: tuples(item) for key, item in value.items()}
        return tuple(tuples(item) for item in value) if isinstance(value, list) else value

    return ConfigDict(tuples(json.loads(text)))


def flatten(config: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """{"a.b": value} for every leaf of a config or of plain nested dictionaries."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, (Mapping, ConfigDict)):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def conflicts(old: ConfigDict, new: ConfigDict, absent: Mapping[str, Any] = MappingProxyType({})) -> list[str]:
    """The keys, as "config.a.b was X, is Y", whose change would make a resumed run another experiment.

    Args:
      absent: {"a.b": value} that a config without the key means, so that runs begun before there was one go on.
    """
    before, after = (dict(absent) | flatten(from_json(to_json(config))) for config in (old, new))
    missing = "absent"
    return [
        f"config.{key} was {before.get(key, missing)}, is {after.get(key, missing)}"
        for key in sorted(before.keys() | after.keys(), key=lambda key: (key != "task", key))  # which says most
        if before.get(key, missing) != after.get(key, missing)
        and key not in RESUMABLE
        and not (key == MOVABLE and before.get(key) and after.get(key))
        and key.split(".")[0] not in RESUMABLE_SECTIONS
    ]
