"""Running predict functions: in batches, on all devices, uint8 in and out; and loading a finished or running run.

Row i of a call gets the key fold_in(key(seed), i), whatever the batch size and the number of devices.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from genmodels.runs import workdir as workdir_lib
from genmodels.core.checkpoint import Checkpoints, flat
from genmodels.config import check_seed, fits, total_steps
from genmodels.data import pipeline, transforms
from genmodels.errors import ConfigError, StorageError, choose
from genmodels.core.parallel import Parallel
from genmodels.core.state import TrainState
from genmodels.tasks import DataSpec, FrozenNetwork, Pretrained, Task, make_task

NOTHING: Mapping[str, FrozenNetwork] = MappingProxyType({})


def abstract_state(task: Task, data: DataSpec) -> TrainState:
    """Shapes and dtypes of the task's state.

    Raises:
      ConfigError: the network refuses its settings for data of this shape.
    """
    batch = {field: jax.ShapeDtypeStruct((1, *data.image_shape), jnp.uint8) for field in data.fields}
    if data.num_classes:
        batch["label"] = jax.ShapeDtypeStruct((1,), jnp.int32)
    try:
        return jax.eval_shape(task.init, jax.random.key(0), jax.eval_shape(transforms.normalize, batch))
    except (ValueError, RuntimeError) as error:  # RuntimeError: an attention kernel that this machine does not have
        raise ConfigError(f"config.model: {error}") from error


def check_labels(labels: Any, num_classes: int) -> np.ndarray:
    """Labels as int32.

    Raises:
      ConfigError: some are outside 0 .. num_classes - 1, or the model has no classes.
    """
    try:
        labels = np.asarray(labels)
    except ValueError as error:
        raise ConfigError(f"labels must be one list of integers: {error}") from error
    if not num_classes:
        raise ConfigError("labels were given, but this model is unconditional")
    if not labels.size or labels.ndim > 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ConfigError(f"labels must be integers from 0 to {num_classes - 1}, got {labels.tolist()}")
    bad = labels[(labels < 0) | (labels >= num_classes)]
    if bad.size:
        raise ConfigError(f"label {bad[0]} is out of range: this model has the labels 0 to {num_classes - 1}")
    return labels.astype(np.int32)


def check_predicts(wanted: Pretrained, name: str, task: Task) -> None:
    """Raises ConfigError unless a task, called `name` in configs, has the predict function that is wanted."""
    if wanted.predict not in task.predict:
        where = f"{wanted.key}={wanted.workdir}"
        raise ConfigError(f"{where}: a run of config.task={name} has no predict function {wanted.predict!r}")


def check_pretrained(wanted: Pretrained, run: "Run", data: DataSpec) -> None:
    """Checks that a trained run can serve as the network that a task wants.

    Raises:
      ConfigError: it has not the predict function, or its data is of another kind.
    """
    where = f"{wanted.key}={wanted.workdir}"
    check_predicts(wanted, run.config.task, run.predictor.task)
    for field in wanted.alike:
        theirs, ours = getattr(run.data, field), getattr(data, field)
        if theirs != ours:
            raise ConfigError(f"{where}: its {field} is {theirs}, that of config.data.source is {ours}; choose another")


def same_network(key: str, run: "Run", known: Mapping[str, Any] | None) -> dict[str, Any]:
    """The run's identity, once it is seen to be that which was `known` by `key`, if any.

    Raises:
      StorageError: it is another one.
    """
    found = run.identity()
    if known is not None and known["sha256"] != found["sha256"]:
        raise StorageError(
            f"{key}={run.workdir}: is no longer the network that this run began with (step {known['step']}, sha256 was "
            f"{known['sha256'][:12]}..., is {found['sha256'][:12]}...); restore it, or choose another --workdir"
        )
    return found


class Predictor:
    """Calls a task's predict functions on any number of rows.

    Args:
      batch_size: rows a call of the compiled function, rounded up to a multiple of the devices.
      frozen: the networks that predict functions want beside their own.
    """

    def __init__(self, task: Task, parallel: Parallel, batch_size: int, frozen: Mapping[str, FrozenNetwork] = NOTHING):
        self.task = task
        self.frozen = dict(frozen)
        self._parallel = parallel
        devices = len(parallel.devices)
        self._batch_size = -(-batch_size // devices) * devices
        self._compiled: dict[Any, Callable] = {}

    def _compile(self, name: str, options: dict[str, Any]) -> Callable:
        def fn(variables, frozen, inputs, dist):
            rng, index, rest = inputs["seed"], inputs["index"], inputs["rows"]
            keys = jax.vmap(lambda seed, i: jax.random.fold_in(jax.random.key(seed), i))(rng, index)
            predict = self.task.predict[name]
            outputs = predict.fn(variables, frozen, transforms.normalize(rest) | {"key": keys}, dist, **options)
            found = {k: v for k, v in outputs.items() if v.ndim >= 4 and k not in predict.numbers}
            images = {k: transforms.denormalize(v) for k, v in found.items()}
            return outputs | images

        return self._parallel.compile_predict(fn)

    def __call__(self, variables: Any, name: str, num: int, *inputs, **options) -> dict[str, np.ndarray]:
        """All rows of `batches`, which see, together."""
        parts = list(self.batches(variables, name, num, *inputs, **options))
        return {field: np.concatenate([part[field] for part in parts]) for field in parts[0]}

    def batches(
        self,
        variables: Any,
        name: str,
        num: int,
        inputs: dict[str, np.ndarray] | None = None,
        *,
        seed: int = 0,
        **options,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Runs `name` on `num` rows, a batch at a time; image inputs and outputs are uint8.

        Args:
          inputs: arrays of `num` rows for the function's fields, except "key", which comes from `seed`; images may be
            pixels that are read when asked (data.pixels).
          options: override the function's own; None values are left at their defaults.
        Raises:
          ConfigError: the run has no such function, input or option, or a value is refused.
        """
        check_seed("seed", seed)
        predict = self.task.predict[choose("predict function", name, self.task.predict)]
        inputs = dict(inputs or {})
        for field in inputs:
            choose(f"input of {name}", field, predict.inputs + predict.optional)
        for field in predict.inputs:
            if field != "key" and field not in inputs:
                raise ConfigError(f"{name} needs the input {field!r}")
        chosen = dict(predict.options)
        for key, value in options.items():
            choose(f"option of {name}", key, predict.options)
            if value is None:
                continue
            wanted = type(predict.options[key])
            if not fits(value, wanted):
                raise ConfigError(f"{name}: {key}={value!r}: must be {wanted.__name__}")
            chosen[key] = wanted(value)
        key = (name, tuple(sorted(chosen.items())), tuple(sorted(inputs)))
        if key not in self._compiled:
            self._compiled[key] = self._compile(name, chosen)
        rows = {"seed": np.full(num, seed, np.uint32), "index": np.arange(num, dtype=np.uint32), "rows": inputs}
        try:
            for start in range(0, num, self._batch_size):
                part = jax.tree.map(lambda x, s=start: x[s : s + self._batch_size], rows)
                padded, real = pipeline.pad_rows(part, self._batch_size)
                outputs = self._compiled[key](variables, self.frozen, padded)
                yield {field: value[real] for field, value in outputs.items()}
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from error


