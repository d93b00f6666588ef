"""The only training loop. It knows Task and nothing of the method: place a batch, call the step, log, save.

make_plan            reads the config and the data and builds the task; writes nothing
evaluation_metrics   checks what the run is to be evaluated by
train                takes the work directory, restores or begins the state, runs a Session
Session              the steps from there to the last
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genmodels import evaluators
from genmodels.core.checkpoint import Checkpoints, newest
from genmodels.core.failures import explain
from genmodels.core.files import write_arrays, write_text
from genmodels.core.state import TrainState, parameter_table
from genmodels.data import pipeline, preflight
from genmodels.data.sources import from_config
from genmodels.errors import ConfigError, DataError, DivergedError, GenmodelsError, StorageError, choose
from genmodels.evaluators import choice, sample_diagnostics
from genmodels.extractors import ExtractorSpec
from genmodels.reporting import curves, pictures
from genmodels.reporting.decoration import decoration
from genmodels.reporting.writers import Meter, Writer
from genmodels.runs import workdir as workdir_lib
from genmodels.runs.inference import Predictor
from genmodels.runs.plan import Plan, make_plan
from genmodels.runs.prerequisites import Prerequisites, initialize
from genmodels.runs.resume import check_same_experiment, note_new_length, say_finished
from genmodels.runs.step import compose_step, initial_state
from genmodels.tasks import FrozenNetwork

Stop = Callable[[int], int | None]  # steps done -> an exit code that makes the run save and leave, or None

MAX_STEPS_IN_FLIGHT = 4  # steps queued behind the oldest that is not known to be done: they hide the dispatch


@dataclasses.dataclass(eq=False)
class Session:
    """The steps of one call of `train`, from the restored or initial state to the last save.

    Attributes:
      frozen: the trained networks that the task needs, on the devices.
      sample_classifiers: the classifiers that look at the samples drawn during training.
      meter: the averages of the logging interval, which goes on where the restored state was amid one.
      loss: the last logged value of `config.checkpoint.best`; smaller is better.
      sample_diagnostics: what the classifiers found since the last record.
      step: the number of steps done.
      pending: (step, metrics) of those steps whose metrics were not waited for yet.
    """

    plan: Plan
    workdir: pathlib.Path
    checkpoints: Checkpoints
    writer: Writer
    state: TrainState
    frozen: dict[str, FrozenNetwork]
    sample_classifiers: list[ExtractorSpec]
    meter: Meter
    loss: float = np.inf
    sample_diagnostics: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        config = self.plan.config
        self.first = self.step = int(self.state.step)
        self.pending: deque[tuple[int, Any]] = deque()
        self.place = self.workdir.stat()
        self.predictor = Predictor(self.plan.task, self.plan.parallel, config.eval.batch_size, self.frozen)

    def run(self, stop: Stop) -> int:
        """Trains to the last step or until `stop` gives an exit code; returns that code, else 0.

        An error ends the run after the state is saved, if that is still possible; its message says what is saved.
        """
        config = self.plan.config
        batches = pipeline.batches(
            self.plan.source,
            config.seed,
            config.train.batch_size,
            self.first,
            self.plan.last_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            workers=config.data.workers,
        )
        try:
            return self._train(batches, stop)
        except Exception as error:
            self._check_place()
            saved, known = self._rescue(), self._known(error)
            if known is None:
                raise
            raise type(known)(f"{known}; {saved}") from error
        finally:
            batches.close()

    def _train(self, batches: Iterator[pipeline.Batch], stop: Stop) -> int:
        plan, config = self.plan, self.plan.config
        step_fn = plan.parallel.compile_step(compose_step(plan.task, plan.augment, config.task), self.state)
        rng = plan.parallel.place(jax.random.fold_in(jax.random.key(config.seed), 1))
        self._catch_up()
        self.meter.restart_clock()
        code = stop(self.step)
        while code is None and self.step < plan.last_step:
            with self.meter.waiting():
                batch = next(batches)
            self.state, metrics = step_fn(self.state, self.frozen, batch, rng)
            self.step += 1
            self.pending.append((self.step, metrics))
            at_first = self.step == self.first + 1
            logged = self._due(config.log.every) or self.step == plan.last_step
            while self.pending and (logged or at_first or len(self.pending) > MAX_STEPS_IN_FLIGHT):
                self._finish_step()
            if at_first:
                choose("config.checkpoint.best", config.checkpoint.best, ("", *metrics))
                self.writer.say("compiled the first step")
                self.meter.restart_clock()
            if logged:
                self._log()
            with self.meter.paused():
                self._save_and_draw()
            code = stop(self.step)
        while self.pending:
            self._finish_step()
        self._save()
        self.checkpoints.wait()
        return code or 0

    def _catch_up(self) -> None:
        """Does again what followed the restored step, so that the records do not show where a run was interrupted.

        The samples drawn there enter the next record. A record that a full disk refused is written now.
        """
        config = self.plan.config
        if self.first and self._due(config.log.every) and self.meter.state():
            self._log()
        if self.first and self._due(config.log.samples_every):
            self._draw()

    def _check_place(self) -> None:
        """Raises StorageError where the work directory is another one now, or none: nothing may be written there."""
        if not self.workdir.is_dir() or not os.path.samestat(self.place, self.workdir.stat()):
            raise StorageError(f"{self.workdir}: was moved or deleted under the run; the checkpoints went with it")

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _finish_step(self) -> None:
        """Waits for the metrics of the oldest pending step, adds them to the averages, and reports a refused update."""
        step, metrics = self.pending[0]
        metrics = jax.device_get(metrics)
        self.pending.popleft()
        self.meter.add(metrics)
        if metrics["skipped_in_row"]:
            self._report_bad_step(step, int(metrics["skipped_in_row"]))

    def _report_bad_step(self, step: int, in_row: int) -> None:
        """Saves the batch of an update that was not finite; stops the run when there are too many in a row."""
        config = self.plan.config
        path = self.workdir / f"bad_batch_{step - 1:06d}.npz"
        try:
            batch = pipeline.make_batch(self.plan.source, config.seed, step - 1, config.train.batch_size)
            write_arrays(path, batch)
            where = f"batch saved in {path}"
        except (DataError, StorageError) as error:
            where = f"its batch could not be saved: {error}"
        self.writer.say(f"step {step}: the update was not finite and was skipped ({in_row} in a row); {where}")
        if in_row >= config.train.max_bad_steps:
            raise DivergedError(
                f"{in_row} updates in a row were not finite (config.train.max_bad_steps); look at {path}, or lower "
                f"config.optim.learning_rate in a new --workdir"
            )

    def _log(self) -> None:
        """Writes the averages since the last record, and what the samples drawn since then showed."""
        self._check_place()
        values = self.meter.summary() | self.sample_diagnostics
        watched = {"step": self.step, **values}
        self.writer.write(self.step, values, [*self.plan.task.watch(watched), *sample_diagnostics.watch(watched)])
        self.loss = values.get(self.plan.config.checkpoint.best, np.inf)
        self.sample_diagnostics = {}
        self.meter.reset()

    def _save(self) -> None:
        """Starts saving the state, and beside it what the interrupted logging interval needs to go on."""
        self._check_place()
        while self.pending:
            self._finish_step()
        notes = {
            "meter": self.meter.state(),
            "warning_ages": self.writer.warning_ages,
            "sample_diagnostics": self.sample_diagnostics,
        }
        planned = self._due(self.plan.config.checkpoint.every) or self.step == self.plan.last_step
        self.checkpoints.save(self.state, self.step, self.loss, planned=planned, notes=notes)

    def _rescue(self) -> str:
        """Saves the state of the last step, if that is possible after an error; returns words on what is saved."""
        with contextlib.suppress(Exception):  # the error that ends the run says why
            for _, metrics in self.pending:
                self.meter.add(jax.device_get(metrics))
            self.pending.clear()
            if self.step > self.first:
                self._save()
            self.checkpoints.wait()
        saved = newest(self.checkpoints.folder)
        if saved is None:
            return "nothing is saved"
        return f"step {saved} is saved" + (f", and the run was at step {self.step}" if saved < self.step else "")

    def _known(self, error: Exception) -> GenmodelsError | None:
        """The error as one that the user can act on; None if it is none."""
        if isinstance(error, OSError):
            return StorageError(f"{self.workdir}: {error}")
        dtype = "config.model.dtype" if "dtype" in self.plan.config.get("model", {}) else ""
        known = error if isinstance(error, GenmodelsError) else None
        return known or explain(error, "the training step", "config.train.batch_size", dtype, ", with a new --workdir")

    def _save_and_draw(self) -> None:
        """Saves a checkpoint and draws pictures, each where it is due."""
        config, at_end = self.plan.config, self.step == self.plan.last_step
        if self._due(config.checkpoint.every) or at_end:
            self._save()
        if self._due(config.log.samples_every) or at_end:
            self._draw()

    def _draw(self) -> None:
        """Draws pictures. The classes of drawn samples enter the next record; after the last step they are printed.

        A picture must not cost a step: an error of drawing or writing one is a warning.
        """
        self._check_place()
        try:
            drawn = pictures.while_training(
                self.predictor, self.state.variables(), self.plan.source, self.workdir / "samples", self.step
            )
            for classifier in self.sample_classifiers if "sample" in drawn else ():
                self.sample_diagnostics |= sample_diagnostics.class_shares(drawn["sample"], classifier)
        except Exception as error:  # of a task's own function, the data or the disk
            self.writer.say(
                f"warning: step {self.step}: no pictures: {type(error).__name__}: {' '.join(str(error).split())}"
            )
            return
        for line in sample_diagnostics.watch(self.sample_diagnostics) if self.step == self.plan.last_step else ():
            self.writer.say(f"warning: step {self.step}: {line}")


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
        try:
            with Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep) as checkpoints:
                state = checkpoints.restore(plan.state, plan.parallel.state_shardings(plan.state))
                curves.write_curves(workdir, plan.task.curves)
                if state is not None and int(state.step) >= plan.last_step:
                    say_finished(plan, workdir, int(state.step), origins)
                    return 0
                if state is not None and old_config is not None and int(state.step):
                    note_new_length(plan, old_config)
                prerequisites = prerequisites or find(fresh=state is None)
                train_other = functools.partial(train, stop=stop, allow_code=allow_code)
                if code := prerequisites.train_missing(workdir, train_other):
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
            raise StorageError(f"{workdir}: {error}") from error


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
    loss, notes = checkpoints.notes(first) if first else (np.inf, {})
    ages = notes.get("warning_ages", {})
    return Session(
        plan=plan,
        workdir=workdir,
        checkpoints=checkpoints,
        writer=Writer(workdir, first, plan.last_step, tensorboard=config.log.tensorboard, warning_ages=ages),
        state=state,
        frozen=prerequisites.networks(plan.parallel),
        sample_classifiers=sample_diagnostics.sample_classifiers(
            [metric.extractor_spec for metric in metrics.values()], plan.data.image_shape
        ),
        meter=Meter(config.train.batch_size, notes.get("meter", {})),
        loss=loss,
        sample_diagnostics=notes.get("sample_diagnostics", {}),
    )
