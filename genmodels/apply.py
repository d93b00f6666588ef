"""Calls a predict function of a trained run: encode, reconstruct, interpolate, classify, ...

python -m genmodels.apply --workdir=DIR --predict=NAME [--input=PATH[,PATH]] --out=FILE.npz|.png|DIR [--set key=value]
"""

import pathlib

from absl import flags

from genmodels import cli
from genmodels.cli import code_flags, value_flags

WORKDIR = value_flags.define_path("workdir", None, "Work directory of the run.", required=True)
PREDICT = flags.DEFINE_string("predict", None, "Name of the function; an unknown name lists all.", required=True)
INPUT = value_flags.define_list(
    "input", [], "Images: .npz, folder, archive or one image; two, separated by a comma, if it takes two."
)
OUT = value_flags.define_path("out", None, "FILE.npz for all results; FILE.png or a folder for images.", required=True)
NUM = flags.DEFINE_integer("num", None, "Number of rows; of images, the first NUM.", lower_bound=1)
LABELS = flags.DEFINE_list(
    "labels", None, "Classes by name or number, repeated in turn over the rows, if it takes labels."
)
SEED = flags.DEFINE_integer("seed", 0, "Row i depends on the seed and on i only.", lower_bound=0, upper_bound=2**32 - 1)
SET = flags.DEFINE_multi_string("set", [], "An option of the function, key=value; may be repeated.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "latest, best or a step.")
flags.adopt_module_key_flags(code_flags)


def main() -> None:
    """Reads the inputs, calls the function and writes what it returns."""
    from genmodels.core.files import check_writable
    from genmodels.reporting.files import check_out, write_outputs
    from genmodels.runs import apply
    from genmodels.runs.inference import Run

    check_writable(pathlib.Path(OUT.value))
    out, options = check_out(OUT.value), apply.parse_options(SET.value)
    run = Run.load(WORKDIR.value, CHECKPOINT.value, allow_code=code_flags.ALLOW_CODE.value)
    inputs, rows = apply.gather(run, PREDICT.value, INPUT.value, LABELS.value, NUM.value)
    predict = run.predictor.task.predict[PREDICT.value]
    outputs = run.predict(PREDICT.value, rows, inputs, seed=SEED.value, **options)
    caption = f"{run.weights} weights of step {run.step}, seed {SEED.value}"
    write_outputs(out, PREDICT.value, predict, outputs, caption, inputs, run.data.class_names)
    shapes = ", ".join(f"{field} {'x'.join(map(str, array.shape))}" for field, array in outputs.items())
    print(f"{out}: {PREDICT.value} of {rows} rows ({shapes}), {caption}")


if __name__ == "__main__":
    cli.run(main)
