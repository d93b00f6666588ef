"""What an experiment promises (`config.expect`) against what was measured."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from genmodels.evaluators import lower_is_better


@dataclasses.dataclass(frozen=True)
class Check:
    """One promise: `met` is None where nothing with the promised protocol was measured."""

    metric: str
    expected: float
    tolerance: float
    obtained: float | None
    met: bool | None
    protocol: Mapping[str, Any]

    def line(self) -> str:
        """One line for people."""
        verdict = {True: "ok", False: "SHORT", None: "NOT MEASURED"}[self.met]
        obtained = "-" if self.obtained is None else f"{self.obtained:.4g}"
        where = "".join(f" [{key}={value}]" for key, value in self.protocol.items())
        promise = f"expected {self.expected:g} with tolerance {self.tolerance:g}"
        return f"{verdict:<12} {self.metric}{where}: {obtained}, {promise}"


def compare(results: Iterable[Mapping[str, Any]], expect: Iterable[Mapping[str, Any]]) -> list[Check]:
    """Checks each promise {"metric", "value", "tolerance", "protocol"} against results as in evaluate's JSON.

    A promise is met when the value is no worse than the promised one by more than the tolerance; better is fine. Every
    entry of its protocol must be the same in the result's.
    """
    results = list(results)
    checks = []
    for promise in expect:
        wanted = dict(promise.get("protocol", {}))
        fits = [
            result["value"]
            for result in results
            if result["name"] == promise["metric"]
            and all(result["protocol"].get(key) == value for key, value in wanted.items())
        ]
        obtained = fits[-1] if fits else None
        met = None
        if obtained is not None:
            worse = obtained - promise["value"] if lower_is_better(promise["metric"]) else promise["value"] - obtained
            met = bool(worse <= promise["tolerance"])
        checks.append(Check(promise["metric"], promise["value"], promise["tolerance"], obtained, met, wanted))
    return checks
