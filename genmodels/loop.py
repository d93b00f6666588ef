"""The only training loop. It knows Task and nothing of the method: place a batch, call the step, log, save.

make_plan            reads the config and the data and builds the task; writes nothing
evaluation_metrics   checks what the run is to be evaluated by
train                takes the work directory, restores or begins the state, runs a Session
Session              the steps from there to the last
"""

import contextlib
import dataclasses
import functools
import pathlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genmodels import config as config_lib
from genmodels import evaluators
from genmodels.core.checkpoint import Checkpoints, newest
from genmodels.core.files import write_arrays, write_text
from genmodels.core.guard import guarded
from genmodels.core.rng import AUGMENTATION_STREAM
from genmodels.core.state import TrainState, parameter_table
from genmodels.data import pipeline, preflight, transforms
from genmodels.data.augment import Augment
from genmodels.data.base import DataSource
from genmodels.data.sources import from_config
from genmodels.errors import ConfigError, DataError, DivergedError, choose
from genmodels.evaluators import choice, sample_diagnostics
from genmodels.extractors import ExtractorSpec
from genmodels.reporting import curves, pictures
from genmodels.reporting.decoration import decoration
from genmodels.reporting.writers import Meter, Writer
from genmodels.runs import workdir as workdir_lib
from genmodels.runs.inference import Predictor
from genmodels.runs.plan import Plan, make_plan
from genmodels.runs.prerequisites import Prerequisites, initialize
from genmodels.runs.resume import check_same_experiment
from genmodels.tasks import FrozenNetwork, Task
from genmodels.tasks.checks import check_step_output

Stop = Callable[[int], int | None]  # steps done -> an exit code that makes the run save and leave, or None

NO_AUGMENTATION = Augment()
MAX_STEPS_IN_FLIGHT = 4  # steps queued behind the oldest that is not known to be done: they hide the dispatch


def compose_step(task: Task, augment: Augment = NO_AUGMENTATION, name: str = "") -> Callable:
    """The step that is compiled: normalisation and augmentation before the task's own step, the guard around both.

    Args:
      name: `config.task`, for messages.
    Raises, when the step is traced:
      ConfigError: the task's step does not return a state and scalar metrics with a "loss" among them.
    """

    def step(state, frozen, batch, rng, dist):
        batch = transforms.normalize(batch)
        if augment != NO_AUGMENTATION:
            batch = augment(batch, dist.example_keys(jax.random.fold_in(rng, AUGMENTATION_STREAM)))
        output = task.train_step(state, frozen, batch, rng, dist)
        check_step_output(name, output)
        return output

    return guarded(step)


def initial_state(task: Task, source: DataSource, seed: int, shardings: Any = None) -> TrainState:
    """The state of step 0, made where `shardings` say, so that it need not fit on one device."""
    shapes = jax.eval_shape(transforms.normalize, pipeline.make_batch(source, seed, 0, 1))
    batch = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    # It runs once: compiling its many small random draws with all optimisations costs far more than they save.
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    # What is traced is `task.init` itself, as it is for `abstract_state`, so that jax traces it once.
    return jax.jit(task.init, out_shardings=shardings, compiler_options=quick)(jax.random.key(seed), batch)


