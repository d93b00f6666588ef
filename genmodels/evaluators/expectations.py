"""Compares the results that an experiment promises (`config.expect`) with measured ones, on the data of the promise."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from genmodels.data.spec import may_be_one
from genmodels.errors import ConfigError
from genmodels.evaluators import goal
from genmodels.evaluators.goals import distance
from genmodels.evaluators.protocol import fulfils

# The fingerprints of the training splits that promises call by these names, wherever their files lie.
KNOWN_DATA = {
    "digits": "733364fef5f7800082fa82baa48c1b09cb3e85932b8559125ef0fdc1e60d7e51",
    "mnist": "6283bf3e2bcdb287052f0bb3026ec849c73b8837752bf2dd886e4bf0c4cbfae4",
    "fashion_mnist": "b48d5f9d3bf7e1803918f092911284b26424f21db635f7f9ecfad587d676c25d",
}
UNKNOWN_DATA: Mapping[str, Any] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Check:
    """A promised result and the measured one.

    Attributes:
      metric, expected, tolerance, protocol: of the promise.
      obtained: the measured value; None if nothing with the promised protocol was measured.
      met: whether the promise is met; None likewise, and for a promise of other data.
      other_data: the name of the data that the promise was made on, if the run was trained on other data; else "".
    """

    metric: str
    expected: float
    tolerance: float
    obtained: float | None
    met: bool | None
    protocol: Mapping[str, Any]
    other_data: str = ""

    @property
    def passed(self) -> bool:
        """Whether the run keeps the promise, or was not promised anything."""
        return bool(self.met or self.other_data)

    def line(self) -> str:
        """One line of text, such as "ok fd_digits: 10.96, expected 11 with tolerance 2"."""
        verdict = {True: "ok", False: "SHORT", None: "NOT MEASURED"}[self.met]
        obtained = "-" if self.obtained is None else f"{self.obtained:.4g}"
        where = "".join(f" [{key}={value}]" for key, value in self.protocol.items())
        promise = f"expected {self.expected:g} with tolerance {self.tolerance:g}"
        if self.other_data:
            verdict = "OTHER DATA"
            promise = f"not checked: {promise} on {self.other_data}, which is other data than this run's"
        return f"{verdict:<12} {self.metric}{where}: {obtained}, {promise}"


def _is_of(promise: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether a promise was made on this data, or names none."""
    name = promise.get("data", "")
    if not name or not data:
        return True
    if name in KNOWN_DATA:
        return data["fingerprint"] == KNOWN_DATA[name]
    try:
        return may_be_one(name, data["source"])
    except ConfigError:  # the name of something that is no source
        return False


def compare(
    results: Iterable[Mapping[str, Any]],
    expect: Iterable[Mapping[str, Any]],
    data: Mapping[str, Any] = UNKNOWN_DATA,
) -> list[Check]:
    """Checks each promise against the results.

    A promise is met if the measured value is better than the promised one, or worse by at most the tolerance; for a
    metric that improves towards a value, the distances to that value are compared. Only results whose protocol has all
    entries of the promise's protocol count, and of these the last one. A promise that was made on other data than the
    run was trained on is not checked.

    Args:
      results: {"name", "value", "protocol"}, as in evaluate's JSON.
      expect: {"metric", "value", "tolerance", "protocol", "data"}, as in config.expect.
      data: the contents of the run's data.json.
    """
    results = list(results)
    checks = []
    for promise in expect:
        metric, value, wanted = promise["metric"], promise["value"], dict(promise.get("protocol", {}))
        values = [
            result["value"] for result in results if result["name"] == metric and fulfils(result["protocol"], wanted)
        ]
        obtained, met, other = values[-1] if values else None, None, ""
        if not _is_of(promise, data):
            other = str(promise["data"])
        elif obtained is not None:
            worse = distance(goal(metric), obtained) - distance(goal(metric), value)
            met = bool(worse <= promise["tolerance"])
        checks.append(Check(metric, value, promise["tolerance"], obtained, met, wanted, other))
    return checks


def lines(checks: Iterable[Check]) -> Iterator[str]:
    """A line for each check, and a last one where none could be made because all promises are of other data."""
    checks = list(checks)
    yield from (check.line() for check in checks)
    if checks and all(check.other_data for check in checks):
        yield "note: --check: nothing was checked, because all of config.expect was promised on other data"
