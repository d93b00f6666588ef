"""Which logged metrics the report draws together.

A task says in `Task.curves` which of its metrics belong in one picture. The training loop writes that to curves.json in
the work directory, so that a report needs no code of the task. A metric that no curve names is drawn alone, under its
own name, and so are all of an older run's metrics that are not common to every task.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from genmodels.core.files import write_text
from genmodels.errors import StorageError
from genmodels.runs.workdir import read_json
from genmodels.tasks import Curve

LOSS = Curve("Loss", ("loss",), logarithmic=True)

# What the training loop and the optimizers log whatever the task.
COMMON = (
    Curve("Gradient and update norms", ("grad_norm", "grad_norm_", "update_norm", "update_norm_"), logarithmic=True),
    Curve("Learning rate", ("learning_rate", "learning_rate_")),
    Curve("Images per second", ("images_per_s",)),
    Curve("Share of the time spent waiting for data", ("data_wait",)),
    Curve("Updates skipped so far because they were not finite", ("skipped",)),
    Curve("Classes among drawn samples", ("drawn_class_",)),
    Curve("Share of each class among drawn samples", ("drawn_share_",)),
)
NOT_DRAWN = ("step", "steps_per_s", "skipped_in_row")  # the axis, and what other curves show in other units

Series = dict[str, list[tuple[float, float]]]


def write_curves(workdir: pathlib.Path, curves: Iterable[Curve]) -> None:
    """Writes a task's curves to curves.json."""
    write_text(workdir / "curves.json", json.dumps([dataclasses.asdict(curve) for curve in curves], indent=2))


def read_curves(workdir: pathlib.Path) -> tuple[Curve, ...]:
    """The curves in curves.json; none for a work directory that was written before there was such a file.

    Raises:
      StorageError: the file cannot be read or holds something else.
    """
    path = workdir / "curves.json"
    if not path.exists():
        return ()
    try:
        rows = read_json(path)
        if not isinstance(rows, list):
            raise TypeError("curves.json must be a list")
        return tuple(map(_curve, rows))
    except (KeyError, TypeError) as error:
        raise StorageError(
            f"{path}: is not what genmodels.train writes; resume the run, which writes it again"
        ) from error


def _curve(row: Any) -> Curve:
    """The curve that a row of curves.json describes. Raises KeyError or TypeError if it is none."""
    curve = Curve(**row | {"metrics": tuple(row["metrics"])})
    if not all(isinstance(text, str) for text in (curve.title, curve.y_label, *curve.metrics)):
        raise TypeError("titles, labels and metrics must be text")
    return curve


def _belongs(name: str, curve: Curve) -> bool:
    """Whether a metric is one of a curve's: it is named, or begins with a name that ends in an underscore."""
    return any(name == metric or (metric.endswith("_") and name.startswith(metric)) for metric in curve.metrics)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def group(records: Sequence[Mapping[str, Any]], curves: Iterable[Curve]) -> list[tuple[Curve, Series]]:
    """Each curve of which something was logged, with {metric: [(step, value), ...]}; other metrics are curves alone.

    Args:
      records: of metrics.jsonl.
      curves: of the task; the curves that every task has are added.
    """
    names = sorted({name for record in records for name, value in record.items() if _is_number(value)})
    known = [LOSS, *curves, *COMMON]
    others = [name for name in names if name not in NOT_DRAWN and not any(_belongs(name, curve) for curve in known)]
    groups = []
    for curve in [*known, *(Curve(name, (name,)) for name in others)]:
        series = {
            name: [(float(record["step"]), float(record[name])) for record in records if _is_number(record.get(name))]
            for name in names
            if _belongs(name, curve)
        }
        if series:
            groups.append((curve, series))
    return groups
