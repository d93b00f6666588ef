"""A table of results in which only results that were measured in the same way share a column; seeds are averaged.

A column is one metric with every protocol entry that says how it was measured. A row is a model, and how its samples
were made where they were made in several ways. `protocol` says which entry is which.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from genmodels.evaluators import goal
from genmodels.evaluators.goals import arrow, distance
from genmodels.evaluators.protocol import describe, made, measured

# The entries that label the columns of a metric if they differ, in order of preference.
LABEL_KEYS = ("timestep", "likelihood", "resize", "samples", "n_generated", "n_reference")
OVER_SEEDS = "seed"  # the entry of which a row has several values
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
    def goal(self) -> float:
        """The value that the metric improves towards, see `goals`."""
        return goal(self.metric)

    @property
    def arrow(self) -> str:
        """The direction of the better as a sign."""
        return arrow(self.goal)

    def ranking(self) -> list[str]:
        """The rows from best to worst."""
        return sorted(self.cells, key=lambda row: distance(self.goal, self.cells[row].value))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A table of results.

    Attributes:
      rows: subjects, in the order of the entries; a subject has a row for each way in which its samples were made.
      made: row to a line that says how its samples were made.
      columns: grouped by metric, in the order of the entries.
      reasons: for each metric with several columns, a sentence that says why its results cannot share one.
    """

    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    reasons: tuple[str, ...]
    made: Mapping[str, str] = dataclasses.field(default_factory=dict)


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


def _cells(metric: str, entries: Sequence[tuple[str, Entry]]) -> dict[str, Cell]:
    by_row: dict[str, dict[Any, float]] = {}
    for row, entry in entries:  # a later result for the same row and seed replaces an earlier one
        seed = json.dumps([entry.seed, entry.result["protocol"].get(OVER_SEEDS)])
        by_row.setdefault(row, {})[seed] = float(entry.result["value"])
    cells = {}
    for row, values in by_row.items():
        over_seeds = np.array(list(values.values()))
        std = float(over_seeds.std(ddof=1)) if len(over_seeds) > 1 and np.isfinite(over_seeds).all() else None
        cells[row] = Cell(float(over_seeds.mean()), std, len(over_seeds))
    if len(cells) > 1:
        distances = {row: distance(goal(metric), cell.value) for row, cell in cells.items()}
        least = min(distances.values())
        ranked = {row: far == least and not np.isnan(cells[row].value) for row, far in distances.items()}
        cells = {row: dataclasses.replace(cell, best=ranked[row]) for row, cell in cells.items()}
    return cells


def _states_part_of(way: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether all entries of a way are entries of the other."""
    return all(key in other and other[key] == value for key, value in way.items())


def _way(entry: Entry) -> dict[str, Any]:
    """How the samples of a result were made, whatever the seed."""
    return {key: value for key, value in made(entry.result["protocol"]).items() if key != OVER_SEEDS}


def _ways(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The ways in which the samples of one subject were made.

    A result that needs no samples states a part of a way only, such as the checkpoint; that is no way of its own.
    """
    distinct: list[dict[str, Any]] = []
    for way in map(_way, entries):
        if not any(_states_part_of(way, other) for other in distinct):
            distinct = [*(other for other in distinct if not _states_part_of(other, way)), way]
    return distinct


def _rows(entries: Sequence[Entry]) -> tuple[list[str], dict[str, str]]:
    """The row of each entry, and each row with a line on how its samples were made."""
    of_subject: dict[str, list[Entry]] = {}
    for entry in entries:
        of_subject.setdefault(entry.subject, []).append(entry)
    ways = {subject: _ways(members) for subject, members in of_subject.items()}
    rows = []
    way_of: dict[str, dict[str, Any]] = {}
    seeds: dict[str, dict[str, None]] = {}
    for entry in entries:
        known = ways[entry.subject]
        way = next(one for one in known if _states_part_of(_way(entry), one))
        differing = {key: value for key, value in way.items() if any(one.get(key) != value for one in known)}
        row = ", ".join(filter(None, (entry.subject, describe(differing))))
        rows.append(row)
        way_of[row] = way
        seed = entry.result["protocol"].get(OVER_SEEDS)
        seeds.setdefault(row, {}).update({} if seed is None else {str(seed): None})
    lines = {
        row: describe(way | ({OVER_SEEDS: ", ".join(seeds[row])} if seeds[row] else {})) for row, way in way_of.items()
    }
    return rows, lines


def compare(entries: Iterable[Entry]) -> Comparison:
    """Groups results into columns that can be ranked, and says for each metric why it has more than one."""
    entries = list(entries)
    rows, ways = _rows(entries)
    groups: dict[str, dict[str, list[tuple[str, Entry]]]] = {}
    for row, entry in zip(rows, entries, strict=True):
        key = json.dumps(measured(entry.result["protocol"]), sort_keys=True, default=str)
        groups.setdefault(entry.result["name"], {}).setdefault(key, []).append((row, entry))
    columns, reasons = [], []
    for metric, by_protocol in groups.items():
        protocols = [json.loads(key) for key in by_protocol]
        if len(protocols) > 1:
            reasons.append(_reason(metric, protocols))
        for label, protocol, members in zip(_labels(protocols), protocols, by_protocol.values(), strict=True):
            columns.append(Column(metric, label, protocol, _cells(metric, members)))
    return Comparison(tuple(dict.fromkeys(rows)), tuple(columns), tuple(reasons), ways)
