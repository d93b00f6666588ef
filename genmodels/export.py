"""Writes the weights of a run without optimizer state: one .npz of plain arrays, or a folder that diffusers loads.

python -m genmodels.export --workdir=DIR --out=FILE.npz|FOLDER [--checkpoint=latest|best|STEP]
"""

import hashlib
import pathlib

import numpy as np
from absl import flags

from genmodels import cli
from genmodels.cli import code_flags, value_flags

WORKDIR = value_flags.define_path("workdir", None, "Work directory of the run.", required=True)
OUT = value_flags.define_path("out", None, "FILE.npz, or a folder for diffusers.", required=True)
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "latest, best or a step.")
flags.adopt_module_key_flags(code_flags)


def main() -> None:
    """Writes the averaged parameters where the run keeps them; an .npz names them as the checkpoint does."""
    from genmodels.core.checkpoint import flat
    from genmodels.core.files import write_arrays
    from genmodels.errors import ConfigError
    from genmodels.interop import diffusers
    from genmodels.runs.inference import Run

    out = pathlib.Path(OUT.value)
    if out.suffix not in ("", ".npz"):
        raise ConfigError(f"--out={out}: must end in .npz, or be a folder for diffusers")
    if not out.suffix and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out={out}: exists and is not an empty folder; choose another")
    run = Run.load(WORKDIR.value, CHECKPOINT.value, allow_code=code_flags.ALLOW_CODE.value)
    if not out.suffix:
        diffusers.write(run, out)
        print(f"{out}: {run.weights} weights of step {run.step}, a UNet2DModel and its scheduler for diffusers")
        return
    write_arrays(out, {name: np.asarray(leaf) for name, leaf in flat(run.variables["params"]).items()})
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    print(f"{out}: {run.weights} weights of step {run.step}, {out.stat().st_size:,} bytes, sha256 {digest}")


if __name__ == "__main__":
    cli.run(main)
