"""Models that other libraries trained, as work directories: what every such format needs. Weights are safetensors."""

import pathlib
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from ml_collections import ConfigDict

from genmodels.core.checkpoint import Checkpoints
from genmodels.core.state import TrainState
from genmodels.data.base import DataSource
from genmodels.data.sources import from_config
from genmodels.errors import ConfigError, StorageError
from genmodels.runs import workdir as workdir_lib
from genmodels.runs.inference import abstract_state
from genmodels.tasks import DataSpec, make_task


def existing(folder: pathlib.Path, name: str, sub: str = "", kind: str = "diffusers") -> pathlib.Path:
    """The file of a model folder, in it or in its sub-folder.

    Raises:
      StorageError: it is not there.
    """
    places = [folder / name, *([folder / sub / name] if sub else [])]
    for path in places:
        if path.is_file():
            return path
    if not folder.is_dir():
        raise StorageError(f"{folder}: no such folder")
    missing = f"neither {name} nor {sub}/{name} is there" if sub else f"{name} is not there"
    raise StorageError(f"{folder}: {missing}; is it a {kind} model folder?")


def read_tensors(folder: pathlib.Path, name: str, sub: str = "", kind: str = "diffusers") -> dict[str, np.ndarray]:
    """All tensors of a safetensors file of the folder.

    Raises:
      StorageError: it is missing or damaged, or there is but a pickle, which is never read.
    """
    try:
        path = existing(folder, name, sub, kind)
    except StorageError as error:
        if any(folder.glob("**/*.bin")):
            raise StorageError(
                f"{folder}: the weights are in a .bin file, a pickle, which is never read; save them as {name} "
                f"({kind}: save_pretrained, safe_serialization=True)"
            ) from error
        raise
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{path}: cannot be read as float tensors, copy it anew: {error}") from error


def describe(folder: pathlib.Path, config: ConfigDict, data: DataSpec, source: str) -> dict[str, Any]:
    """data.json of such a model; `source`, where given, is what it was trained on, and becomes config.data.source.

    Raises:
      ConfigError: that has other images, or too few classes.
    """
    described: dict[str, Any] = {"source": source or "unknown", "split": "train", "count": 0, "fingerprint": ""}
    if source:
        config.data.source = source
        training = from_config(config.data)
        _check_same(folder, training, data)
        described |= {"count": len(training), "fingerprint": training.fingerprint, "source": training.name}
    return described | {
        "image_shape": list(data.image_shape),
        "num_classes": data.num_classes,
        "fields": list(data.fields),
    }


def _check_same(folder: pathlib.Path, training: DataSource, data: DataSpec) -> None:
    if training.fields != data.fields:
        raise ConfigError(f"--source: {training.name} has {' and '.join(training.fields)}: name one set of images")
    if training.image_shape != data.image_shape or training.num_classes < data.num_classes:
        raise ConfigError(
            f"--source: its images are {'x'.join(map(str, training.image_shape))} of {training.num_classes} classes, "
            f"the model of {folder} makes {'x'.join(map(str, data.image_shape))} of {data.num_classes}"
        )


def shapes_of(config: ConfigDict, data: DataSpec) -> TrainState:
    """Shapes and dtypes of the state of a run with this config; raises as `abstract_state` does."""
    return abstract_state(make_task(config, data, 1), data)


def write_run(
    workdir: pathlib.Path, config: ConfigDict, described: dict[str, Any], shapes: TrainState, params: dict[str, Any]
) -> None:
    """Makes a work directory at step 0 of these parameters, taken for averaged ones; the rest of the state is zeros.

    Raises:
      StorageError: the directory is taken.
    """
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    averaged = params if shapes.ema_params else {}
    with workdir_lib.locked(workdir):
        if (workdir / "config.json").exists():
            raise StorageError(f"--workdir={workdir}: is a work directory already; choose another")
        checkpoints = Checkpoints(workdir / "checkpoints")
        checkpoints.save(zeros.replace(params=params, ema_params=averaged), 0)
        checkpoints.close()
        workdir_lib.claim(workdir, config, described, {})
