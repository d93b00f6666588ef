"""Compares the results that an experiment promises (`config.expect`) with measured ones."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from genmodels.evaluators import lower_is_better


@dataclasses.dataclass(frozen=True)
class Check:
    """A promised result and the measured one.

    Attributes:
      metric, expected, tolerance, protocol: of the promise.
      obtained: the measured value; None if nothing with the promised protocol was measured.
      met: whether the promise is met; None likewise.
    """

    metric: str
    expected: float
    tolerance: float
    obtained: float | None
    met: bool | None
    protocol: Mapping[str, Any]

    def line(self) -> str:
        """One line of text, such as "ok fd_digits: 10.96, expected 11 with tolerance 2"."""
        verdict = {True: "ok", False: "SHORT", None: "NOT MEASURED"}[self.met]
        obtained = "-" if self.obtained is None else f"{self.obtained:.4g}"
        where = "".join(f" [{key}={value}]" for key, value in self.protocol.items())
        promise = f"expected {self.expected:g} with tolerance {self.tolerance:g}"
        return f"{verdict:<12} {self.metric}{where}: {obtained}, {promise}"


def compare(results: Iterable[Mapping[str, Any]], expect: Iterable[Mapping[str, Any]]) -> list[Check]:
    """Checks each promise against the results.

    A promise is met if the measured value is better than the promised one, or worse by at most the tolerance. Only
    results whose protocol has all entries of the promise's protocol count, and of these the last one.

    Args:
      results: {"name", "value", "protocol"}, as in evaluate's JSON.
      expect: {"metric", "value", "tolerance", "protocol"}, as in config.expect.
    """
    results = list(results)
    checks = []
    for promise in expect:
        wanted = dict(promise.get("protocol", {}))
        values = [
            result["value"]
            for result in results
            if result["name"] == promise["metric"]
            and all(result["protocol"].get(key) == value for key, value in wanted.items())
        ]
        obtained = values[-1] if values else None
        met = None
        if obtained is not None:
            worse = obtained - promise["value"] if lower_is_better(promise["metric"]) else promise["value"] - obtained
            met = bool(worse <= promise["tolerance"])
        checks.append(Check(promise["metric"], promise["value"], promise["tolerance"], obtained, met, wanted))
    return checks
