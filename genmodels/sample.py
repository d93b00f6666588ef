"""Draws images from a trained run.

python -m genmodels.sample --workdir=DIR --num=N --out=DIR|FILE.npz|FILE.png [--seed=0] [--labels=cat,dog|0,1,..]
"""

import pathlib
import time

from absl import flags

from genmodels import cli
from genmodels.cli import code_flags, sampling_flags, value_flags

WORKDIR = value_flags.define_path("workdir", None, "Work directory of the run.", required=True)
NUM = flags.DEFINE_integer("num", None, "Number of images.", required=True)
OUT = value_flags.define_path("out", None, "A folder, FILE.npz or FILE.png.", required=True)
SEED = flags.DEFINE_integer(
    "seed", 0, "Image i depends on the seed and on i only.", lower_bound=0, upper_bound=2**32 - 1
)
LABELS = flags.DEFINE_list(
    "labels", None, "Classes by name or number, repeated in turn over the samples; all by default."
)
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "latest, best or a step.")
flags.adopt_module_key_flags(sampling_flags)
flags.adopt_module_key_flags(code_flags)


def main() -> None:
    """Draws the images on all devices and writes them."""
    from genmodels.core.files import check_writable
    from genmodels.data.classes import names_in
    from genmodels.reporting.files import check_out, write_images
    from genmodels.runs.inference import Run

    check_writable(pathlib.Path(OUT.value))
    out = check_out(OUT.value)
    options = sampling_flags.given()
    guidance = options.pop("guidance", 1.0)
    run = Run.load(WORKDIR.value, CHECKPOINT.value, allow_code=code_flags.ALLOW_CODE.value)
    start = time.perf_counter()
    images = run.sample(NUM.value, LABELS.value, SEED.value, guidance, **options)
    seconds = time.perf_counter() - start
    caption = f"{run.weights} weights of step {run.step}, seed {SEED.value}"
    caption += f", guidance {guidance:g}" if run.guided else ""
    caption += "".join(f", {name} {value}" for name, value in options.items())
    labels, names = run.sample_labels(NUM.value, LABELS.value), run.data.class_names
    if labels is not None and names:
        caption += f", classes {names_in(labels, names)}"
    write_images(out, images, labels, caption, names)
    print(f"{out}: {NUM.value} images in {seconds:.1f} s, {caption}")


if __name__ == "__main__":
    cli.run(main)
