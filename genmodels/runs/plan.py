"""The plan of a training run: everything that follows from its config, checked before anything is written."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genmodels import config as config_lib
from genmodels.core import parameters
from genmodels.core.parallel import Parallel
from genmodels.core.state import TrainState
from genmodels.data import preflight
from genmodels.data.augment import Augment
from genmodels.data.base import LISTING, DataSource
from genmodels.data.sources import from_config
from genmodels.errors import ConfigError
from genmodels.runs.inference import abstract_state
from genmodels.runs.places import absolute_places
from genmodels.tasks import DataSpec, Task, make_task
from genmodels.tasks.checks import check_predict_inputs


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What a config means on this machine.

    Attributes:
      source: the training data.
      data: the facts about it that the task is built from.
      state: shapes and dtypes of the task's state.
      last_step: the step at which the run is finished.
      listing: the rules by which the data is listed, see `data.base.Settings`.
    """

    config: ConfigDict
    parallel: Parallel
    source: DataSource
    data: DataSpec
    augment: Augment
    task: Task
    state: TrainState
    last_step: int
    listing: int

    def describe_data(self) -> dict[str, Any]:
        """The contents of data.json."""
        return {
            "source": self.source.name,
            "split": self.source.split,
            "count": len(self.source),
            "image_shape": list(self.source.image_shape),
            "num_classes": self.source.num_classes,
            "class_names": list(self.source.class_names),
            "fields": list(self.source.fields),
            "fingerprint": self.source.fingerprint,
            "listing": self.listing,
        }

    def stored_config(self) -> ConfigDict:
        """The config as config.json has it: with absolute paths, so that the run can be opened from any folder."""
        keys = [network.key.removeprefix("config.") for network in self.task.pretrained.values()]
        return absolute_places(self.config, keys)

    def absent_keys(self) -> dict[str, Any]:
        """{"section.key": value} that a config means which was written before the key existed."""
        return {key: setting.default for key, setting in config_lib.settings(self.config).items()}

    def summary(self, first_step: int) -> str:
        """One line on what is trained from which step, on what."""
        size = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        devices = self.parallel.devices
        return (
            f"{'resuming at' if first_step else 'from'} step {first_step} to {self.last_step}: {size:,} parameters, "
            f"{len(self.source):,} images {'x'.join(map(str, self.source.image_shape))} from {self.source.name}, "
            f"{len(devices)} {devices[0].platform} device(s), {self.config.parallel}"
        )


def make_plan(config: ConfigDict, listing: int = LISTING) -> Plan:
    """Reads the data, builds the task and checks that they fit; describes the data on the terminal, writes nothing.

    Args:
      listing: the rules by which the data is listed, see `data.base.Settings`.
    Raises:
      ConfigError, DataError: a value of the config is refused by whatever reads it, or the data cannot be read.
    """
    parallel = Parallel(config.parallel, shard_parameters=config.shard_parameters)
    config_lib.validate(config, len(parallel.devices))
    augment = config_lib.build(Augment, config.data.augment, "data.augment")
    source = from_config(config.data, listing=listing)
    print("\n".join(f"data: {line}" for line in preflight.describe(source)))
    _note_idle_resizing(config)
    _check_augment(augment, source.image_shape)
    last_step = config_lib.total_steps(config, len(source))
    height, width, channels = source.image_shape
    data = DataSpec((height, width, channels), source.num_classes, source.fields, source.class_names)
    task = make_task(config, data, last_step)
    check_predict_inputs(config.task, task, data)
    _check_classes(config, task, source)
    _check_batch_size(config, task, len(parallel.devices))
    state = abstract_state(task, data)  # the network refuses what it cannot be built for
    _check_parameter_patterns(config, parameters.named(state.params))
    return Plan(config, parallel, source, data, augment, task, state, last_step, listing)


def _check_classes(config: ConfigDict, task: Task, source: DataSource) -> None:
    """Checks that a model which tells classes apart, or is given them, has images of two classes or more."""
    asks = [name for name, one in task.predict.items() if "label" in one.inputs or one.output == "logits"]
    if not asks or source.labels is None or len(present := np.unique(source.labels)) > 1:
        return
    name = source.class_names[present[0]] if source.class_names else str(present[0])
    switch = next((key for key in config_lib.flatten(config) if key.endswith(".conditional")), "")
    instead = f", or train without labels: --config.{switch}=False" if switch else ""
    raise ConfigError(
        f"config.data.source={config.data.source}: all images are of one class ({name}), which leaves config.task="
        f"{config.task} nothing to learn from labels; give images of two classes or more{instead}"
    )


def _note_idle_resizing(config: ConfigDict) -> None:
    """Prints a note where keys say how images are resized, and none is. The source's own options may name a size."""
    data, known = config.data, config_lib.settings(config)
    idle = [f"config.data.{key}={data[key]}" for key in ("crop", "filter") if data[key] != known[f"data.{key}"].default]
    if idle and not data.size and "size" not in data.source:
        print(f"note: {' and '.join(idle)}: without effect, because config.data.size=0 leaves images as they are")


def _check_augment(augment: Augment, image_shape: tuple[int, ...]) -> None:
    try:
        augment.check(image_shape)
    except ValueError as error:
        raise ConfigError(f"config.data.augment: {error}") from error


def _check_batch_size(config: ConfigDict, task: Task, num_devices: int) -> None:
    if config.train.batch_size % (num_devices * task.row_multiple):
        raise ConfigError(
            f"config.train.batch_size={config.train.batch_size} must be a multiple of {num_devices} devices "
            f"x {task.row_multiple}, the rows that a step of config.task={config.task} takes together on each"
        )


def _check_parameter_patterns(config: ConfigDict, names: Iterable[str]) -> None:
    """Checks the regular expressions of config.frozen and config.optim.no_decay against the names of the parameters."""
    names = list(names)
    parameters.check_matches("config.frozen", config.frozen, names)
    if all(parameters.matching(config.frozen, names)):
        raise ConfigError("config.frozen: its patterns match every parameter and leave nothing to train")
    for pattern in config.optim.no_decay:
        if not any(parameters.matching((pattern,), names)):
            print(f"note: config.optim.no_decay: {pattern!r} matches no parameter")
