"""Which values of a metric are good: the value that it improves towards, which is infinite for most metrics."""

import math

DOWN, UP = -math.inf, math.inf  # the goals of metrics whose smaller, or larger, values are better


def distance(goal: float, value: float) -> float:
    """How far a value is from the goal of its metric: of two values the one with the smaller distance is better.

    For a goal that is infinite this is the value itself or its negative, so that differences of distances are
    differences of values. A value that is not a number is the worst.
    """
    if math.isnan(value):
        return math.inf
    if math.isinf(goal):
        return -value if goal > 0 else value
    return abs(value - goal)


def arrow(goal: float) -> str:
    """The goal as a sign beside the metric's name: ↓, ↑ or "→ 1"."""
    return f"→ {goal:g}" if math.isfinite(goal) else "↑" if goal > 0 else "↓"
