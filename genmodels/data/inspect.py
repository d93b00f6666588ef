"""Prints what a data source holds and what looks wrong with it, as training does before it begins.

python -m genmodels.data.inspect --source=folder:photos [--size=64 --crop=center --convert=rgb] [--out=sheet.png]
python -m genmodels.data.inspect --source='split("folder:photos", test=0.1)'
"""

import os
import sys

if not __package__:  # Python puts the folder of a file that it runs first on its path, where this file would hide the
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # standard `inspect`

import pathlib

from absl import flags

from genmodels import cli
from genmodels.cli import value_flags

SOURCE = value_flags.define_path("source", None, "The data source, as in config.data.source.", required=True)
OUT = value_flags.define_path("out", None, "A .png to write a contact sheet to.")
SIZE = flags.DEFINE_integer("size", 0, "config.data.size: height and width of every image; 0 changes none.")
CROP = flags.DEFINE_string("crop", "", "config.data.crop: center (middle square) or none (squash).")
FILTER = flags.DEFINE_string("filter", "lanczos", "config.data.filter: box, bilinear, bicubic or lanczos.")
CONVERT = flags.DEFINE_string("convert", "", "config.data.convert: grey, rgb or rgba.")
SKIP = flags.DEFINE_bool("skip_damaged", False, "config.data.skip_damaged: leave out files that cannot be decoded.")
MEMORY = flags.DEFINE_float("memory_gb", 2.0, "config.data.memory_gb: larger sets are not held in memory.")


def main() -> None:
    """Prints the facts of the training split, then those of the test split where there is one."""
    from genmodels.data import inspection, preflight
    from genmodels.errors import ConfigError

    out = pathlib.Path(OUT.value) if OUT.value else None
    if out and out.suffix != ".png":
        raise ConfigError(f"--out={out}: must end in .png")
    section = {
        "source": SOURCE.value,
        "size": SIZE.value,
        "crop": CROP.value,
        "filter": FILTER.value,
        "convert": CONVERT.value,
        "skip_damaged": SKIP.value,
        "memory_gb": MEMORY.value,
    }
    source, test, why = inspection.open_splits(section)
    print("\n".join(preflight.describe(source)))
    if out:
        preflight.save_sheet(out, source)
        print(f"contact sheet in {out}")
    if test is None:
        print(f"note: {why}")
    else:
        print("\n".join([*preflight.describe(test), *preflight.overlap(source, test)]))


if __name__ == "__main__":
    cli.run(main)
