"""The one training loop. It knows Task and nothing of the method: place a batch, call the step, write down, save."""

import dataclasses
import functools
import pathlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genmodels import config as config_lib
from genmodels import evaluators
from genmodels.core import parameters
from genmodels.core.checkpoint import Checkpoints, newest
from genmodels.core.files import atomic_path, write_text
from genmodels.core.parallel import Parallel
from genmodels.core.state import TrainState, guarded, parameter_table
from genmodels.data import pipeline, preflight, transforms
from genmodels.data.augment import Augment
from genmodels.data.base import Pair, Source
from genmodels.data.sources import from_config
from genmodels.errors import ConfigError, DataError, DivergedError, choose
from genmodels.evaluators import sample_diagnostics
from genmodels.extractors import ExtractorSpec
from genmodels.reporting import pictures
from genmodels.reporting.writers import Meter, Writer
from genmodels.runs import workdir as workdir_lib
from genmodels.runs.inference import Predictor, abstract_state
from genmodels.runs.prerequisites import Prerequisites, begin
from genmodels.tasks import DataSpec, FrozenNetwork, Task, make_task

NOTHING = Augment()
AUGMENTATION = 0x617567  # tells its random stream from the task's, which folds in example indices
IN_FLIGHT = 4  # steps queued ahead of the oldest one known to be done: enough to hide dispatch, few enough to stop fast


def compose_step(task: Task, augment: Augment = NOTHING) -> Callable:
    """The step that is compiled: normalisation and augmentation in front of the task's own, the guard around it."""

    def step(state, frozen, batch, rng, dist):
        batch = transforms.normalize(batch)
        if augment != NOTHING:
            batch = augment(batch, dist.example_keys(jax.random.fold_in(rng, AUGMENTATION)))
        return task.train_step(state, frozen, batch, rng, dist)

    return guarded(step)


def initial_state(task: Task, source: Source | Pair, seed: int, shardings: Any = None) -> TrainState:
    """The state of step 0, made where `shardings` say, so that it need never fit on one device."""
    shapes = jax.eval_shape(transforms.normalize, pipeline.make_batch(source, seed, 0, 1))
    batch = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    # It runs once: compiling its many small random draws with all optimisations costs far more than they save.
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    # What is traced is `task.init` itself, as it is for `abstract_state`, so that jax traces it once.
    return jax.jit(task.init, out_shardings=shardings, compiler_options=quick)(jax.random.key(seed), batch)


