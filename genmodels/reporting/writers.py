"""What a run writes while it goes: metrics.jsonl, progress on the terminal, TensorBoard where it is asked for."""

import contextlib
import json
import math
import pathlib
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from genmodels.core.files import write_text
from genmodels.core.state import Average

LONG = 10  # records without a warning, after which it is said anew


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line cut short by a kill is passed over."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return records


class Meter:
    """Averages a step's metrics over a logging interval, and the pace: steps/s, images/s, share of waiting for data."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self.reset()

    def reset(self) -> None:
        """Starts a new interval now."""
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._last: dict[str, float] = {}
        self.restart_clock()

    def restart_clock(self) -> None:
        """Forgets the pace so far, e.g. a first step that was mostly compilation; keeps the averages."""
        self._start, self._paused, self._waited, self._steps = time.perf_counter(), 0.0, 0.0, 0

    def add(self, metrics: dict[str, Any]) -> None:
        """Adds one step's metrics, scalars or Averages. Bad steps (not finite) are counted, not averaged."""
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
        """Time spent in this block counts as waiting for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent in this block does not count: pictures, checkpoints."""
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    def summary(self) -> dict[str, float]:
        """The interval's averages, and its pace unless the clock has just been started."""
        seconds = max(time.perf_counter() - self._start - self._paused, 1e-9)
        means = {name: total / count for name, (total, count) in self._sums.items() if count}
        pace = self._steps and {
            "steps_per_s": self._steps / seconds,
            "images_per_s": self._steps * self._batch_size / seconds,
            "data_wait": self._waited / seconds,
        }
        return means | self._last | (pace or {})


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Writer:
    """Sends records to metrics.jsonl, one line of progress to the terminal, and to TensorBoard.

    Args:
      first: step the run starts from. Records beyond it, left by a killed run, are dropped, so that every step has one;
        the last one before it is `resumed`.
      last: step the run ends at.
    """

    def __init__(self, workdir: pathlib.Path, first: int, last: int, *, tensorboard: bool = False):
        self._path = workdir / "metrics.jsonl"
        self._last = last
        self._live = sys.stdout.isatty()
        self._standing: dict[str, int] = {}  # warnings, by how many records ago they were last due
        kept = [record for record in read_metrics(self._path) if record["step"] <= first]
        self.resumed: dict[str, Any] = kept[-1] if kept else {}
        write_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = self._path.open("a")
        self._tensorboard = _tensorboard(workdir) if tensorboard else None

    def _append(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def write(self, step: int, values: dict[str, float], warnings: Iterable[str] = ()) -> None:
        """Records `values` at `step` and shows the pace; then warnings, each once and anew after LONG without it.

        Args:
          warnings: what is before a line's colon tells one warning from another.
        """
        said = self._news(warnings)
        self._append({"step": step, **values} | ({"warnings": said} if said else {}))
        if self._tensorboard:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, step)
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
        for warning in said:
            self.say(f"warning: step {step}: {warning}")

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        print(f"\r\033[K{line}" if self._live else line, flush=True)

    def _news(self, warnings: Iterable[str]) -> list[str]:
        """Those that have not been said lately."""
        found = {line.partition(":")[0]: line for line in warnings}
        news = [line for kind, line in found.items() if kind not in self._standing]
        ages = {kind: age + 1 for kind, age in self._standing.items() if age < LONG - 1} | dict.fromkeys(found, 0)
        self._standing = ages
        return news

    def close(self) -> None:
        """Ends the progress line and closes the sinks."""
        if self._live:
            print()
        self._file.close()
        if self._tensorboard:
            self._tensorboard.close()


def _tensorboard(workdir: pathlib.Path) -> Any:
    """A tensorboardX writer, or None with a line saying why: a sink never stops a run."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        print("config.log.tensorboard: tensorboardX is not installed (pip install tensorboardX); going on without")
        return None
    return SummaryWriter(str(workdir / "tensorboard"))
