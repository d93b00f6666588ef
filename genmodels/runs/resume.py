"""Resuming a work directory: the check that it may be, with this config and on this data, and what is said then."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from genmodels import config as config_lib
from genmodels.errors import ConfigError
from genmodels.runs.inference import check_code
from genmodels.runs.places import absolute_places, named_code
from genmodels.runs.plan import Plan
from genmodels.runs.workdir import claim, read_config, read_data


def config_to_resume(workdir: pathlib.Path, allow_code: bool) -> ConfigDict:
    """The config that a work directory began with, to resume it without naming the experiment again.

    Raises:
      ConfigError: it holds no run, or its config names code outside this package that is not allowed.
      StorageError: its config.json cannot be read.
    """
    if not os.path.exists(workdir / "config.json"):
        raise ConfigError(f"--workdir={workdir} holds no run to resume; name an experiment with --config=FILE")
    config = read_config(workdir)
    for key, name in named_code(config).items():
        check_code(workdir, f"config.{key}", name, allow_code)
    return config_lib.without_idle_values(config)


MAY_CHANGE = ("source", "class_names")  # the data may have another place now, and a class another name


def check_same_experiment(
    workdir: pathlib.Path, config: ConfigDict, data: dict[str, Any], absent: Mapping[str, Any]
) -> ConfigDict | None:
    """Checks that the directory is new or was begun with this config and data.

    Args:
      config: with absolute paths, see `places.absolute_places`.
      data: the contents that data.json is to have.
      absent: the values of keys that an older config lacks, see `config.conflicts`.
    Returns:
      The config in the directory; None for a new directory.
    Raises:
      ConfigError: the directory belongs to another experiment or to other data; names what differs.
    """
    if not os.path.exists(workdir / "config.json"):
        return None
    old = read_config(workdir)
    idle: set[str] = set()
    if old.task == config.task:
        idle = config_lib.without_effect(old).keys() & config_lib.without_effect(config).keys()
    differing = config_lib.conflicts(absolute_places(old), config, absent, idle)
    if differing:
        more = f" and {len(differing) - 2} more" if len(differing) > 2 else ""
        raise ConfigError(
            f"--workdir={workdir} belongs to another experiment: {'; '.join(differing[:2])}{more}; choose "
            f"another --workdir"
        )
    before = read_data(workdir)
    for key, value in data.items():
        if key not in MAY_CHANGE and before.get(key, value) != value:
            raise ConfigError(
                f"--workdir={workdir}: the data has changed since this run began ({key} was {before.get(key)}, is "
                f"{value}); choose another --workdir"
            )
    return old


def say_finished(plan: Plan, workdir: pathlib.Path, step: int, origins: dict[str, Any]) -> None:
    """Prints that nothing is left to train; replaces the kept config only by one of exactly this length."""
    if step == plan.last_step:
        claim(workdir, plan.stored_config(), plan.describe_data(), origins)
    print(f"{workdir}: already finished at step {step}; raise config.train.steps to go on")


def note_new_length(plan: Plan, old_config: ConfigDict) -> None:
    """Prints what a resumed run's new length changes: it will not equal a run that had that length from the start."""
    old = config_lib.total_steps(old_config, len(plan.source))
    depends_on_length = {
        "the learning rate": plan.config.optim.decay != "constant",
        "the EMA": plan.config.ema.horizon > 0,
    }
    changed = [name for name, depends in depends_on_length.items() if depends]
    if old != plan.last_step and changed:
        print(
            f"note: the run was {old} steps long and is now {plan.last_step}: {' and '.join(changed)} "
            f"follow the new length"
        )
