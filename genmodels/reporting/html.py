"""The report: one HTML file with everything inside, made only from what a work directory holds."""

import base64
import importlib.resources
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jinja2

from genmodels.config import flatten, nested, settings, to_json
from genmodels.core.grids import read_captions
from genmodels.core.names import natural
from genmodels.evaluators.comparison import Comparison, Entry
from genmodels.evaluators.comparison import compare as compare_results
from genmodels.evaluators.expectations import compare
from genmodels.reporting import curves, picture_files
from genmodels.reporting.decoration import decoration
from genmodels.reporting.files import read_results
from genmodels.reporting.plots import Plot
from genmodels.reporting.records import read_metrics
from genmodels.runs.workdir import read_config, read_data
from genmodels.tasks import TASKS

MAX_PLOTS = 60  # of training; each is drawn for seconds

# Keys of a config, or what they begin with, that may differ between runs whose results are averaged over seeds.
NOT_OF_THE_EXPERIMENT = (
    "seed",
    "log.",
    "checkpoint.",
    "eval.",
    "expect",
    "parallel",
    "data.source",
    "data.workers",
    "data.memory",
    "origins.",
)


def _training_plots(workdir: pathlib.Path, records: list[dict[str, Any]]) -> list[Plot]:
    """The plots of what was logged during training."""
    groups = curves.group(records, curves.read_curves(workdir))
    if len(groups) > MAX_PLOTS:
        print(
            f"warning: {workdir}: {len(groups)} curves were logged; the report draws the first {MAX_PLOTS}", flush=True
        )
    return [
        Plot(curve.title, "step", curve.y_label, series, "y" if curve.logarithmic else "")
        for curve, series in groups[:MAX_PLOTS]
    ]


def _result_plots(results: list[dict[str, Any]]) -> list[Plot]:
    """The plots of the results that have a curve."""
    plots = []
    for curve in (result["curve"] for result in results if "curve" in result):
        with decoration("a result's curve"):
            points = list(zip(map(float, curve["x"]), map(float, curve["y"]), strict=True))
            plots.append(Plot(curve["title"], curve["x_label"], curve["y_label"], {curve["title"]: points}, "xy"))
    return plots


def _with_shares(counts: list[int]) -> list[tuple[int, float]]:
    """Each cell of a table's row with its share of the row, by which the page shades it."""
    return [(count, count / max(1, sum(counts))) for count in counts]


def _tables(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tables of the results that have one."""
    tables = []
    for table in (result["table"] for result in results if "table" in result):
        with decoration("a result's table"):
            rows = [(name, _with_shares(row)) for name, row in zip(table["names"], table["counts"], strict=True)]
            tables.append({key: table[key] for key in ("title", "row_label", "column_label", "names")} | {"rows": rows})
    return tables


def _pictures(paths: Iterable[pathlib.Path]) -> list[dict[str, str]]:
    """The pictures with their captions; one that cannot be read is left out with a warning."""
    found = []
    for path in paths:
        with decoration(path):
            title, caption = read_captions(path)
            data = base64.b64encode(path.read_bytes()).decode()
            found.append({"title": title, "caption": caption, "data": f"data:image/png;base64,{data}"})
    return found


def _svg(plot: Plot) -> str:
    """The plot as SVG; nothing, with a warning, if it cannot be drawn."""
    with decoration(f"the plot {plot.title!r}"):
        return plot.svg()
    return ""


def _evaluations(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The results of every file in eval/, oldest first; of one age, as copies have, in the order of their names."""
    files = sorted((workdir / "eval").glob("[!.]*.json"), key=lambda path: (path.stat().st_mtime, natural(path.name)))
    found = [(path.name, read_results(path)) for path in files]
    return [
        {"file": name, "results": results, "plots": _result_plots(results), "tables": _tables(results)}
        for name, results in found
    ]


def _picture_paths(workdir: pathlib.Path) -> list[pathlib.Path]:
    """The pictures to show: those of samples/, or, of a run that draws none, the sheet of the training data."""
    sheet = workdir / "data.png"
    return picture_files.in_report(workdir / "samples") or ([sheet] if sheet.exists() else [])


def run_section(workdir: pathlib.Path) -> dict[str, Any]:
    """The values that the template shows for one run; imports no code that the work directory names.

    Raises:
      StorageError: it is not a work directory, or a file in it cannot be read.
    """
    config, described = read_config(workdir), read_data(workdir)
    records = read_metrics(workdir / "metrics.jsonl")
    evaluations = _evaluations(workdir)
    results = [result for evaluation in evaluations for result in evaluation["results"]]
    parameters = workdir / "parameters.txt"
    return {
        "name": workdir.name,
        "workdir": str(workdir),
        "summary": records[-1] if records else None,
        "warnings": [(record["step"], line) for record in records for line in record.get("warnings", ())],
        "data": described,
        "plots": _training_plots(workdir, records),
        "pictures": _pictures(_picture_paths(workdir)),
        "evaluations": evaluations,
        "checks": compare(results, config.to_dict().get("expect", ()), described),
        "config": to_json(config),
        "flat": flatten(config.to_dict()),
        "parameters": parameters.read_text(encoding="utf-8", errors="replace") if parameters.is_file() else "",
    }


def _absent_keys(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The values of keys that an older config lacks; none for a method outside this package, whose code is not run."""
    if flat["task"] not in TASKS:
        return {}
    return {key: setting.default for key, setting in settings(nested(flat)).items()}


def _row_names(sections: list[dict[str, Any]]) -> list[str]:
    """The name of each run's row; runs of one experiment that differ in their seeds only share a row."""
    names = [s["workdir"] if sum(s["name"] == other["name"] for other in sections) > 1 else s["name"] for s in sections]
    groups: dict[str, list[int]] = {}
    for index, section in enumerate(sections):
        flat = _absent_keys(section["flat"]) | section["flat"]
        same = {key: value for key, value in flat.items() if not key.startswith(NOT_OF_THE_EXPERIMENT)}
        key = json.dumps([same, section["data"]["fingerprint"]], sort_keys=True)
        groups.setdefault(key, []).append(index)
    rows = list(names)
    for members in groups.values():
        if len({sections[index]["flat"]["seed"] for index in members}) == len(members):
            for index in members:
                rows[index] = ", ".join(names[other] for other in members)
    return rows


def comparison(sections: list[dict[str, Any]]) -> Comparison | None:
    """The results of all runs side by side; None for a single run, or where no run has results."""
    entries = []
    for row, section in zip(_row_names(sections), sections, strict=True):
        results = [result for evaluation in section["evaluations"] for result in evaluation["results"]]
        steps = [result["protocol"].get("checkpoint_step") for result in results]
        for result, step in zip(results, steps, strict=True):
            of_step = f", step {step}" if len(set(steps)) > 1 else ""  # one checkpoint must not hide another
            entries.append(Entry(f"{row}{of_step}", section["flat"]["seed"], result))
    return compare_results(entries) if len(sections) > 1 and entries else None


def render(sections: list[dict[str, Any]]) -> str:
    """The whole page as HTML."""
    template = importlib.resources.files("genmodels.reporting").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    table = comparison(sections)
    page = environment.from_string(template).render(sections=sections, comparison=table, svg=_svg)
    return page.encode("utf-8", "replace").decode("utf-8")  # names of files may hold bytes that are no text
