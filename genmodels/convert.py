"""Converts a model that another library trained to a work directory, for sample, evaluate and report.

python -m genmodels.convert --diffusers=FOLDER --workdir=DIR [--source=tfds:cifar10] [--null_label]
python -m genmodels.convert --transformers=FOLDER --workdir=DIR [--source=..]
"""

import pathlib

from absl import flags

from genmodels import cli
from genmodels.cli import value_flags

DIFFUSERS = value_flags.define_path("diffusers", None, "Folder of a diffusers UNet2DModel and its scheduler.")
TRANSFORMERS = value_flags.define_path("transformers", None, "Folder of a transformers ViTForImageClassification.")
WORKDIR = value_flags.define_path("workdir", None, "Work directory to make.", required=True)
SOURCE = value_flags.define_path("source", "", "Data source it was trained on, for metrics that compare with data.")
NULL_LABEL = flags.DEFINE_bool(
    "null_label", None, "Whether the last class means no label; default: what the folder says, else no."
)


def main() -> None:
    """Reads the folder, writes the work directory and prints the commands that usually follow."""
    from genmodels.errors import ConfigError
    from genmodels.interop import diffusers, transformers

    workdir = pathlib.Path(WORKDIR.value)
    if TRANSFORMERS.value and not DIFFUSERS.value:
        if NULL_LABEL.value is not None:
            raise ConfigError("--null_label applies to --diffusers only")
        transformers.read(pathlib.Path(TRANSFORMERS.value), workdir, SOURCE.value)
        print(f"{workdir}: holds the weights of {TRANSFORMERS.value} at step 0")
        print(f"next: train with --config.init_from={workdir} or --config.distill.teacher={workdir}")
    elif DIFFUSERS.value and not TRANSFORMERS.value:
        notes = diffusers.read(pathlib.Path(DIFFUSERS.value), workdir, SOURCE.value, null_label=NULL_LABEL.value)
        print(f"{workdir}: holds the weights of {DIFFUSERS.value}, taken for averaged ones, at step 0")
        print(*(f"note: {line}" for line in notes), sep="\n", end="\n" if notes else "")
        print(f"next:\n  python -m genmodels.sample --workdir={workdir} --num=16 --out={workdir}/samples.png")
    else:
        raise ConfigError("exactly one of --diffusers and --transformers must name a folder")


if __name__ == "__main__":
    cli.run(main)
