"""Writes the weights of a run as one .npz of plain arrays, without optimizer state.

python -m genmodels.export --workdir=DIR --out=FILE.npz [--checkpoint=latest|best|STEP]
"""

import hashlib
import pathlib

import numpy as np
from absl import flags

from genmodels import cli

WORKDIR = flags.DEFINE_string("workdir", None, "Work directory of the run.", required=True)
OUT = flags.DEFINE_string("out", None, "File to write, ending in .npz.", required=True)
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "latest, best or a step.")


def main() -> None:
    """Averaged parameters where the run keeps them; names as in the checkpoint."""
    from genmodels.checkpoint import flat
    from genmodels.errors import ConfigError
    from genmodels.inference import Run
    from genmodels.workdir import atomic_path

    out = pathlib.Path(OUT.value)
    if out.suffix != ".npz":
        raise ConfigError(f"--out={out}: must end in .npz")
    run = Run.load(WORKDIR.value, CHECKPOINT.value)
    with atomic_path(out) as temporary:
        np.savez(temporary, **{name: np.asarray(leaf) for name, leaf in flat(run.variables["params"]).items()})
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    print(f"{out}: {run.weights} weights of step {run.step}, {out.stat().st_size:,} bytes, sha256 {digest}")


if __name__ == "__main__":
    cli.run(main)
