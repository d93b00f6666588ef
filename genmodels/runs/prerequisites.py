"""The trained runs that a new run builds on: the source of its initial parameters, and frozen networks (a teacher).

A config names each by a work directory, or by an experiment, FILE.py[:VARIANT], which is then trained first, in
prerequisites/ of the new work directory. config.json records the identity of each. Initial parameters are copied, so a
resume does not need the run that they came from; frozen networks are read at every start and must not have changed.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genmodels.core import parameters
from genmodels.core.parallel import Parallel
from genmodels.core.state import TrainState
from genmodels.data.classes import listed
from genmodels.errors import ConfigError, StorageError
from genmodels.runs import experiment
from genmodels.runs import workdir as workdir_lib
from genmodels.runs.inference import Run, check_identity
from genmodels.tasks import DataSpec, FrozenNetwork, Pretrained, Task, make_task

INIT_FROM = "init_from"


def _check_same_task(where: str, theirs: str, ours: str) -> None:
    if theirs != ours:
        raise ConfigError(f"{where}: is a run of config.task={theirs}, this one is of {ours}")


def check_predict_function(wanted: Pretrained, name: str, task: Task) -> None:
    """Raises ConfigError unless the task that configs call `name` has the predict function that is wanted."""
    if wanted.predict not in task.predict:
        where = f"{wanted.key}={wanted.workdir}"
        raise ConfigError(f"{where}: a run of config.task={name} has no predict function {wanted.predict!r}")


def check_pretrained(wanted: Pretrained, run: "Run", data: DataSpec) -> None:
    """Checks that a trained run can be the network that a task wants.

    Raises:
      ConfigError: the run lacks the predict function, or its data differs from `data` in a field that must be alike, or
        in the names of classes, where both have names.
    """
    where = f"{wanted.key}={wanted.workdir}"
    check_predict_function(wanted, run.config.task, run.predictor.task)
    for field in wanted.alike:
        theirs, ours = getattr(run.data, field), getattr(data, field)
        if theirs != ours:
            raise ConfigError(f"{where}: its {field} is {theirs}, that of config.data.source is {ours}; choose another")
    theirs, ours = run.data.class_names, data.class_names
    if "num_classes" in wanted.alike and theirs and ours and theirs != ours:
        raise ConfigError(
            f"{where}: its classes are {listed(theirs)}, those of config.data.source {listed(ours)}; choose another"
        )


def initial_parameters(config: ConfigDict, task: Task, run: Run, shapes: Any) -> dict[str, np.ndarray]:
    """The parameters that a new run takes over from another run, by name; prints those that change or are left out.

    Args:
      run: the run that `config.init_from` names.
      shapes: of the new run's parameters.
    Returns:
      {"network/module/leaf": array}, without those that `config.init_fresh` names and without heads of another shape;
      these keep the values that `Task.init` gives them.
    Raises:
      ConfigError: the run is of another task; or one of the two has a parameter that the other lacks, or has in a shape
        that the task cannot adapt, and that `config.init_fresh` does not name.
    """
    where = f"config.init_from={config.init_from}"
    _check_same_task(where, run.config.task, config.task)
    ours, theirs = parameters.named(shapes), parameters.named(run.variables["params"])
    parameters.check_matches("config.init_fresh", config.init_fresh, ours.keys() | theirs.keys())
    taken, fresh, resized = {}, [], []
    for name, leaf in ours.items():
        if parameters.matches(config.init_fresh, name):
            fresh.append(name)
            continue
        if name not in theirs:
            raise ConfigError(f"{where}: has no {name}; to initialise it afresh, name it in config.init_fresh")
        array = np.asarray(jax.device_get(theirs[name]))
        if array.shape != leaf.shape and parameters.matches(task.heads, name):
            fresh.append(name)
            continue
        if array.shape != leaf.shape:
            array = _resized(task, where, name, array, leaf.shape)
            resized.append(name)
        taken[name] = array.astype(leaf.dtype)
    for name in sorted(theirs.keys() - ours.keys()):
        if not parameters.matches(config.init_fresh, name):
            raise ConfigError(f"{where}: this network has no {name}; to leave it out, name it in config.init_fresh")
    for what, names in (("initialised afresh", fresh), ("resized", resized)):
        if names:
            print(f"{where}: {what}: {', '.join(names)}")
    return taken


def _resized(task: Task, where: str, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter of the other run brought to the shape of this run's, where the task can do that."""
    adapted = task.adapt(name.rpartition("/")[2], array, shape)
    if adapted is None:
        raise ConfigError(
            f"{where}: {name} is {array.shape} there and {shape} here; change config.model, or name it in "
            f"config.init_fresh to initialise it afresh"
        )
    return np.asarray(adapted)


def initialize(state: TrainState, params: dict[str, np.ndarray], extra: dict[str, Any]) -> TrainState:
    """The state of step 0 with another run's parameters, in the averages too. Optimizers start without any memory.

    Args:
      params: the parameters to replace, by name.
      extra: the other run's `TrainState.extra` by name, e.g. batch statistics and codebooks; an array replaces the one
        of the same name and shape.
    """

    def replace(tree, arrays):
        leaves = [
            jax.device_put(np.array(arrays[name]), leaf.sharding) if name in arrays else leaf  # copied: all are donated
            for name, leaf in parameters.named(tree).items()
        ]
        return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(tree), leaves)

    shapes = {name: leaf.shape for name, leaf in parameters.named(state.extra).items()}
    fitting = {name: array for name, array in extra.items() if array.shape == shapes.get(name)}
    return state.replace(
        params=replace(state.params, params),
        ema_params=replace(state.ema_params, params),
        extra=replace(state.extra, fitting),
    )


