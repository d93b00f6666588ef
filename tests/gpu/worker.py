"""Entries run in a process beside the one that keeps the time: a compilation that hangs is ended with its process."""

import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import pathlib
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from tests.gpu.plan import DETERMINISTIC, Entry

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
MAX_START_S = 120.0  # for a process to start
TOY_BOX = 5  # time boxes are for accelerators: a few shared CPU cores compile many times more slowly
FLAGS = {DETERMINISTIC: "--xla_gpu_deterministic_ops=true"}


class Skip(Exception):
    """Says what prevents an entry here, without being a fault of it."""


class Failure(Exception):
    """Says what an entry found wrong."""

    def __init__(self, reason: str, details: dict[str, Any]):
        super().__init__(reason)
        self.details = details


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of an entry.

    Attributes:
      status: PASSED, FAILED or SKIPPED.
      reason: of FAILED and SKIPPED, in one line.
      details: numbers and words that the entry gave; the traceback of a failure.
    """

    status: str
    reason: str = ""
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


def call(entry: Entry, toy: bool) -> Outcome:
    """Runs an entry in this process; whatever it raises becomes its outcome."""
    module, _, function = entry.function.partition(":")
    try:
        return Outcome(PASSED, details=getattr(importlib.import_module(module), function)(toy, *entry.arguments))
    except Skip as reason:
        return Outcome(SKIPPED, str(reason))
    except Failure as failure:
        return Outcome(FAILED, str(failure), failure.details)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        return Outcome(FAILED, f"{type(error).__name__}: {lines[0]}", {"traceback": traceback.format_exc()})


def environment(kind: str) -> dict[str, str]:
    """Variables that a process of this kind needs before jax is imported: the CPU beside the device, and flags."""
    flags = [os.environ.get("XLA_FLAGS", ""), FLAGS.get(kind, "")]
    changed = {"XLA_FLAGS": " ".join(filter(None, flags))}
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):
        changed["JAX_PLATFORMS"] = f"{platforms},cpu"
    return changed


def serve(connection: Connection, variables: dict[str, str], log: pathlib.Path) -> None:
    """The process: answers each entry that it is sent with its outcome, until the other end is closed."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= variables
    from genmodels.core import xla

    xla.configure()
    connection.send(None)
    while True:
        try:
            entry, toy = connection.recv()
        except EOFError:
            return
        print(f"\n== {entry.name}", flush=True)
        connection.send(call(entry, toy))


class Worker:
    """A process that runs entries one after another."""

    def __init__(self, kind: str, log: pathlib.Path):
        self.kind, self.log = kind, log
        context = multiprocessing.get_context("spawn")  # a forked process could not use the device
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, environment(kind), log), daemon=True)
        self._process.start()
        theirs.close()
        self._ready = False

    def run(self, entry: Entry, toy: bool, deadline: float) -> tuple[Outcome, float]:
        """An entry's outcome and seconds, the process's start not counted; a process that is late is ended.

        Args:
          toy: whether published sizes give way to tiny ones.
          deadline: of time.monotonic(), after which nothing runs.
        """
        if not self._ready:
            outcome = self._receive(MAX_START_S, deadline, "the process did not start within")
            if outcome:
                return outcome, 0.0
            self._ready = True
        began = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # the process has ended, which receiving reports
            self._connection.send((entry, toy))
        outcome = self._receive(entry.box * (TOY_BOX if toy else 1), deadline, "it takes more than its time box of")
        return outcome, time.monotonic() - began

    def _receive(self, box: float, deadline: float, late: str) -> Any:
        left = max(0.0, deadline - time.monotonic())
        try:
            if self._connection.poll(min(box, left)):
                return self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return Outcome(FAILED, f"its process ended with exit code {self._process.exitcode}; see log.txt")
        self.stop()
        if left < box:
            return Outcome(SKIPPED, f"the time was over after {left:.0f} s of it")
        return Outcome(FAILED, f"{late} {box:.0f} s")

    @property
    def alive(self) -> bool:
        """Whether it can run another entry."""
        return self._process.is_alive()

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()
