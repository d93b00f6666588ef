"""Prepares a TensorFlow data set as array_record files, which training then reads without TensorFlow.

python -m genmodels.data.prepare --dataset=tfds:mnist [--data_dir=DIR] [--manual_dir=DIR]

This is the only command that needs TensorFlow and that downloads data: pip install -e '.[tfds-prepare]'.
"""

import os
import sys

if not __package__:  # Python puts the folder of a file that it runs first on its path, where inspect.py would hide the
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # standard `inspect`

import pathlib

from absl import flags

from genmodels import cli
from genmodels.cli import value_flags

DATASET = flags.DEFINE_string("dataset", None, "tfds:NAME[/CONFIG].", required=True)
DATA_DIR = value_flags.define_path("data_dir", "", "Folder of prepared data sets; default: $TFDS_DATA_DIR.")
MANUAL_DIR = value_flags.define_path(
    "manual_dir", None, "Folder of the original files, if they are not to be downloaded."
)


def main() -> None:
    """Prepares the data set, unless it is prepared as array_record already."""
    from genmodels.core.files import check_writable
    from genmodels.data import tfds, tfds_build
    from genmodels.errors import ConfigError, DataError

    scheme, _, name = DATASET.value.partition(":")
    if scheme != "tfds" or not name or ":" in name:
        raise ConfigError(f"--dataset={DATASET.value}: must be tfds:NAME or tfds:NAME/CONFIG, e.g. tfds:mnist")
    manual = pathlib.Path(MANUAL_DIR.value) if MANUAL_DIR.value else None
    if manual and not (manual.is_dir() and any(manual.iterdir())):
        raise DataError(f"--manual_dir={manual}: no such folder, or it is empty")
    folder = tfds.data_dir(DATA_DIR.value)
    check_writable(folder)
    try:
        found = tfds.find(name, folder)
        print(f"tfds:{name} is already prepared: {found}")
    except tfds.NotPreparedError:
        tfds_build.prepare(name, folder, manual)
        print(f"prepared {tfds.find(name, folder)}; train with --config.data.source=tfds:{name}")


if __name__ == "__main__":
    cli.run(main)
