"""genmodels: generative image models in JAX, from experiment file to metric report."""

import pathlib
from typing import Any

__version__ = "0.1.0"


def load(workdir: str | pathlib.Path, checkpoint: str | int = "latest") -> Any:
    """A trained run: `genmodels.load("runs/ddpm_digits").sample(8, labels=[3], seed=0)`.

    Returns:
      A genmodels.runs.inference.Run.
    Raises:
      StorageError: not a work directory, or no intact checkpoint in it.
    """
    from genmodels.core import xla

    xla.configure()
    from genmodels.runs.inference import Run

    return Run.load(workdir, checkpoint)
