"""Makes one self-contained HTML file out of the files in work directories.

python -m genmodels.report --runs=DIR,DIR --out=FILE.html
"""

import pathlib

from genmodels import cli
from genmodels.cli import value_flags

RUNS = value_flags.define_list("runs", None, "Work directories.", required=True)
OUT = value_flags.define_path("out", None, "HTML file to write.", required=True)


def main() -> None:
    """Reads the work directories and writes the page; imports no code that they name."""
    from genmodels.core.files import write_text
    from genmodels.errors import ConfigError
    from genmodels.reporting.html import render, run_section

    out = pathlib.Path(OUT.value)
    if out.suffix != ".html":
        raise ConfigError(f"--out={out}: must end in .html")
    write_text(out, render([run_section(pathlib.Path(run)) for run in RUNS.value]))
    print(f"{out}: report on {', '.join(RUNS.value)}")


if __name__ == "__main__":
    cli.run(main)
