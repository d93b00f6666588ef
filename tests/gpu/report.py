"""result.json and result.md."""

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from genmodels.core.files import write_text
from tests.gpu.plan import Entry
from tests.gpu.worker import Outcome

SPEED = "images_per_s"  # which an entry's details have when it measures a train step


def record(entry: Entry, outcome: Outcome, seconds: float) -> dict[str, Any]:
    """An entry of result.json."""
    return {
        "name": entry.name,
        "status": outcome.status,
        "seconds": round(seconds, 1),
        "reason": outcome.reason,
        "counterpart": entry.counterpart,
        "details": outcome.details,
    }


def write(folder: pathlib.Path, result: dict[str, Any]) -> None:
    """Writes both files, each whole or not at all."""
    write_text(folder / "result.json", json.dumps(result, indent=2) + "\n")
    write_text(folder / "result.md", tables(result))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines) + "\n"


def _numbers(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())


def _finding(entry: dict[str, Any]) -> str:
    """What a check found, in a cell."""
    details = entry["details"]
    words = [entry["reason"]] if entry["reason"] else []
    words += [f"error: {_numbers(details['errors'])}"] if "errors" in details else []
    words += [f"ms: {_numbers(details['ms'])}"] if "ms" in details else []
    words += [f"same bits: {details['same bits']}"] if "same bits" in details else []
    return "; ".join([*words, *([details["note"]] if "note" in details else [])])


def _speed(entry: dict[str, Any], rates: dict[str, float]) -> list[str]:
    """The cells of a measured train step."""
    details, other = entry["details"], rates.get(entry["counterpart"])
    ratio = f"{details[SPEED] / other:.2f} x {entry['counterpart']}" if other else ""
    return [
        entry["name"],
        f"{details['parameters'] / 1e6:.1f} M",
        str(details["batch"]),
        f"{details[SPEED]:.0f}",
        ratio,
        f"{details['ms']:.1f}",
        f"{details['first step s']:.0f}",
        f"{details['memory GB']:.2f} ({details['memory by']})",
    ]


def tables(result: dict[str, Any]) -> str:
    """The whole as markdown."""
    machine = result["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine.get("packages", {}).items())
    head = f"# {machine.get('device', 'no device')}{', toy sizes' if result['toy'] else ''}\n\n"
    head += f"`{result['command']}`, {result['date']}; {packages}; {machine.get('system', '')}.\n\n"
    steps = [entry for entry in result["entries"] if SPEED in entry["details"]]
    checks = [entry for entry in result["entries"] if entry not in steps]
    rates = {entry["name"]: entry["details"][SPEED] for entry in steps}
    text = head + _table(
        ["entry", "", "s", "found"], ([e["name"], e["status"], f"{e['seconds']:.0f}", _finding(e)] for e in checks)
    )
    if steps:
        columns = ["train step", "parameters", "batch", "images/s", "speed against", "ms", "first step s", "memory GB"]
        text += "\n" + _table(columns, (_speed(entry, rates) for entry in steps))
    return text
