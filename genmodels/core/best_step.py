"""Which checkpoint is the best, and the Orbax policy that keeps it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

# What ranks a step: whether it was saved only because the run ended there, and its value; smaller is better.
Rank = tuple[bool, float]
UNRANKED: Rank = (True, math.inf)


def best_first(ranks: Mapping[int, Rank]) -> list[int]:
    """The steps from the best to the worst, of equal ones the newest first."""
    return sorted(ranks, key=lambda step: (not math.isfinite(ranks[step][1]), ranks[step], -step))


class BestStep:
    """Orbax preservation policy that keeps the best step, if its value is finite.

    `Checkpoints` fills the dictionary of ranks. Orbax's own BestN reads its values from a file in its constructor, so
    that a single damaged byte of that file makes every step unreadable.
    """

    def __init__(self, ranks: dict[int, Rank]):
        self._ranks = ranks

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """One boolean per checkpoint, True for the best one."""
        ranks = {info.step: self._ranks.get(info.step, UNRANKED) for info in checkpoints}
        best = [step for step in best_first(ranks)[:1] if math.isfinite(ranks[step][1])]
        return [info.step in best for info in checkpoints]
