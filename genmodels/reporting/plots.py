"""Line plots as SVG text."""

import dataclasses
import io
from collections.abc import Collection, Mapping

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

MAX_MARKED_POINTS = 20  # a line of fewer points shows each of them


@dataclasses.dataclass(frozen=True)
class Plot:
    """Named series of (x, y) points with the words around them.

    Attributes:
      logarithmic: axes, "x" and "y", that are logarithmic where all their values are positive.
    """

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, list[tuple[float, float]]]
    logarithmic: Collection[str]

    def svg(self) -> str:
        """The plot as an SVG element."""
        with plt.rc_context(
            {"svg.fonttype": "none", "font.size": 9, "svg.hashsalt": "genmodels", "text.parse_math": False}
        ):
            figure, axes = plt.subplots(figsize=(4.6, 2.8), layout="constrained")
            for name, points in self.series.items():
                marker = "." if len(points) < MAX_MARKED_POINTS else ""
                axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2, marker=marker)
            for axis, index in (("x", 0), ("y", 1)):
                positive = all(point[index] > 0 for points in self.series.values() for point in points)
                if axis in self.logarithmic and positive:
                    axes.set(**{f"{axis}scale": "log"})
            axes.set(title=self.title, xlabel=self.x_label, ylabel=self.y_label)
            axes.grid(alpha=0.3)
            if len(self.series) > 1:
                axes.legend(fontsize=7)
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
            plt.close(figure)
        text = buffer.getvalue()
        return text[text.index("<svg") :]
