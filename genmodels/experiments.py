"""Lists the experiments and their variants: what each is, its data, what it should reach, how long it took.

python -m genmodels.experiments [--folder=experiments]
"""

import pathlib

from genmodels import cli
from genmodels.cli import value_flags
from genmodels.runs import catalogue

FOLDER = value_flags.define_path("folder", "experiments", "Folder of experiment files.")


def main() -> None:
    """One line a file, and a paragraph for each of its variants."""
    print(*catalogue.lines(pathlib.Path(FOLDER.value)), sep="\n")


if __name__ == "__main__":
    cli.run(main)
