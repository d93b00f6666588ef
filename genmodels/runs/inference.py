"""A trained run, loaded from its work directory: drawing samples and calling its predict functions."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from genmodels.config import total_steps
from genmodels.core import user_code
from genmodels.core.checkpoint import Checkpoints, flat
from genmodels.core.parallel import Parallel
from genmodels.core.state import TrainState
from genmodels.data import classes, transforms
from genmodels.data.base import TEXT_LISTING
from genmodels.data.sources import from_config
from genmodels.errors import ConfigError, DataError, GenmodelsError, StorageError, choose
from genmodels.runs import workdir as workdir_lib
from genmodels.runs.experiment import is_experiment
from genmodels.runs.predictor import Predictor
from genmodels.tasks import DataSpec, FrozenNetwork, Task, make_task


def abstract_state(task: Task, data: DataSpec) -> TrainState:
    """Shapes and dtypes of the task's state.

    Raises:
      ConfigError: the network cannot be built with its settings for data of this shape.
    """
    batch = {field: jax.ShapeDtypeStruct((1, *data.image_shape), jnp.uint8) for field in data.fields}
    if data.num_classes:
        batch["label"] = jax.ShapeDtypeStruct((1,), jnp.int32)
    try:
        return jax.eval_shape(task.init, jax.random.key(0), jax.eval_shape(transforms.normalize, batch))
    except (ValueError, RuntimeError) as error:  # RuntimeError: an attention kernel that this machine does not have
        raise ConfigError(f"config.model: {error}") from error
    except (ArithmeticError, TypeError, MemoryError) as error:  # of a size that no network has
        raise ConfigError(f"config.model: cannot be built: {type(error).__name__}: {error}") from error


def check_identity(key: str, run: "Run", recorded: Mapping[str, Any] | None) -> dict[str, Any]:
    """Checks that a run is still the network whose identity was recorded, if one was; returns the run's identity.

    Args:
      key: the config key that names the run, for messages.
    Raises:
      StorageError: the run has other weights now.
    """
    identity = run.identity()
    if recorded is not None and recorded["sha256"] != identity["sha256"]:
        raise StorageError(
            f"{key}={run.workdir}: is no longer the network that this run began with (step {recorded['step']}, sha256 "
            f"was {recorded['sha256'][:12]}..., is {identity['sha256'][:12]}...); restore it, or choose another "
            f"--workdir"
        )
    return identity


def check_code(workdir: pathlib.Path, key: str, name: str, allow_code: bool | Collection[str]) -> None:
    """Checks, before any import, that code which a work directory names may be imported. Importing code runs it.

    Args:
      key, name: the key of its config and the value; "module:function" and experiment files are code outside this
        package.
      allow_code: True allows any code; a collection allows the names in it.
    Raises:
      ConfigError: it may not; says how to allow it.
    """
    named = user_code.is_user_code(name) or is_experiment(name)
    if not named or allow_code is True or (allow_code and name in allow_code):
        return
    raise ConfigError(
        f"{workdir}: its {key}={name} is code outside genmodels; opening it would import and run "
        f"{name.partition(':')[0]}; if you trust it, allow it with --allow_code, in Python with allow_code=True"
    )


def task_of(
    workdir: pathlib.Path, allow_code: bool | Collection[str] = False
) -> tuple[ConfigDict, dict[str, Any], DataSpec, Task]:
    """The config of a work directory, the contents of its data.json, the part of that which a task sees, and the task.

    Args:
      allow_code: whether its config may name a task outside this package, see `check_code`.
    Raises:
      StorageError: it is not a work directory.
      ConfigError: its task is code that is not allowed, or the task refuses its config.
    """
    config = workdir_lib.read_config(workdir)
    described = workdir_lib.read_data(workdir)
    height, width, channels = described["image_shape"]
    data = DataSpec(
        (height, width, channels),
        described["num_classes"],
        tuple(described["fields"]),
        tuple(described["class_names"]),
    )
    check_code(workdir, "config.task", config.task, allow_code)
    try:
        task = make_task(config, data, total_steps(config, described["count"]))
    except GenmodelsError as error:
        raise type(error)(f"{workdir}: {error}") from error
    except Exception as error:  # of whatever reads a value that nobody would train with
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(f"{workdir}/config.json: no task can be made of it: {reason}") from error
    return config, described, data, task


def _has_split(config: ConfigDict, listing: int) -> bool:
    """Whether the data has the split that the run is compared with by default."""
    try:
        return bool(len(from_config(config.data, config.eval.split, listing=listing)))
    except (ConfigError, DataError):
        return False


def suggested_commands(workdir: pathlib.Path, allow_code: bool | Collection[str] = False) -> list[str]:
    """The commands that usually follow on a finished run, one line each."""
    config, described, _, task = task_of(workdir, allow_code)
    flag = " --allow_code" if user_code.is_user_code(config.task) else ""
    split = "" if _has_split(config, described["listing"]) else " --split=train"
    commands = {
        "sample": f"sample --workdir={workdir} --num=100 --out={workdir}/samples.png{flag}",
        "evaluate": f"evaluate --workdir={workdir}{split} --out={workdir}/eval/result.json{flag}",
        "report": f"report --runs={workdir} --out={workdir}/report.html",
    }
    if "sample" not in task.predict:
        del commands["sample"]
    return [f"python -m genmodels.{command}" for command in commands.values()]


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A trained model, loaded from its work directory.

    Attributes:
      described: the contents of data.json: source, count, fingerprint ... of the training data.
      step: the step of the checkpoint that was loaded.
      weights: "ema" or "raw": the parameters that predict functions use.
    """

    workdir: pathlib.Path
    config: ConfigDict
    data: DataSpec
    described: dict[str, Any]
    step: int
    weights: str
    variables: Any
    predictor: Predictor

    @classmethod
    def load(
        cls,
        workdir: str | pathlib.Path,
        checkpoint: str | int = "latest",
        parallel: Parallel | None = None,
        *,
        allow_code: bool | Collection[str] = False,
    ) -> "Run":
        """Loads a run on all devices; changes nothing in its directory.

        Args:
          checkpoint: "latest", "best" or a step.
          parallel: the devices to load it on; None takes those of its config.
          allow_code: whether it, and the networks that it needs, may name tasks outside this package, see `check_code`.
        Raises:
          StorageError: it is not a work directory or has no intact checkpoint; or a network that it needs is missing or
            not the one that it was trained with.
          ConfigError: its task is code that is not allowed.
        """
        workdir = pathlib.Path(workdir)
        config, described, data, task = task_of(workdir, allow_code)
        if parallel is None:
            parallel = Parallel(config.parallel, shard_parameters=config.shard_parameters)
        frozen = {}
        for name, wanted in task.pretrained.items():
            if not wanted.training_only:
                place = workdir_lib.resolve(wanted.workdir, workdir)
                other = cls.load(place, parallel=parallel, allow_code=allow_code)
                check_identity(wanted.key, other, workdir_lib.origins_of(config).get(name))
                frozen[name] = other.as_network()
        target = abstract_state(task, data)
        checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
        state = checkpoints.restore(target, parallel.state_shardings(target), checkpoint)
        checkpoints.close()
        if state is None:
            raise StorageError(f"{workdir}/checkpoints: no checkpoint yet; train first")
        return cls(
            workdir,
            config,
            data,
            described,
            int(state.step),
            "ema" if state.ema_params else "raw",
            state.variables(),
            Predictor(task, parallel, config.eval.batch_size, frozen),
        )

    @property
    def listing(self) -> int:
        """The rules by which its data is listed, see `data.base.Settings`."""
        return self.described["listing"]

    def labels(self, wanted: Any) -> np.ndarray:
        """The labels, int32, of classes by name or number, see `data.classes`.

        Raises:
          ConfigError: the run has no such class, or none at all.
        """
        if not self.data.num_classes:
            raise ConfigError("labels were given, but this model is unconditional")
        if not self.data.class_names and self.listing == TEXT_LISTING and self.data.num_classes > 10:
            print(
                f"note: {self.workdir} began before data.json kept the names of classes: labels are numbers, and "
                f"folders were numbered in the order of text (10 before 2); training on adds the names",
                flush=True,
            )
        try:
            return classes.class_numbers(wanted, self.data.class_names, self.data.num_classes)
        except ConfigError as error:
            unknown = "" if self.data.class_names else f"; {self.workdir}/data.json holds no names of classes"
            raise ConfigError(f"{error}{unknown}") from error

    def as_network(self) -> FrozenNetwork:
        """Its variables and predict functions, as another run's step takes them."""
        task, frozen = self.predictor.task, self.predictor.frozen

        def predict(name, variables, inputs, dist):
            return task.predict[name].fn(variables, frozen, inputs, dist, **task.predict[name].options)

        return FrozenNetwork(self.variables, predict)

    def identity(self) -> dict[str, Any]:
        """Its work directory, the step of its checkpoint, and a hash of its weights."""
        total = hashlib.sha256()
        for name, leaf in flat(self.variables).items():
            array = np.ascontiguousarray(jax.device_get(leaf))
            total.update(f"{name} {array.dtype} {array.shape}".encode())
            total.update(array.tobytes())
        return {
            "workdir": str(self.workdir),
            "step": self.step,
            "weights": self.weights,
            "sha256": total.hexdigest(),
        }

    def predict(self, name: str, num: int, inputs: dict[str, Any] | None = None, *, seed: int = 0, **options):
        """Runs the predict function `name`; see `Predictor`."""
        return self.predictor(self.variables, name, num, inputs, seed=seed, **options)

    def sample_labels(self, num: int, labels: Any = None) -> np.ndarray | None:
        """A label for each sample: `labels`, classes by name or number, repeated in turn; None if unconditional.

        By default all classes.
        """
        if "label" not in self.sampling().inputs:
            if labels is not None:
                raise ConfigError("labels were given, but this model is unconditional")
            return None
        every = np.arange(self.data.num_classes, dtype=np.int32)
        return np.resize(every if labels is None else self.labels(labels), num)

    def sampling(self) -> Any:
        """The predict function "sample".

        Raises:
          ConfigError: this run has no such function.
        """
        return self.predictor.task.predict[choose("predict function", "sample", self.predictor.task.predict)]

    @property
    def guided(self) -> bool:
        """Whether samples can be drawn with classifier-free guidance."""
        return "guidance_scale" in self.sampling().optional

    def how_drawn(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The options of `sample` by name, for a protocol: `chosen` ones and the others as they are by default.

        Args:
          chosen: of the options and `guidance`; "guidance_scale" is among the result only where the run can be guided.
        """
        options = dict(self.sampling().options) | dict(chosen)
        guidance = options.pop("guidance", 1.0)
        return options | ({"guidance_scale": guidance} if self.guided else {})

    def sample(
        self, num: int, labels: Any = None, seed: int = 0, guidance: float = 1.0, **options: Any
    ) -> UInt8[np.ndarray, "num height width channel"]:
        """Draws images; image i depends on the seed and i alone, not on `num`.

        Args:
          labels: classes by name or number, repeated in turn over the samples; by default all classes in turn.
          guidance: the scale of classifier-free guidance; 1 is none.
          options: of the run's sampler, e.g. sampler="ddim", steps=50, eta=0.0.
        Raises:
          ConfigError: there is no such class, or this run's sampler has no such option.
        """
        return np.concatenate(list(self.sample_batches(num, labels, seed, guidance, **options)))

    def sample_batches(
        self, num: int, labels: Any = None, seed: int = 0, guidance: float = 1.0, **options: Any
    ) -> Iterator[UInt8[np.ndarray, "batch height width channel"]]:
        """The images that `sample` draws, a batch at a time."""
        if num < 1:
            raise ConfigError(f"the number of samples must be at least 1, got {num}")
        if not np.isfinite(guidance):
            raise ConfigError(f"guidance={guidance}: must be a finite number")
        chosen = self.sample_labels(num, labels)
        inputs = {} if chosen is None else {"label": chosen}
        if guidance != 1.0:
            if not self.guided:
                raise ConfigError("guidance needs a conditional model that was trained with label dropout")
            inputs["guidance_scale"] = np.full(num, guidance, np.float32)
        for batch in self.predictor.batches(self.variables, "sample", num, inputs, seed=seed, **options):
            yield batch["image"]
