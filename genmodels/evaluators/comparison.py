"""A table of results in which only results that were measured in the same way share a column; seeds are averaged.

A column is one metric with every protocol entry that says how it was measured, down to the sampler and its
steps. Entries that describe the measured model (its path, step and seed) may differ within a column, and so may entries
that are themselves results (standard errors, the solver used). An entry that is not listed here as one of these counts
as a part of the method.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from genmodels.evaluators import lower_is_better

# Entries that may differ within a column, because they describe the measured model.
SUBJECT = ("checkpoint_step", "generated", "generated_sha256", "seed", "versions")
# Entries that may differ if the reference is identified by one of these hashes of its contents.
LOCATION = {"reference": ("reference_sha256", "reference_statistics_sha256"), "reference_split": ("reference_sha256",)}
# Entries that may differ because they are results. Solvers agree to 1e-8.
OUTCOME = ("histogram", "std_over_subsets", "std_over_splits", "standard_error", "warning", "solver", "fitted_to_n")
OUTCOME_PREFIX = "mean_"
# The entries that label the columns of a metric if they differ, in order of preference.
LABEL_KEYS = (
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
MAX_VALUE_LENGTH = 60  # characters of a protocol value in a reason


@dataclasses.dataclass(frozen=True)
class Entry:
    """One result and the model that it belongs to.

    Attributes:
      subject: name of the table's row; runs that differ only in their seed share a row.
      seed: of training, or () if there was none.
      result: {"name", "value", "protocol"}, as in evaluate's JSON.
    """

    subject: str
    seed: Any
    result: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of the table: the results of a row in a column.

    Attributes:
      value: mean over seeds.
      std: standard deviation over seeds (divisor n - 1); None for one seed.
      seeds: number of seeds.
      best: whether the column has other rows and none of them is better.
    """

    value: float
    std: float | None
    seeds: int
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Column:
    """Results that may be ranked, because they were measured in the same way.

    Attributes:
      metric: name of the metric.
      label: distinguishes the column from other columns of the same metric; "" if it is the only one.
      protocol: the entries that say how all of its results were measured.
      cells: row to cell.
    """

    metric: str
    label: str
    protocol: Mapping[str, Any]
    cells: Mapping[str, Cell]

    @property
    def lower_is_better(self) -> bool:
        """Whether smaller values of the metric are better."""
        return lower_is_better(self.metric)

    def ranking(self) -> list[str]:
        """The rows from best to worst."""
        return sorted(self.cells, key=lambda row: self.cells[row].value, reverse=not self.lower_is_better)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A table of results.

    Attributes:
      rows: subjects, in the order of the entries.
      columns: grouped by metric, in the order of the entries.
      reasons: for each metric with several columns, a sentence that says why its results cannot share one.
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
        and not any(content_hash in protocol for content_hash in LOCATION.get(key, ()))
    }


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[: MAX_VALUE_LENGTH - 3]}..."


def _differing(protocols: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys whose values are not equal in all protocols, with those of LABEL_KEYS first."""
    keys = dict.fromkeys(key for protocol in protocols for key in protocol)
    found = [key for key in keys if any(protocol.get(key) != protocols[0].get(key) for protocol in protocols)]
    return sorted(found, key=lambda key: LABEL_KEYS.index(key) if key in LABEL_KEYS else len(LABEL_KEYS))


def _labels(protocols: Sequence[Mapping[str, Any]]) -> list[str]:
    """Short labels that distinguish the columns of a metric."""
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
    return f"{metric} has {len(protocols)} columns that cannot be compared: they differ in {', '.join(parts)}."


def _cells(metric: str, entries: Sequence[Entry]) -> dict[str, Cell]:
    by_row: dict[str, dict[Any, float]] = {}
    for entry in entries:  # a later result for the same row and seed replaces an earlier one
        seed = json.dumps([entry.seed, entry.result["protocol"].get("seed")])
        by_row.setdefault(entry.subject, {})[seed] = float(entry.result["value"])
    cells = {}
    for row, values in by_row.items():
        over_seeds = np.array(list(values.values()))
        std = float(over_seeds.std(ddof=1)) if len(over_seeds) > 1 and np.isfinite(over_seeds).all() else None
        cells[row] = Cell(float(over_seeds.mean()), std, len(over_seeds))
    if len(cells) > 1:
        best = (np.nanmin if lower_is_better(metric) else np.nanmax)([cell.value for cell in cells.values()])
        cells = {row: dataclasses.replace(cell, best=bool(cell.value == best)) for row, cell in cells.items()}
    return cells


def compare(entries: Iterable[Entry]) -> Comparison:
    """Groups results into columns that can be ranked, and says for each metric why it has more than one."""
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
