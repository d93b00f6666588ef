"""Line plots as SVG text."""

import io
from collections.abc import Collection, Mapping

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

MAX_MARKED_POINTS = 20  # a line of fewer points shows each of them


def plot(
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, list[tuple[float, float]]],
    logarithmic: Collection[str],
) -> str:
    """An SVG of named series of (x, y) points.

    Args:
      logarithmic: axes, "x" and "y", that are logarithmic where all their values are positive.
    """
    with plt.rc_context({"svg.fonttype": "none", "font.size": 9, "svg.hashsalt": "genmodels"}):
        figure, axes = plt.subplots(figsize=(4.6, 2.8), layout="constrained")
        for name, points in series.items():
            marker = "." if len(points) < MAX_MARKED_POINTS else ""
            axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2, marker=marker)
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
