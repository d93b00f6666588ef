"""genmodels: generative image models in JAX, from experiment file to metric report."""

import pathlib
from typing import Any

__version__ = "0.1.0"


def load(workdir: str | pathlib.Path, checkpoint: str | int = "latest", *, allow_code: bool = False) -> Any:
    """Loads a trained run: `genmodels.load("runs/ddpm_digits").sample(8, labels=[3], seed=0)`.

    Args:
      checkpoint: "latest", "best" or a step.
      allow_code: whether a task outside this package, "module:function", that the work directory names may be imported.
    Returns:
      A genmodels.runs.inference.Run.
    Raises:
      StorageError: it is not a work directory, or has no intact checkpoint.
      ConfigError: its task is code that is not allowed.
    """
    from genmodels.core import xla

    xla.configure()
    from genmodels.runs.inference import Run

    return Run.load(workdir, checkpoint, allow_code=allow_code)