def task_of(workdir: pathlib.Path) -> tuple[ConfigDict, dict[str, Any], DataSpec, Task]:
    """(config, what data.json says, what the task knows of it, the task) of a work directory.

    Raises:
      StorageError: it is none.
    """
    config = workdir_lib.read_config(workdir)
    described = workdir_lib.read_json(workdir / "data.json")
    data = DataSpec(
        tuple(described["image_shape"]), described["num_classes"], tuple(described.get("fields", ("image",)))
    )
    return config, described, data, make_task(config, data, total_steps(config, described["count"]))


def suggested_commands(workdir: pathlib.Path) -> list[str]:
    """The commands that a finished run is for, a line each."""
    commands = {
        "sample": f"sample --workdir={workdir} --num=100 --out={workdir}/samples.png",
        "evaluate": f"evaluate --workdir={workdir} --out={workdir}/eval/result.json",
        "report": f"report --runs={workdir} --out={workdir}/report.html",
    }
    if "sample" not in task_of(workdir)[3].predict:
        del commands["sample"]
    return [f"python -m genmodels.{command}" for command in commands.values()]


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A trained model, loaded from its work directory.

    Attributes:
      described: what data.json says of the training data: source, count, fingerprint ...
      step: of the checkpoint it was loaded from.
      weights: "ema" or "raw": which parameters predict functions use.
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
        cls, workdir: str | pathlib.Path, checkpoint: str | int = "latest", parallel: Parallel | None = None
    ) -> "Run":
        """Loads a run on all devices, leaving its directory untouched.

        Args:
          checkpoint: "latest", "best" or a step.
          parallel: where to; None is as it was trained.
        Raises:
          StorageError: not a work directory, or no intact checkpoint in it; or a network that it wants is missing or
            not the one that it was trained with.
        """
        workdir = pathlib.Path(workdir)
        config, described, data, task = task_of(workdir)
        if parallel is None:
            parallel = Parallel(config.parallel, shard_parameters=config.shard_parameters)
        frozen = {}
        for name, wanted in task.pretrained.items():
            if not wanted.training_only:
                other = cls.load(workdir_lib.locate(wanted.workdir, workdir), parallel=parallel)
                same_network(wanted.key, other, workdir_lib.origins_of(config).get(name))
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

    def as_network(self) -> FrozenNetwork:
        """Its variables and predict functions, to be handed to another run's step."""
        task, frozen = self.predictor.task, self.predictor.frozen

        def predict(name, variables, inputs, dist):
            return task.predict[name].fn(variables, frozen, inputs, dist, **task.predict[name].options)

        return FrozenNetwork(self.variables, predict)

    def identity(self) -> dict[str, Any]:
        """Where it lies, and what it is: the checkpoint's step and a hash of its weights."""
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

    def predict(self, name: str, num: int, inputs: dict[str, np.ndarray] | None = None, *, seed: int = 0, **options):
        """Runs the predict function `name`; see `Predictor`."""
        return self.predictor(self.variables, name, num, inputs, seed=seed, **options)

    def sample_labels(self, num: int, labels: Any = None) -> np.ndarray | None:
        """One label a sample: those given, repeated in turn, else all classes in turn; None if unconditional."""
        conditional = "label" in self.sampling().inputs
        if labels is None:
            return np.arange(num, dtype=np.int32) % self.data.num_classes if conditional else None
        return np.resize(check_labels(labels, self.data.num_classes if conditional else 0), num)

    def sampling(self) -> Any:
        """The predict function "sample".

        Raises:
          ConfigError: this run has none.
        """
        return self.predictor.task.predict[choose("predict function", "sample", self.predictor.task.predict)]

    def sample(
        self, num: int, labels: Any = None, seed: int = 0, guidance: float = 1.0, **options: Any
    ) -> UInt8[np.ndarray, "num height width channel"]:
        """Draws images; image i depends on the seed and i alone, not on `num`.

        Args:
          labels: repeated in turn over the samples; default: all classes in turn.
          guidance: scale of classifier-free guidance, 1 being none.
          options: of the run's sampler, e.g. sampler="ddim", steps=50, eta=0.0.
        Raises:
          ConfigError: labels out of range, or an option this run's sampler does not have.
        """
        return np.concatenate(list(self.sample_batches(num, labels, seed, guidance, **options)))

    def sample_batches(
        self, num: int, labels: Any = None, seed: int = 0, guidance: float = 1.0, **options: Any
    ) -> Iterator[UInt8[np.ndarray, "batch height width channel"]]:
        """The images of `sample`, a batch at a time."""
        if num < 1:
            raise ConfigError(f"the number of samples must be at least 1, got {num}")
        if not np.isfinite(guidance):
            raise ConfigError(f"guidance={guidance}: must be a finite number")
        chosen = self.sample_labels(num, labels)
        inputs = {} if chosen is None else {"label": chosen}
        if guidance != 1.0:
            if "guidance_scale" not in self.sampling().optional:
                raise ConfigError("guidance needs a conditional model that was trained with label dropout; 1 is none")
            inputs["guidance_scale"] = np.full(num, guidance, np.float32)
        for batch in self.predictor.batches(self.variables, "sample", num, inputs, seed=seed, **options):
            yield batch["image"]