@dataclasses.dataclass(eq=False)
class Session:
    """One call of `train`, from the open work directory to the last save."""

    config: ConfigDict
    workdir: pathlib.Path
    source: Source | Pair
    task: Task
    parallel: Parallel
    checkpoints: Checkpoints
    writer: Writer
    state: TrainState
    last: int
    augment: Augment
    frozen: dict[str, FrozenNetwork]
    sample_classifiers: list[ExtractorSpec]  # of the samples it draws
    sample_diagnostics: dict[str, float] = dataclasses.field(default_factory=dict)

    def run(self, stop: Callable[[int], int | None]) -> int:
        """Trains to `self.last` or until `stop(step)` gives an exit code; returns the exit code."""
        batches = pipeline.batches(
            self.source,
            self.config.seed,
            self.config.train.batch_size,
            int(self.state.step),
            self.last,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            workers=self.config.data.workers,
        )
        try:
            return self._train(batches, stop)
        except DataError:  # a file that is no longer what it was costs no step
            self.checkpoints.save(self.state, int(self.state.step))
            raise
        finally:
            batches.close()

    def _train(self, batches: Iterator[pipeline.Batch], stop: Callable[[int], int | None]) -> int:
        config, train = self.config, self.config.train
        step_fn = self.parallel.compile_step(compose_step(self.task, self.augment), self.state)
        rng = self.parallel.place(jax.random.fold_in(jax.random.key(config.seed), 1))
        first = step = int(self.state.step)
        meter = Meter(train.batch_size)
        predictor = Predictor(self.task, self.parallel, config.eval.batch_size, self.frozen)
        pending: deque[tuple[int, Any]] = deque()
        loss = self.writer.resumed.get(config.checkpoint.best, np.inf)
        code = stop(step)
        while code is None and step < self.last:
            with meter.waiting():
                batch = next(batches)
            self.state, metrics = step_fn(self.state, self.frozen, batch, rng)
            step += 1
            pending.append((step, metrics))
            flush = step == self.last or step == first + 1 or self._due(config.log.every, step)
            while pending and (flush or len(pending) > IN_FLIGHT):
                self._finish(*pending.popleft(), meter)
            if step == first + 1:
                choose("config.checkpoint.best", config.checkpoint.best, ("", *metrics))
                self.writer.say("compiled the first step")
                meter.restart_clock()
            if self._due(config.log.every, step) or step == self.last:
                values = meter.summary() | self.sample_diagnostics
                self.sample_diagnostics = {}
                loss = values.get(config.checkpoint.best, np.inf)
                seen = {"step": step, **values}
                self.writer.write(step, values, [*self.task.watch(seen), *sample_diagnostics.watch(seen)])
                meter.reset()
            with meter.paused():
                if self._due(config.checkpoint.every, step) or step == self.last:
                    self.checkpoints.save(self.state, step, loss)
                if self._due(config.log.samples_every, step) or step == self.last:
                    self._pictures(predictor, step)
            code = stop(step)
        for item in pending:
            self._finish(*item, meter)
        self.checkpoints.save(self.state, step, loss)
        self.checkpoints.wait()
        return code or 0

    @staticmethod
    def _due(every: int, step: int) -> bool:
        return every > 0 and step % every == 0

    def _finish(self, step: int, metrics: Any, meter: Meter) -> None:
        """Waits for a step's metrics and looks for bad updates."""
        metrics = jax.device_get(metrics)
        meter.add(metrics)
        in_row = int(metrics["skipped_in_row"])
        if not in_row:
            return
        train = self.config.train
        batch = pipeline.make_batch(self.source, self.config.seed, step - 1, train.batch_size)
        path = self.workdir / f"bad_batch_{step - 1:06d}.npz"
        with atomic_path(path) as temporary:
            np.savez(temporary, **batch)
        self.writer.say(
            f"step {step}: the update was not finite and was skipped ({in_row} in a row); batch saved in {path}"
        )
        if in_row >= train.max_bad_steps:
            self.checkpoints.save(self.state, int(self.state.step))
            raise DivergedError(
                f"{in_row} updates in a row were not finite (config.train.max_bad_steps); the last good state is "
                f"saved. Look at {path}, or lower config.optim.learning_rate in a new --workdir"
            )

    def _pictures(self, predictor: Predictor, step: int) -> None:
        """Draws; what the samples tell of the run's health stands in its next record. After the last, it is said."""
        folder = self.workdir / "samples"
        drawn = pictures.while_training(predictor, self.state.variables(), self.source, folder, step)
        for classifier in self.sample_classifiers if "sample" in drawn else ():
            self.sample_diagnostics |= sample_diagnostics.class_shares(drawn["sample"], classifier)
        for line in sample_diagnostics.watch(self.sample_diagnostics) if step == self.last else ():
            self.writer.say(f"warning: step {step}: {line}")


def _note_new_length(before: ConfigDict, config: ConfigDict, last: int, count: int) -> None:
    """Says that a run which goes on longer (or shorter) than it began does not equal one begun at the new length."""
    old = config_lib.total_steps(before, count)
    follows = [
        what
        for what, moved in (
            ("the learning rate", config.optim.decay != "constant"),
            ("the EMA", config.ema.horizon > 0),
        )
        if moved
    ]
    if old != last and follows:
        print(f"note: the run was {old} steps long and is now {last}: {' and '.join(follows)} follow the new length")


