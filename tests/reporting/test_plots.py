"""The axes of a plot, read from the lines that it draws."""

import re

import numpy as np
import pytest

from genmodels.reporting.plots import Plot


def drawn(points, logarithmic):
    """Where the line through `points` goes on the page, shape [points, 2]."""
    svg = Plot("title", "x", "y", {"line": points}, logarithmic).svg()
    paths = [np.array(re.findall(r"[ML] (\S+) (\S+)", d), float) for d in re.findall(r'<path d="([^"]*)"', svg)]
    (line,) = (path for path in paths if len(path) == len(points) and len(np.unique(path[:, 0])) == len(points))
    return line


@pytest.mark.parametrize(
    ("points", "logarithmic"),
    [
        ([(1, 100), (10, 10), (100, 1)], "xy"),  # a power of x
        ([(1, 1), (2, 10), (3, 100)], "y"),
        ([(0, 1), (1, 10), (2, 100)], "xy"),  # a zero keeps its axis linear
        ([(1, 0), (2, 1), (3, 2)], "y"),
        ([(1, -1), (2, 1), (3, 3)], ""),
    ],
)
def test_three_points_lie_on_a_straight_line_on_the_axes_that_suit_them(points, logarithmic):
    line = drawn(points, logarithmic)
    np.testing.assert_allclose(line[1], (line[0] + line[2]) / 2, atol=1e-3)