@dataclasses.dataclass(eq=False)
class Session:
    """The steps of one call of `train`, from the restored or initial state to the last save.

    Attributes:
      frozen: the trained networks that the task needs, on the devices.
      sample_classifiers: the classifiers that look at the samples drawn during training.
      sample_diagnostics: what they found since the last record.
      loss: the last logged value of `config.checkpoint.best`; smaller is better.
    """

    plan: Plan
    workdir: pathlib.Path
    checkpoints: Checkpoints
    writer: Writer
    state: TrainState
    frozen: dict[str, FrozenNetwork]
    sample_classifiers: list[ExtractorSpec]
    sample_diagnostics: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        config = self.plan.config
        self.loss = self.writer.resumed.get(config.checkpoint.best, np.inf)
        self.meter = Meter(config.train.batch_size)
        self.predictor = Predictor(self.plan.task, self.plan.parallel, config.eval.batch_size, self.frozen)

    def run(self, stop: Stop) -> int:
        """Trains to the last step or until `stop` gives an exit code; returns that code, else 0."""
        config = self.plan.config
        batches = pipeline.batches(
            self.plan.source,
            config.seed,
            config.train.batch_size,
            int(self.state.step),
            self.plan.last_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            workers=config.data.workers,
        )
        try:
            return self._train(batches, stop)
        except DataError:  # a file that changed while the run read it costs no step
            self.checkpoints.save(self.state, int(self.state.step))
            raise
        finally:
            batches.close()

    def _train(self, batches: Iterator[pipeline.Batch], stop: Stop) -> int:
        plan, config = self.plan, self.plan.config
        step_fn = plan.parallel.compile_step(compose_step(plan.task, plan.augment, config.task), self.state)
        rng = plan.parallel.place(jax.random.fold_in(jax.random.key(config.seed), 1))
        first = step = int(self.state.step)
        pending: deque[tuple[int, Any]] = deque()
        self.meter.reset()
        code = stop(step)
        while code is None and step < plan.last_step:
            with self.meter.waiting():
                batch = next(batches)
            self.state, metrics = step_fn(self.state, self.frozen, batch, rng)
            step += 1
            pending.append((step, metrics))
            logged = self._due(config.log.every, step) or step == plan.last_step
            while pending and (logged or step == first + 1 or len(pending) > MAX_STEPS_IN_FLIGHT):
                self._finish_step(*pending.popleft())
            if step == first + 1:
                choose("config.checkpoint.best", config.checkpoint.best, ("", *metrics))
                self.writer.say("compiled the first step")
                self.meter.restart_clock()
            if logged:
                self._log(step)
            with self.meter.paused():
                self._save_and_draw(step)
            code = stop(step)
        for item in pending:
            self._finish_step(*item)
        self.checkpoints.save(self.state, step, self.loss)
        self.checkpoints.wait()
        return code or 0

    @staticmethod
    def _due(every: int, step: int) -> bool:
        return every > 0 and step % every == 0

    def _finish_step(self, step: int, metrics: Any) -> None:
        """Waits for the metrics of a step and adds them to the averages; deals with an update that was not finite."""
        metrics = jax.device_get(metrics)
        self.meter.add(metrics)
        if metrics["skipped_in_row"]:
            self._report_bad_step(step, int(metrics["skipped_in_row"]))

    def _report_bad_step(self, step: int, in_row: int) -> None:
        """Saves the batch of an update that was not finite; stops the run when there are too many in a row."""
        config = self.plan.config
        batch = pipeline.make_batch(self.plan.source, config.seed, step - 1, config.train.batch_size)
        path = self.workdir / f"bad_batch_{step - 1:06d}.npz"
        write_arrays(path, batch)
        self.writer.say(
            f"step {step}: the update was not finite and was skipped ({in_row} in a row); batch saved in {path}"
        )
        if in_row >= config.train.max_bad_steps:
            self.checkpoints.save(self.state, int(self.state.step))
            raise DivergedError(
                f"{in_row} updates in a row were not finite (config.train.max_bad_steps); the last good state is "
                f"saved. Look at {path}, or lower config.optim.learning_rate in a new --workdir"
            )

    def _log(self, step: int) -> None:
        """Writes the averages since the last record, and what the samples drawn since then showed."""
        values = self.meter.summary() | self.sample_diagnostics
        self.sample_diagnostics = {}
        self.loss = values.get(self.plan.config.checkpoint.best, np.inf)
        watched = {"step": step, **values}
        self.writer.write(step, values, [*self.plan.task.watch(watched), *sample_diagnostics.watch(watched)])
        self.meter.reset()

    def _save_and_draw(self, step: int) -> None:
        """Saves a checkpoint and draws pictures, each where it is due."""
        config, at_end = self.plan.config, step == self.plan.last_step
        if self._due(config.checkpoint.every, step) or at_end:
            self.checkpoints.save(self.state, step, self.loss)
        if self._due(config.log.samples_every, step) or at_end:
            self._draw(step)

    def _draw(self, step: int) -> None:
        """Draws pictures. The classes of drawn samples enter the next record; after the last step they are printed."""
        folder = self.workdir / "samples"
        try:
            drawn = pictures.while_training(self.predictor, self.state.variables(), self.plan.source, folder, step)
            for classifier in self.sample_classifiers if "sample" in drawn else ():
                self.sample_diagnostics |= sample_diagnostics.class_shares(drawn["sample"], classifier)
        except Exception as error:  # of a task's own function, the data or the disk: a picture must not end the run
            self.writer.say(
                f"warning: step {step}: no pictures: {type(error).__name__}: {' '.join(str(error).split())}"
            )
            return
        for line in sample_diagnostics.watch(self.sample_diagnostics) if step == self.plan.last_step else ():
            self.writer.say(f"warning: step {step}: {line}")


def evaluation_metrics(plan: Plan) -> dict[str, evaluators.Metric]:
    """The metrics of config.eval that can be measured on this run; prints a note on those that cannot.

    Raises:
      ConfigError: config.eval.metrics or config.expect names a metric that does not exist, or config.eval has a value
        that no evaluation takes.
    """
    settings = plan.config.eval.to_dict()
    choice.check_extractor(settings)
    extractor = evaluators.ExtractorDefaults(settings["extractor"], settings["resize"], settings["layer"])
    metrics = evaluators.resolve(settings["metrics"], extractor)
    evaluators.resolve([promise["metric"] for promise in plan.config.expect], extractor)
    options = evaluators.Options.of(settings)
    subject = choice.Subject(plan.task.predict, plan.data.image_shape, plan.data.fields)
    choice.check_values(metrics, options, settings, subject)
    chosen = choice.choose_metrics(metrics, options, settings, subject)
    try:
        if evaluators.need(chosen.metrics, "reference"):
            reference = from_config(plan.config.data, settings["split"], listing=plan.listing)
            chosen = choice.choose_by_counts(chosen, options, settings["num_samples"], len(reference))
    except (ConfigError, DataError) as error:
        print(f"note: genmodels.evaluate will need other --metrics, --likelihoods or --split: {error}")
        chosen = choice.choose_metrics(metrics, options, {**settings, "split": "train"}, subject)
    if chosen.left_out:
        print(f"note: {chosen.note()}")
    return chosen.metrics


