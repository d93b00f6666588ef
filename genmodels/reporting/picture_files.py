"""The names of the pictures in a run's samples/, and their order in the report."""

import pathlib
import re

from genmodels.core.names import natural

# The pictures of an evaluation are called as their predict function, but for these; `neighbours` belongs to none.
FILES = {"sample": "grid", "reconstruct": "reconstructions", "interpolate": "interpolation"}
REPORT_ORDER = ("grid", "reconstructions", "interpolation", "trajectory", "neighbours")
DRAWN_IN_TRAINING = re.compile(r"(.+)_(\d{6,})")  # the stem of a file: predict function and step


def in_report(folder: pathlib.Path) -> list[pathlib.Path]:
    """The pictures of a run's samples/ in the order of the report, names with numbers in the order of the numbers.

    An evaluation's pictures come last; before them those of training's last step whose function has none of them.
    """
    paths = sorted(folder.glob("*.png"), key=lambda path: natural(path.name))
    found = {path.stem: path for path in paths if path.stem.isidentifier()}
    drawn = {stem: match for stem in found if (match := DRAWN_IN_TRAINING.fullmatch(stem))}
    last = max((int(match[2]) for match in drawn.values()), default=0)
    training = [s for s, m in drawn.items() if int(m[2]) == last and FILES.get(m[1], m[1]) not in found]
    known = {stem: place for place, stem in enumerate(REPORT_ORDER)}
    evaluated = [stem for stem in found if stem not in drawn]
    return [found[stem] for stem in [*training, *sorted(evaluated, key=lambda stem: known.get(stem, len(known)))]]
