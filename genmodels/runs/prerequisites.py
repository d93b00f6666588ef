"""The trained runs that a new one builds on: where its parameters begin, and frozen networks such as a teacher.

Both are named by a work directory, or by an experiment, FILE.py[:VARIANT], which is then trained first, in
prerequisites/ of the new work directory. config.json keeps the identity of what they were. Parameters are copied, so
that a resume needs their run no more; frozen networks are read at every start, and must be the same.
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
from genmodels.errors import ConfigError, StorageError
from genmodels.runs import experiment
from genmodels.runs import workdir as workdir_lib
from genmodels.runs.inference import Run, check_predicts, check_pretrained, same_network
from genmodels.tasks import DataSpec, FrozenNetwork, Task, make_task

INIT = "init_from"


def _fitted(task: Task, where: str, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter brought to another shape, where the task knows how."""
    adapted = task.adapt(name.rpartition("/")[2], array, shape)
    if adapted is None:
        raise ConfigError(
            f"{where}: {name} is {array.shape} there and {shape} here; change config.model, or name it in "
            f"config.init_fresh to begin it anew"
        )
    return np.asarray(adapted)


def _check_task(where: str, theirs: str, ours: str) -> None:
    if theirs != ours:
        raise ConfigError(f"{where}: is a run of config.task={theirs}, this one is of {ours}")


def initial_parameters(config: ConfigDict, task: Task, run: Run, wanted: Any) -> dict[str, np.ndarray]:
    """What a run's parameters give for those `wanted`, by name; what is not in there begins anew, and that is printed.

    Raises:
      ConfigError: another task, or an array that does not fit and that nothing says how to treat.
    """
    where = f"config.init_from={config.init_from}"
    _check_task(where, run.config.task, config.task)
    ours, theirs = parameters.named(wanted), parameters.named(run.variables["params"])
    parameters.check_matches("config.init_fresh", config.init_fresh, ours.keys() | theirs.keys())
    found, fresh, resized = {}, [], []
    for name, leaf in ours.items():
        if parameters.matches(config.init_fresh, name):
            fresh.append(name)
            continue
        if name not in theirs:
            raise ConfigError(f"{where}: has no {name}; to begin it anew, name it in config.init_fresh")
        array = np.asarray(jax.device_get(theirs[name]))
        if array.shape != leaf.shape and parameters.matches(task.heads, name):
            fresh.append(name)
            continue
        if array.shape != leaf.shape:
            array = _fitted(task, where, name, array, leaf.shape)
            resized.append(name)
        found[name] = array.astype(leaf.dtype)
    for name in sorted(theirs.keys() - ours.keys()):
        if not parameters.matches(config.init_fresh, name):
            raise ConfigError(f"{where}: this network has no {name}; to leave it behind, name it in config.init_fresh")
    for what, names in (("begins anew", fresh), ("is resized", resized)):
        if names:
            print(f"{where}: {what}: {', '.join(names)}")
    return found


def begin(state: TrainState, found: dict[str, np.ndarray], extra: dict[str, Any]) -> TrainState:
    """The state of step 0 with these parameters; its averages begin there too. Optimizers here begin without memory.

    Args:
      extra: by name, what the other run carried besides: batch statistics, codebooks. Those of the same shape go on.
    """

    def replaced(tree, arrays):
        leaves = [
            jax.device_put(np.array(arrays[name]), leaf.sharding) if name in arrays else leaf  # copied: all are donated
            for name, leaf in parameters.named(tree).items()
        ]
        return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(tree), leaves)

    shapes = {name: leaf.shape for name, leaf in parameters.named(state.extra).items()}
    same = {name: array for name, array in extra.items() if array.shape == shapes.get(name)}
    return state.replace(
        params=replaced(state.params, found),
        ema_params=replaced(state.ema_params, found),
        extra=replaced(state.extra, same),
    )


@dataclasses.dataclass(eq=False)
class Prerequisites:
    """The runs that `config` names, as far as they are loaded.

    Attributes:
      wanted: {name: (config key, value)}: "init_from", and the networks that the task wants.
      found, extra: the parameters to begin with and what goes with them, once "init_from" is loaded.
    """

    config: ConfigDict
    task: Task
    data: DataSpec
    params: Any
    wanted: dict[str, tuple[str, str]]
    runs: dict[str, Run] = dataclasses.field(default_factory=dict)
    found: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def find(cls, config: ConfigDict, task: Task, data: DataSpec, params: Any, *, fresh: bool) -> "Prerequisites":
        """Loads and checks those that exist; writes nothing.

        Args:
          params: shapes of the new run's parameters.
          fresh: whether it begins, and so needs parameters to begin with.
        Raises:
          ConfigError, StorageError: one is missing, or does not fit.
        """
        wanted = {INIT: ("config.init_from", config.init_from)} if config.init_from and fresh else {}
        wanted |= {name: (one.key, one.workdir) for name, one in task.pretrained.items()}
        self = cls(config, task, data, params, wanted)
        for name, (key, value) in wanted.items():
            if experiment.is_experiment(value):
                self._check_plan(name, key, value)
            else:
                self._load(name, pathlib.Path(value))
        return self

    def _check_plan(self, name: str, key: str, value: str) -> None:
        """Refuses an experiment, before it is trained, that does something else than is wanted of it."""
        planned = experiment.load(key, value)
        if name == INIT:
            _check_task(f"{key}={value}", planned.task, self.config.task)
            return
        try:
            task = make_task(planned, self.data, 1)
        except ConfigError as error:
            raise ConfigError(f"{key}={value}: {error}") from error
        check_predicts(self.task.pretrained[name], planned.task, task)

    def _load(self, name: str, workdir: pathlib.Path) -> None:
        key, value = self.wanted[name]
        try:
            run = Run.load(workdir, parallel=Parallel())
        except StorageError as error:
            raise StorageError(f"{key}={value}: {error}") from error
        if name == INIT:
            self.found = initial_parameters(self.config, self.task, run, self.params)
            self.extra = parameters.named(run.variables["extra"])
        else:
            check_pretrained(self.task.pretrained[name], run, self.data)
        self.runs[name] = run

    def train_missing(self, workdir: pathlib.Path, train: Callable[[ConfigDict, pathlib.Path], int]) -> int:
        """Trains the experiments among them, in turn, and loads them; returns what stopped one, else 0.

        Raises:
          ConfigError: an experiment needs itself.
        """
        for name, (key, value) in self.wanted.items():
            if name not in self.runs:
                place = workdir_lib.locate(value, workdir)
                if place.name in workdir_lib.serves(workdir):
                    raise ConfigError(f"{key}={value}: needs itself; name another experiment, or a trained run")
                print(f"{key}={value}: in {place}", flush=True)
                if code := train(experiment.load(key, value), place):
                    return code
                self._load(name, place)
        return 0

    def identities(self, known: dict[str, Any]) -> dict[str, Any]:
        """The identity of each, once frozen networks are seen to be those `known`; of what is not loaded, as known.

        Raises:
          StorageError: a frozen network is another one.
        """
        fixed = {name: known.get(name) for name in self.task.pretrained}
        return known | {
            name: same_network(self.wanted[name][0], run, fixed.get(name)) for name, run in self.runs.items()
        }

    def networks(self, parallel: Parallel) -> dict[str, FrozenNetwork]:
        """What the task wants in `frozen`, on the devices."""
        networks = {name: run.as_network() for name, run in self.runs.items() if name != INIT}
        return {name: one.replace(variables=parallel.place(one.variables)) for name, one in networks.items()}