@dataclasses.dataclass(eq=False)
class Prerequisites:
    """The runs that a config names, and what of them is loaded.

    Attributes:
      param_shapes: shapes of the new run's parameters.
      requested: {name: (config key, its value)}: "init_from", and the networks that the task needs.
      allow_code: whether they may name any task outside this package.
      runs: those that are loaded, by the same names.
      initial_params, initial_extra: parameters and `TrainState.extra` to begin with, once "init_from" is loaded.
    """

    config: ConfigDict
    task: Task
    data: DataSpec
    param_shapes: Any
    requested: dict[str, tuple[str, str]]
    allow_code: bool = False
    runs: dict[str, Run] = dataclasses.field(default_factory=dict)
    initial_params: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    initial_extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def find(
        cls,
        config: ConfigDict,
        task: Task,
        data: DataSpec,
        param_shapes: Any,
        *,
        fresh: bool,
        allow_code: bool = False,
    ) -> "Prerequisites":
        """Loads and checks those that exist; checks the experiments that are still to be trained; writes nothing.

        Args:
          fresh: whether the run begins at step 0 and so needs the parameters of `config.init_from`.
        Raises:
          ConfigError, StorageError: one of them is missing, does not fit, or is code that is not allowed.
        """
        requested = {INIT_FROM: ("config.init_from", config.init_from)} if config.init_from and fresh else {}
        requested |= {name: (wanted.key, wanted.workdir) for name, wanted in task.pretrained.items()}
        self = cls(config, task, data, param_shapes, requested, allow_code)
        for name, (key, value) in requested.items():
            if experiment.is_experiment(value):
                self._check_experiment(name, key, value)
            else:
                self._load(name, workdir_lib.resolve(value, pathlib.Path()))
        return self

    def _check_experiment(self, name: str, key: str, value: str) -> None:
        """Raises ConfigError, before an experiment is trained, unless its task is what is needed."""
        planned = experiment.load(key, value)
        if name == INIT_FROM:
            _check_same_task(f"{key}={value}", planned.task, self.config.task)
            return
        try:
            task = make_task(planned, self.data, 1)
        except ConfigError as error:
            raise ConfigError(f"{key}={value}: {error}") from error
        check_predict_function(self.task.pretrained[name], planned.task, task)

    def _allowed_code(self, key: str, value: str) -> bool | set[str]:
        """Which tasks outside this package a loaded run may import: any if allowed, else those of the experiments."""
        if self.allow_code:
            return True
        return {self.config.task} | ({experiment.load(key, value).task} if experiment.is_experiment(value) else set())

    def _load(self, name: str, workdir: pathlib.Path) -> None:
        key, value = self.requested[name]
        try:
            run = Run.load(workdir, parallel=Parallel(), allow_code=self._allowed_code(key, value))
        except (ConfigError, StorageError) as error:
            raise type(error)(f"{key}={value}: {error}") from error
        if name == INIT_FROM:
            self.initial_params = initial_parameters(self.config, self.task, run, self.param_shapes)
            self.initial_extra = parameters.named(run.variables["extra"])
        else:
            check_pretrained(self.task.pretrained[name], run, self.data)
        self.runs[name] = run

    def train_missing(self, workdir: pathlib.Path, train: Callable[[ConfigDict, pathlib.Path], int]) -> int:
        """Trains the experiments among them one after another and loads them.

        Args:
          workdir: of the new run; the experiments are trained inside it.
          train: (config, work directory) to an exit code.
        Returns:
          The first exit code that is not 0, which leaves the rest untrained; else 0.
        Raises:
          ConfigError: an experiment needs itself.
        """
        for name, (key, value) in self.requested.items():
            if name not in self.runs:
                place = workdir_lib.resolve(value, workdir)
                if place.name in workdir_lib.enclosing_prerequisites(workdir):
                    raise ConfigError(f"{key}={value}: needs itself; name another experiment, or a trained run")
                print(f"{key}={value}: in {place}", flush=True)
                if code := train(experiment.load(key, value), place):
                    return code
                self._load(name, place)
        return 0

    def identities(self, recorded: dict[str, Any]) -> dict[str, Any]:
        """The identities to record: those of the loaded runs, and those recorded before for runs that are not loaded.

        Raises:
          StorageError: a frozen network is not the one that was recorded.
        """
        must_equal = {name: recorded.get(name) for name in self.task.pretrained}
        return recorded | {
            name: check_identity(self.requested[name][0], run, must_equal.get(name)) for name, run in self.runs.items()
        }

    def networks(self, parallel: Parallel) -> dict[str, FrozenNetwork]:
        """The networks that the task needs in `frozen`, placed on the devices."""
        networks = {name: run.as_network() for name, run in self.runs.items() if name != INIT_FROM}
        return {
            name: network.replace(variables=parallel.place(network.variables)) for name, network in networks.items()
        }