def train(config: ConfigDict, workdir: pathlib.Path, stop: Callable[[int], int | None] = lambda step: None) -> int:
    """Trains `config` in `workdir`, resuming what is there; experiments that it builds on are trained first, inside.

    Args:
      stop: asked after every step (with the number of steps done); an exit code makes the run save and leave.
    Returns:
      0 when the run is finished, else the code that `stop` gave.
    Raises:
      ConfigError, DataError, StorageError, DivergedError: each with one line that says what to mend. A save in flight
        is finished first, on these and on any other error; DivergedError saves the last good state too.
    """
    parallel = Parallel(config.parallel, shard_parameters=config.shard_parameters)
    config_lib.validate(config, len(parallel.devices))
    augment = config_lib.build(Augment, config.data.augment, "data.augment")
    source = from_config(config.data)
    print("\n".join(f"data: {line}" for line in preflight.describe(source)))
    data = DataSpec(source.image_shape, source.num_classes, source.fields)
    try:
        augment.check(source.image_shape)
    except ValueError as error:
        raise ConfigError(f"config.data.augment: {error}") from error
    last = config_lib.total_steps(config, len(source))
    task = make_task(config, data, last)
    if config.train.batch_size % (len(parallel.devices) * task.row_multiple):
        raise ConfigError(
            f"config.train.batch_size={config.train.batch_size} must be a multiple of {len(parallel.devices)} devices "
            f"x {task.row_multiple}, the rows that a step of config.task={config.task} takes together on each"
        )
    abstract = abstract_state(task, data)  # the network's own objections come before anything is written
    names = parameters.named(abstract.params)
    parameters.check_matches("config.frozen", config.frozen, names)
    if all(parameters.matches(config.frozen, name) for name in names):
        raise ConfigError("config.frozen: leaves nothing to train")
    for pattern in config.optim.no_decay:
        if not any(parameters.matches((pattern,), name) for name in names):
            print(f"note: config.optim.no_decay: {pattern!r} matches no parameter")
    find = functools.partial(Prerequisites.find, config, task, data, abstract.params)
    prerequisites = find(fresh=True) if newest(workdir / "checkpoints") is None else None
    evaluation = config.eval
    extractor = evaluators.ExtractorDefaults(evaluation.extractor, evaluation.resize, evaluation.layer)
    metrics = evaluators.resolve(evaluation.metrics, extractor)
    evaluators.resolve([promise["metric"] for promise in config.expect], extractor)
    try:
        evaluators.check_run(
            metrics,
            task.predict,
            data.image_shape,
            evaluation.split,
            evaluation.timesteps,
            evaluation.likelihoods,
        )
        if evaluators.need(metrics, "reference"):
            from_config(config.data, evaluation.split)
    except (ConfigError, DataError) as error:  # training can do without
        print(f"note: genmodels.evaluate will need other --metrics or --split: {error}")
    with workdir_lib.locked(workdir):
        described = {
            "source": source.name,
            "split": source.split,
            "count": len(source),
            "image_shape": list(source.image_shape),
            "num_classes": source.num_classes,
            "fields": list(source.fields),
            "fingerprint": source.fingerprint,
        }
        absent = config_lib.flatten(config_lib.defaults()) | dict(task.defaults)
        before = workdir_lib.check_owner(workdir, config, described, absent)
        origins = workdir_lib.origins_of(before)
        shardings = parallel.state_shardings(abstract)
        checkpoints = Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep)
        try:
            state = checkpoints.restore(abstract, shardings)
            first = 0 if state is None else int(state.step)
            if first >= last:
                if first == last:  # a shorter length than what is done changes nothing
                    workdir_lib.claim(workdir, config, described, origins)
                print(f"{workdir}: already finished at step {first}; raise config.train.steps to go on")
                return 0
            if first and before is not None:
                _note_new_length(before, config, last, len(source))
            prerequisites = prerequisites or find(fresh=state is None)
            if code := prerequisites.train_missing(workdir, functools.partial(train, stop=stop)):
                return code
            workdir_lib.claim(workdir, config, described, prerequisites.identities(origins))
            if state is None:
                state = initial_state(task, source, config.seed, shardings)
                state = begin(state, prerequisites.found, prerequisites.extra)
            if not (workdir / "data.png").exists():
                preflight.save_sheet(workdir / "data.png", source)
            write_text(workdir / "parameters.txt", parameter_table(state.params) + "\n")
            size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
            print(
                f"{workdir}: {'resuming at' if first else 'from'} step {first} to {last}: {size:,} parameters, "
                f"{len(source):,} images {'x'.join(map(str, source.image_shape))} from {source.name}, "
                f"{len(parallel.devices)} {parallel.devices[0].platform} device(s), {config.parallel}"
            )
            writer = Writer(workdir, first, last, tensorboard=config.log.tensorboard)
            sample_classifiers = sample_diagnostics.sample_classifiers(
                [metric.selection for metric in metrics.values()], data.image_shape
            )
            rest = augment, prerequisites.networks(parallel), sample_classifiers
            session = Session(config, workdir, source, task, parallel, checkpoints, writer, state, last, *rest)
            try:
                return session.run(stop)
            finally:
                writer.close()
        except OSError as error:
            raise DataError(f"{workdir}: {error}") from error
        finally:
            checkpoints.close()
