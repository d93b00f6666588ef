"""Calls any predict function of a trained run: encode, reconstruct, interpolate, classify, ...

python -m genmodels.apply --workdir=DIR --predict=NAME [--input=PATH[,PATH]] --out=FILE.npz|.png|DIR [--set key=value]
"""

import pathlib

from absl import flags

from genmodels import cli

WORKDIR = flags.DEFINE_string("workdir", None, "Work directory of the run.", required=True)
PREDICT = flags.DEFINE_string(
    "predict", None, "Name of the function; a wrong one lists those there are.", required=True
)
INPUT = flags.DEFINE_list(
    "input", [], "Images: .npz, folder or archive; two, separated by a comma, where it takes two."
)
OUT = flags.DEFINE_string("out", None, "FILE.npz with all it gives; FILE.png or a folder for images.", required=True)
NUM = flags.DEFINE_integer("num", None, "How many rows; of images, the first so many.", lower_bound=1)
LABELS = flags.DEFINE_list("labels", None, "Labels, repeated in turn, where it takes them.")
SEED = flags.DEFINE_integer("seed", 0, "Row i depends on the seed and i alone.", lower_bound=0, upper_bound=2**32 - 1)
SET = flags.DEFINE_multi_string("set", [], "An option of the function, key=value; may be repeated.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "latest, best or a step.")


def main() -> None:
    """Reads, calls, writes."""
    from genmodels.core.files import check_writable
    from genmodels.reporting.files import check_out, write_outputs
    from genmodels.runs import apply
    from genmodels.runs.inference import Run

    check_writable(pathlib.Path(OUT.value))
    out, options = check_out(OUT.value), apply.parse_options(SET.value)
    labels = cli.integers("labels", LABELS.value)
    run = Run.load(WORKDIR.value, CHECKPOINT.value)
    inputs, rows = apply.gather(run, PREDICT.value, INPUT.value, labels, NUM.value)
    predict = run.predictor.task.predict[PREDICT.value]
    outputs = run.predict(PREDICT.value, rows, inputs, seed=SEED.value, **options)
    caption = f"{run.weights} weights of step {run.step}, seed {SEED.value}"
    write_outputs(out, PREDICT.value, predict, outputs, caption)
    shapes = ", ".join(f"{field} {'x'.join(map(str, array.shape))}" for field, array in outputs.items())
    print(f"{out}: {PREDICT.value} of {rows} rows ({shapes}), {caption}")


if __name__ == "__main__":
    cli.run(main)