def train(
    config: ConfigDict,
    workdir: pathlib.Path,
    stop: Stop = lambda step: None,
    *,
    allow_code: bool = False,
    notes: Callable[[Plan], Iterable[str]] = lambda plan: (),
) -> int:
    """Trains `config` in `workdir`, resuming what is there; experiments that it builds on are trained first, inside.

    Args:
      stop: called after every step with the number of steps done; an exit code makes the run save and leave.
      allow_code: whether the runs that this one builds on may name a task outside this package other than this
        config's own, see `inference.check_code`.
      notes: lines on the plan that are printed before the first step.
    Returns:
      0 when the run is finished, else the code that `stop` gave.
    Raises:
      ConfigError, DataError, StorageError, DivergedError: each with one line that says what to mend. A save in flight
        is finished first, on these and on any other error; DivergedError saves the last good state too.
    """
    workdir_lib.check_not_foreign(workdir)
    plan = make_plan(config, workdir_lib.listing_of(workdir))
    find = functools.partial(Prerequisites.find, config, plan.task, plan.data, plan.state.params, allow_code=allow_code)
    prerequisites = find(fresh=True) if newest(workdir / "checkpoints") is None else None
    metrics = evaluation_metrics(plan)
    with workdir_lib.locked(workdir):
        stored = plan.stored_config()
        old_config = check_same_experiment(workdir, stored, plan.describe_data(), plan.absent_keys())
        origins = workdir_lib.origins_of(old_config)
        checkpoints = Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep)
        try:
            state = checkpoints.restore(plan.state, plan.parallel.state_shardings(plan.state))
            curves.write_curves(workdir, plan.task.curves)
            if state is not None and int(state.step) >= plan.last_step:
                _say_finished(plan, workdir, int(state.step), origins)
                return 0
            if state is not None and old_config is not None and int(state.step):
                _note_new_length(plan, old_config)
            prerequisites = prerequisites or find(fresh=state is None)
            if code := prerequisites.train_missing(workdir, functools.partial(train, stop=stop, allow_code=allow_code)):
                return code
            workdir_lib.claim(workdir, stored, plan.describe_data(), prerequisites.identities(origins))
            for line in notes(plan):
                print(f"note: {line}")
            session = _open_session(
                plan, workdir, checkpoints=checkpoints, state=state, prerequisites=prerequisites, metrics=metrics
            )
            with contextlib.closing(session.writer):
                return session.run(stop)
        except OSError as error:
            raise DataError(f"{workdir}: {error}") from error
        finally:
            checkpoints.close()


def _open_session(
    plan: Plan,
    workdir: pathlib.Path,
    *,
    checkpoints: Checkpoints,
    state: TrainState | None,
    prerequisites: Prerequisites,
    metrics: dict[str, evaluators.Metric],
) -> Session:
    """Makes the initial state where none was restored, writes what describes the run, and puts all in their places."""
    config, first = plan.config, 0 if state is None else int(state.step)
    if state is None:
        state = initial_state(plan.task, plan.source, config.seed, plan.parallel.state_shardings(plan.state))
        state = initialize(state, prerequisites.initial_params, prerequisites.initial_extra)
    if not (workdir / "data.png").exists():
        with decoration(workdir / "data.png"):
            preflight.save_sheet(workdir / "data.png", plan.source)
    write_text(workdir / "parameters.txt", parameter_table(state.params) + "\n")
    print(f"{workdir}: {plan.summary(first)}")
    return Session(
        plan=plan,
        workdir=workdir,
        checkpoints=checkpoints,
        writer=Writer(workdir, first, plan.last_step, tensorboard=config.log.tensorboard),
        state=state,
        frozen=prerequisites.networks(plan.parallel),
        sample_classifiers=sample_diagnostics.sample_classifiers(
            [metric.extractor_spec for metric in metrics.values()], plan.data.image_shape
        ),
    )


def _say_finished(plan: Plan, workdir: pathlib.Path, step: int, origins: dict[str, Any]) -> None:
    """Prints that nothing is left to train; replaces the kept config only by one of exactly this length."""
    if step == plan.last_step:
        workdir_lib.claim(workdir, plan.stored_config(), plan.describe_data(), origins)
    print(f"{workdir}: already finished at step {step}; raise config.train.steps to go on")


def _note_new_length(plan: Plan, old_config: ConfigDict) -> None:
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
