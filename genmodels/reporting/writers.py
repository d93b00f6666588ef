"""The log of a run: metrics.jsonl, progress on the terminal, and TensorBoard where config.log.tensorboard is set."""

import contextlib
import json
import math
import pathlib
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from genmodels.core.files import write_text
from genmodels.core.state import Average
from genmodels.errors import StorageError
from genmodels.reporting.events import EventFile
from genmodels.reporting.records import read_metrics

MIN_RECORDS_BETWEEN_WARNINGS = 10  # records without a warning, after which it is printed again
EMPTY: Mapping[str, Any] = MappingProxyType({})


class Meter:
    """Averages metrics over a logging interval; measures steps/s, images/s and the share of time spent waiting.

    Args:
      state: what `state` gave at the step that the run is resumed from; the interval then goes on.
    """

    def __init__(self, batch_size: int, state: Mapping[str, Any] = EMPTY):
        self._batch_size = batch_size
        self.reset()
        self._sums.update({name: list(sums) for name, sums in state.get("sums", {}).items()})
        self._last.update(state.get("last", {}))

    def reset(self) -> None:
        """Starts a new interval."""
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._last: dict[str, float] = {}
        self.restart_clock()

    def state(self) -> dict[str, Any]:
        """The sums of the interval so far, as JSON."""
        return {"sums": dict(self._sums), "last": self._last} if self._sums or self._last else {}

    def restart_clock(self) -> None:
        """Starts the clock again, e.g. after a first step that was mostly compilation; keeps the averages."""
        self._start, self._paused, self._waited, self._steps = time.perf_counter(), 0.0, 0.0, 0

    def add(self, metrics: dict[str, Any]) -> None:
        """Adds the metrics of one step, scalars or Averages; leaves values that are not finite out."""
        self._steps += 1
        for name, value in metrics.items():
            total, count = value if isinstance(value, Average) else (value, 1.0)
            if name.startswith("skipped"):
                self._last[name] = int(total)
            elif math.isfinite(total):
                self._sums[name][0] += float(total)
                self._sums[name][1] += float(count)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time in this block as waiting for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time in this block out of the measurement: pictures, checkpoints."""
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    def summary(self) -> dict[str, float]:
        """The averages of the interval, and its speed unless no step was added since the clock was started."""
        seconds = max(time.perf_counter() - self._start - self._paused, 1e-9)
        means = {name: total / count for name, (total, count) in self._sums.items() if count}
        speed = {
            "steps_per_s": self._steps / seconds,
            "images_per_s": self._steps * self._batch_size / seconds,
            "data_wait": self._waited / seconds,
        }
        return means | self._last | (speed if self._steps else {})


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Writer:
    """Writes records to metrics.jsonl and TensorBoard, and a line of progress for each to the terminal.

    Args:
      first: the step that the run starts from. Records of later steps, which a killed run left, are dropped, so that no
        step has two.
      last: the step at which the run is finished.
      warning_ages: those of the writer that wrote the records up to `first`.

    Attributes:
      warning_ages: by kind of warning, how many records ago it was last due.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        first: int,
        last: int,
        *,
        tensorboard: bool = False,
        warning_ages: Mapping[str, int] = EMPTY,
    ):
        self._path = workdir / "metrics.jsonl"
        self._last = last
        self._live = sys.stdout.isatty()
        self.warning_ages = dict(warning_ages)
        kept = [record for record in read_metrics(self._path, move_damage=True) if record["step"] <= first]
        write_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = self._path.open("ab", buffering=0)  # what could not be written is not written later, either
        self._events = self._open_events(workdir) if tensorboard else None

    def _append(self, record: dict[str, Any]) -> None:
        line = (json.dumps(record) + "\n").encode()
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be written: {error.strerror}") from error

    def write(self, step: int, values: dict[str, float], warnings: Iterable[str] = ()) -> None:
        """Records `values` at `step` and prints the progress and new warnings.

        A warning is new when it first comes, and again when MIN_RECORDS_BETWEEN_WARNINGS records were without it.

        Args:
          warnings: lines "kind: text"; two lines of one kind are the same warning.
        Raises:
          StorageError: metrics.jsonl cannot be written. What cannot be written for TensorBoard is left out.
        """
        ages, new = self._aged(warnings)
        self._append({"step": step, **values} | ({"warnings": new} if new else {}))
        self.warning_ages = ages
        self._write_events(step, values)
        line = f"step {step}/{self._last}  loss {values.get('loss', math.nan):.4f}"
        if "steps_per_s" in values:
            eta = (self._last - step) / values["steps_per_s"]
            line += (
                f"  {values['steps_per_s']:.1f} steps/s  {values['images_per_s']:.0f} images/s  "
                f"data wait {100 * values['data_wait']:.1f}%  ETA {_duration(eta)}"
            )
        if self._live:
            print(f"\r\033[K{line}", end="", flush=True)
        else:
            print(line, flush=True)
        for warning in new:
            self.say(f"warning: step {step}: {warning}")

    def say(self, line: str) -> None:
        """Prints a line that later progress does not overwrite."""
        print(f"\r\033[K{line}" if self._live else line, flush=True)

    def _aged(self, warnings: Iterable[str]) -> tuple[dict[str, int], list[str]]:
        """The ages after a record with these warnings, and those of them that were not due in the last records."""
        due = {line.partition(":")[0]: line for line in warnings}
        new = [line for kind, line in due.items() if kind not in self.warning_ages]
        aged = {kind: age + 1 for kind, age in self.warning_ages.items() if age + 1 < MIN_RECORDS_BETWEEN_WARNINGS}
        return aged | dict.fromkeys(due, 0), new

    def _open_events(self, workdir: pathlib.Path) -> EventFile | None:
        """TensorBoard's file; None, with a printed line, where it cannot be had: that does not stop a run."""
        try:
            return EventFile(workdir / "tensorboard")
        except ImportError:
            why = "tensorboardX is not installed (pip install tensorboardX)"
        except OSError as error:
            why = f"{workdir / 'tensorboard'}: {error.strerror}"
        self.say(f"config.log.tensorboard: {why}; its log is left out")
        return None

    def _write_events(self, step: int, values: Mapping[str, float]) -> None:
        if self._events:
            try:
                self._events.write(step, values)
            except OSError as error:
                self.say(f"warning: step {step}: tensorboard/ cannot be written ({error.strerror}) and ends here")
                self._events = None

    def close(self) -> None:
        """Ends the progress line and closes the files."""
        if self._live:
            print()
        self._file.close()
