"""The report: one HTML file with everything inside, made only from what a work directory holds."""

import base64
import importlib.resources
import io
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import jinja2
import matplotlib

from genmodels.config import flatten, to_json
from genmodels.core.grids import read_captions
from genmodels.evaluators.comparison import Comparison, Entry
from genmodels.evaluators.comparison import compare as compare_results
from genmodels.evaluators.expectations import compare
from genmodels.reporting import pictures
from genmodels.reporting.files import read_results
from genmodels.reporting.writers import read_metrics
from genmodels.runs.workdir import read_config, read_json

matplotlib.use("svg")
from matplotlib import pyplot as plt

# Curves that belong in one picture: title, names or prefixes, logarithmic axis.
CURVES = (
    ("Loss", ("loss",), True),
    ("Loss by quartile of the timestep", ("loss_quartile_",), True),
    ("Evidence lower bound, nats", ("elbo",), False),
    ("KL and reconstruction, nats", ("kl", "reconstruction"), True),
    ("Latent dimensions in use", ("active_units",), False),
    ("Codebook", ("perplexity", "revived"), False),
    ("Share of images that the discriminator gets right", ("discriminator_accuracy_",), False),
    ("Differences among samples, relative to real images", ("sample_diversity",), True),
    ("Discriminator's loss and penalty", ("discriminator_loss", "penalty"), False),
    ("Classes among drawn samples", ("drawn_class_",), False),
    ("Share of each class among drawn samples", ("drawn_share_",), False),
    ("Accuracy", ("accuracy",), False),
    ("Gradient and update norms", ("grad_norm", "update_norm"), True),
    ("Learning rate", ("learning_rate",), False),
    ("Images per second", ("images_per_s",), False),
)

# What may differ between runs of one experiment that are averaged.
NOT_THE_EXPERIMENT = (
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

FEW = 20  # points, which are marked


def curve_svg(title: str, names: Iterable[str], records: list[dict[str, Any]], logarithmic: bool) -> str | None:
    """One picture of the metrics whose names are, or begin with, `names`; None where there are none."""
    keys = sorted({key for record in records for key in record if any(key == n or key.startswith(n) for n in names)})
    if tuple(names) == ("loss",):
        keys = [key for key in keys if key == "loss"]
    series = {key: [(r["step"], r[key]) for r in records if r.get(key) is not None] for key in keys}
    series = {key: points for key, points in series.items() if points}
    if not series:
        return None
    return _plot(title, "step", "", series, ("y",) if logarithmic else ())


def _plot(title: str, x_label: str, y_label: str, series: dict[str, list], logarithmic: Iterable[str]) -> str:
    """An SVG of named series of (x, y) points; an axis is logarithmic only where all its values are positive."""
    with plt.rc_context({"svg.fonttype": "none", "font.size": 9, "svg.hashsalt": "genmodels"}):
        figure, axes = plt.subplots(figsize=(4.6, 2.8), layout="constrained")
        for key, points in series.items():
            axes.plot(*zip(*points, strict=True), label=key, linewidth=1.2, marker="." if len(points) < FEW else "")
        for axis, index in (("x", 0), ("y", 1)):
            if axis in logarithmic and all(point[index] > 0 for points in series.values() for point in points):
                axes.set(**{f"{axis}scale": "log"})
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        axes.grid(alpha=0.3)
        if len(series) > 1:
            axes.legend(fontsize=7)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _result_svgs(results: list[dict[str, Any]]) -> list[str]:
    """The pictures of results that have a curve."""
    curves = [result["curve"] for result in results if "curve" in result]
    return [
        _plot(c["title"], c["x_label"], c["y_label"], {c["title"]: list(zip(c["x"], c["y"], strict=True))}, "xy")
        for c in curves
    ]


def _tables(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tables of results that have one; each cell with its share of the row, which shades it."""
    tables = [result["table"] for result in results if "table" in result]
    shares = lambda counts: [(count, count / max(1, sum(counts))) for count in counts]  # noqa: E731
    return [
        t | {"rows": [(name, shares(row)) for name, row in zip(t["names"], t["counts"], strict=True)]} for t in tables
    ]


def _picture(path: pathlib.Path) -> dict[str, str]:
    title, caption = read_captions(path)
    data = base64.b64encode(path.read_bytes()).decode()
    return {"title": title, "caption": caption, "data": f"data:image/png;base64,{data}"}


def _evaluations(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Results of every file in eval/, oldest first."""
    files = sorted((workdir / "eval").glob("[!.]*.json"), key=lambda path: path.stat().st_mtime)
    found = [(path.name, read_results(path)) for path in files]
    return [
        {"file": name, "results": results, "curves": _result_svgs(results), "tables": _tables(results)}
        for name, results in found
    ]


def run_section(workdir: pathlib.Path) -> dict[str, Any]:
    """What the template shows of one run.

    Raises:
      StorageError: not a work directory, or a file in it cannot be read.
    """
    config = read_config(workdir)
    records = read_metrics(workdir / "metrics.jsonl")
    evaluations = _evaluations(workdir)
    results = [result for evaluation in evaluations for result in evaluation["results"]]
    sheet = workdir / "data.png"  # of the training data; a classifier has no other picture
    shown = pictures.in_report(workdir / "samples") or [path for path in [sheet] if path.exists()]
    parameters = workdir / "parameters.txt"
    return {
        "name": workdir.name,
        "workdir": str(workdir),
        "summary": records[-1] if records else None,
        "warnings": [(record["step"], line) for record in records for line in record.get("warnings", ())],
        "data": read_json(workdir / "data.json"),
        "curves": [svg for t, names, log in CURVES if (svg := curve_svg(t, names, records, log))],
        "pictures": [_picture(path) for path in shown],
        "evaluations": evaluations,
        "checks": compare(results, config.to_dict().get("expect", ())),
        "config": to_json(config),
        "flat": flatten(config.to_dict()),
        "parameters": parameters.read_text() if parameters.exists() else "",
    }


def _subjects(sections: list[dict[str, Any]]) -> list[str]:
    """The row of each run: those of one experiment that differ in their seeds only share one."""
    names = [s["workdir"] if sum(s["name"] == other["name"] for other in sections) > 1 else s["name"] for s in sections]
    groups: dict[str, list[int]] = {}
    for place, section in enumerate(sections):
        same = {key: value for key, value in section["flat"].items() if not key.startswith(NOT_THE_EXPERIMENT)}
        key = json.dumps([same, section["data"]["fingerprint"]], sort_keys=True)
        groups.setdefault(key, []).append(place)
    rows = list(names)
    for places in groups.values():
        if len({sections[place]["flat"]["seed"] for place in places}) == len(places):
            for place in places:
                rows[place] = ", ".join(names[other] for other in places)
    return rows


def comparison(sections: list[dict[str, Any]]) -> Comparison | None:
    """The results of all runs side by side; None where there is nothing to compare."""
    entries = []
    for row, section in zip(_subjects(sections), sections, strict=True):
        results = [result for evaluation in section["evaluations"] for result in evaluation["results"]]
        steps = [result["protocol"].get("checkpoint_step") for result in results]
        for result, step in zip(results, steps, strict=True):
            of_step = f", step {step}" if len(set(steps)) > 1 else ""  # one checkpoint must not hide another
            entries.append(Entry(f"{row}{of_step}", section["flat"]["seed"], result))
    return compare_results(entries) if len(sections) > 1 and entries else None


def render(sections: list[dict[str, Any]]) -> str:
    """The whole page."""
    template = importlib.resources.files("genmodels.reporting").joinpath("report.html.j2").read_text()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(sections=sections, comparison=comparison(sections))
