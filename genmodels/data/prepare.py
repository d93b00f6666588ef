"""Prepares a TensorFlow data set as array_record, so that it can be read without TensorFlow ever after.

python -m genmodels.data.prepare --dataset=tfds:mnist [--data_dir=DIR] [--manual_dir=DIR]

The only place that imports TensorFlow or downloads anything. It needs the extra: pip install -e '.[tfds-prepare]'.
"""

import pathlib

from absl import flags

from genmodels import cli

DATASET = flags.DEFINE_string("dataset", None, "tfds:NAME[/CONFIG].", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", "", "Where prepared data sets lie; default $TFDS_DATA_DIR.")
MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder of the original files, instead of downloading them.")


def main() -> None:
    """Prepares, unless an array_record copy is there already."""
    from genmodels.core.files import check_writable
    from genmodels.data import tfds, tfds_build
    from genmodels.errors import ConfigError, DataError

    scheme, _, name = DATASET.value.partition(":")
    if scheme != "tfds" or not name or ":" in name:
        raise ConfigError(f"--dataset={DATASET.value}: must be tfds:NAME or tfds:NAME/CONFIG, e.g. tfds:mnist")
    manual = pathlib.Path(MANUAL_DIR.value).expanduser() if MANUAL_DIR.value else None
    if manual and not (manual.is_dir() and any(manual.iterdir())):
        raise DataError(f"--manual_dir={manual}: no such folder, or nothing in it")
    folder = tfds.data_dir(DATA_DIR.value)
    check_writable(folder)
    try:
        found = tfds.find(name, folder)
        print(f"tfds:{name} is prepared already: {found}")
    except tfds.NotPreparedError:
        tfds_build.prepare(name, folder, manual)
        print(f"prepared {tfds.find(name, folder)}; train with --config.data.source=tfds:{name}")


if __name__ == "__main__":
    cli.run(main)
