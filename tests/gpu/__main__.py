"""Checks and measures on this machine's accelerator; see the package's docstring."""

import argparse
import datetime
import pathlib
import re
import sys
import time
from collections.abc import Callable, Sequence

from tests.gpu import report
from tests.gpu.plan import MACHINE, OWN, Entry, entries
from tests.gpu.worker import FAILED, PASSED, SKIPPED, Outcome, Worker

MIN_SECONDS_LEFT = 10.0  # seconds that must be left for an entry to begin


def run(
    plan: Sequence[Entry], deadline: float, toy: bool, worker: Worker, note: Callable[[Entry, Outcome, float], None]
) -> None:
    """Runs entries in order, the first in `worker` if it is of that kind, and ends every process.

    Args:
      deadline: of time.monotonic(), after which nothing runs.
      note: gets each entry with its outcome and the seconds it took.
    """
    for entry in plan:
        if deadline - time.monotonic() < MIN_SECONDS_LEFT:
            note(entry, Outcome(SKIPPED, "no time left"), 0.0)
            continue
        if not worker.alive or worker.kind != entry.worker or entry.worker == OWN:
            worker.stop()
            worker = Worker(entry.worker, worker.log)
        note(entry, *worker.run(entry, toy, deadline))
    worker.stop()


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description="Checks and measures on one accelerator.")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of result.json, result.md and log.txt")
    parser.add_argument("--minutes", type=float, default=8.0, help="when to stop")
    parser.add_argument("--only", type=re.compile, default="", help="a regular expression that names must match")
    parser.add_argument("--toy", action="store_true", help="tiny variants in the place of published sizes")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 when an entry failed or there is no device."""
    flags, began = parsed(arguments), time.monotonic()
    deadline = began + 60 * flags.minutes
    flags.out.mkdir(parents=True, exist_ok=True)
    log = flags.out / "log.txt"
    log.write_text("")
    worker = Worker(MACHINE.worker, log)
    outcome, _ = worker.run(MACHINE, flags.toy, deadline)
    if outcome.status != PASSED:
        worker.stop()
        print(f"no device: {outcome.reason}; see {log}", file=sys.stderr)
        return 1
    result = {
        "command": " ".join(["python -m tests.gpu", *(sys.argv[1:] if arguments is None else arguments)]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "minutes": flags.minutes,
        "toy": flags.toy or outcome.details["platform"] == "cpu",
        "machine": outcome.details,
        "entries": [],
    }

    def note(entry: Entry, outcome: Outcome, seconds: float) -> None:
        result["entries"].append(report.record(entry, outcome, seconds))
        report.write(flags.out, result)
        print(f"{outcome.status:<8}{entry.name:<36}{seconds:6.1f} s  {outcome.reason}", flush=True)

    rows = outcome.details.pop("conformance rows")
    plan = [entry for entry in entries(*rows) if re.search(flags.only, entry.name)]
    run(plan, deadline, result["toy"], worker, note)
    print(f"\n{report.tables(result)}")
    return int(any(entry["status"] == FAILED for entry in result["entries"]))


if __name__ == "__main__":
    sys.exit(main())
