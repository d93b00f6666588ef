"""Results side by side: only those that were measured alike share a column, and seeds are averaged.

A column is a metric and everything that its protocols say of how it was measured, down to the sampler and its steps.
What tells of the thing measured (its path, its step, the seed) may differ within a column, and so may what came out
on the way (standard errors, the route of a solver). An entry that is not known to be harmless counts as part of how it
was measured.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from genmodels.evaluators import lower_is_better

# Entries that may differ within a column: of the thing measured,
SUBJECT = ("checkpoint_step", "generated", "generated_sha256", "seed", "versions")
# of where a reference lay, which is known by its contents,
PLACE = {"reference": ("reference_sha256", "reference_statistics_sha256"), "reference_split": ("reference_sha256",)}
# and of what came out. Solvers agree to 1e-8.
OUTCOME = ("histogram", "std_over_subsets", "std_over_splits", "standard_error", "warning", "solver", "fitted_to_n")
OUTCOME_PREFIX = "mean_"
# Which differences name a column, where several exist.
TELLING = (
    "timestep",
    "likelihood",
    "resize",
    "samples",
    "sampler",
    "steps",
    "guidance_scale",
    "n_generated",
    "n_reference",
)
SHOWN = 60  # characters of a value in a reason


@dataclasses.dataclass(frozen=True)
class Entry:
    """One result and whose it is.

    Attributes:
      subject: a row of the table; runs that differ in their seed only share one.
      seed: of training, or () where there was none.
      result: {"name", "value", "protocol"}, as in evaluate's JSON.
    """

    subject: str
    seed: Any
    result: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Cell:
    """The value of a row in a column.

    Attributes:
      value: the mean over seeds.
      std: their standard deviation (divisor n - 1); None for one seed.
      seeds: how many.
      best: no other row of the column is better, and there are others.
    """

    value: float
    std: float | None
    seeds: int
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Column:
    """Results that may be ranked.

    Attributes:
      metric: its name.
      label: what sets the column apart from others of the same metric; "" where it is the only one.
      protocol: how all of it was measured.
      cells: by row.
    """

    metric: str
    label: str
    protocol: Mapping[str, Any]
    cells: Mapping[str, Cell]

    @property
    def lower_is_better(self) -> bool:
        """Which way the metric improves."""
        return lower_is_better(self.metric)

    def ranking(self) -> list[str]:
        """Rows, best first."""
        return sorted(self.cells, key=lambda row: self.cells[row].value, reverse=not self.lower_is_better)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A table.

    Attributes:
      rows: subjects, in the order they came.
      columns: by metric, in the order they came.
      reasons: for each metric with several columns, a sentence that says why they are not one.
    """

    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    reasons: tuple[str, ...]


def measurement(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that say how a number was measured."""
    return {
        key: value
        for key, value in protocol.items()
        if key not in (*SUBJECT, *OUTCOME)
        and not key.startswith(OUTCOME_PREFIX)
        and not any(contents in protocol for contents in PLACE.get(key, ()))
    }


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _differing(protocols: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys in which they are not all equal, the most telling first."""
    keys = dict.fromkeys(key for protocol in protocols for key in protocol)
    found = [key for key in keys if any(protocol.get(key) != protocols[0].get(key) for protocol in protocols)]
    return sorted(found, key=lambda key: TELLING.index(key) if key in TELLING else len(TELLING))


def _labels(protocols: Sequence[Mapping[str, Any]]) -> list[str]:
    """Short names that tell the columns of a metric apart."""
    keys, chosen = _differing(protocols), []
    labels = [""] * len(protocols)
    while len(set(labels)) < len(protocols) and keys:
        chosen.append(keys.pop(0))
        labels = [", ".join(f"{key} {_text(p.get(key, 'none'))}" for key in chosen) for p in protocols]
    return labels


def _reason(metric: str, protocols: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for key in _differing(protocols):
        values = dict.fromkeys(_text(protocol.get(key, "not stated")) for protocol in protocols)
        parts.append(f"{key} ({' / '.join(values)})")
    return f"{metric} stands in {len(protocols)} columns that do not compare: they differ in {', '.join(parts)}."


def _cells(metric: str, entries: Sequence[Entry]) -> dict[str, Cell]:
    by_row: dict[str, dict[Any, float]] = {}
    for entry in entries:  # of the same thing measured twice, the later counts
        seed = json.dumps([entry.seed, entry.result["protocol"].get("seed")])
        by_row.setdefault(entry.subject, {})[seed] = float(entry.result["value"])
    cells = {}
    for row, values in by_row.items():
        several = np.array(list(values.values()))
        std = float(several.std(ddof=1)) if len(several) > 1 and np.isfinite(several).all() else None
        cells[row] = Cell(float(several.mean()), std, len(several))
    if len(cells) > 1:
        best = (np.nanmin if lower_is_better(metric) else np.nanmax)([cell.value for cell in cells.values()])
        cells = {row: dataclasses.replace(cell, best=bool(cell.value == best)) for row, cell in cells.items()}
    return cells


def compare(entries: Iterable[Entry]) -> Comparison:
    """Puts results into columns that can be ranked, and says why there are several of a metric."""
    entries = list(entries)
    groups: dict[str, dict[str, list[Entry]]] = {}
    for entry in entries:
        key = json.dumps(measurement(entry.result["protocol"]), sort_keys=True, default=str)
        groups.setdefault(entry.result["name"], {}).setdefault(key, []).append(entry)
    columns, reasons = [], []
    for metric, by_protocol in groups.items():
        protocols = [json.loads(key) for key in by_protocol]
        if len(protocols) > 1:
            reasons.append(_reason(metric, protocols))
        for label, protocol, members in zip(_labels(protocols), protocols, by_protocol.values(), strict=True):
            columns.append(Column(metric, label, protocol, _cells(metric, members)))
    return Comparison(tuple(dict.fromkeys(entry.subject for entry in entries)), tuple(columns), tuple(reasons))
