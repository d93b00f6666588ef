"""Functions that every foreign format needs to turn a model folder into a work directory. Weights are safetensors."""

import pathlib
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from ml_collections import ConfigDict

from genmodels.core.checkpoint import Checkpoints
from genmodels.core.state import TrainState
from genmodels.data.base import LISTING, DataSource
from genmodels.data.sources import from_config
from genmodels.errors import ConfigError, StorageError
from genmodels.runs import workdir as workdir_lib
from genmodels.runs.inference import abstract_state
from genmodels.tasks import DataSpec, make_task


def existing(folder: pathlib.Path, name: str, sub: str = "", kind: str = "diffusers") -> pathlib.Path:
    """The path of a file in a model folder or in its sub-folder.

    Args:
      folder: the model folder.
      name: of the file.
      sub: name of the sub-folder; "" is none.
      kind: library that wrote the folder, for the message.
    Raises:
      StorageError: the file does not exist.
    """
    candidates = [folder / name, *([folder / sub / name] if sub else [])]
    for path in candidates:
        if path.is_file():
            return path
    if not folder.is_dir():
        raise StorageError(f"{folder}: no such folder")
    missing = f"neither {name} nor {sub}/{name}" if sub else f"no {name}"
    raise StorageError(f"{folder}: has {missing}; is it a {kind} model folder?")


def read_tensors(folder: pathlib.Path, name: str, sub: str = "", kind: str = "diffusers") -> dict[str, np.ndarray]:
    """All tensors of a safetensors file in a model folder; for the arguments see `existing`.

    Raises:
      StorageError: the file is missing or damaged. If the weights exist only as a pickle, the message says so; a pickle
        is never read.
    """
    try:
        path = existing(folder, name, sub, kind)
    except StorageError as error:
        if any(folder.glob("**/*.bin")):
            raise StorageError(
                f"{folder}: the weights are in a .bin file, which is a pickle and is never read; save them as {name} "
                f"by {kind}' save_pretrained with safe_serialization=True"
            ) from error
        raise
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{path}: cannot be read as float tensors, copy it again: {error}") from error


def describe(folder: pathlib.Path, config: ConfigDict, data: DataSpec, source: str) -> dict[str, Any]:
    """The contents of data.json for a converted model.

    Args:
      folder: the model folder, for messages.
      config: of the run; its data.source becomes `source`.
      data: the shapes that the model takes.
      source: the data on which the model was trained; "" if it is unknown.
    Raises:
      ConfigError: the images of `source` have another shape, or it has too few classes.
    """
    described: dict[str, Any] = {"source": source or "unknown", "split": "train", "count": 0, "fingerprint": ""}
    names: list[str] = []
    if source:
        config.data.source = source
        training = from_config(config.data)
        _check_same(folder, training, data)
        described |= {"count": len(training), "fingerprint": training.fingerprint, "source": training.name}
        names = list(training.class_names) if training.num_classes == data.num_classes else []
    return described | {
        "class_names": names,
        "listing": LISTING,
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
            f"the model of {folder} is for {'x'.join(map(str, data.image_shape))} of {data.num_classes} classes"
        )


def shapes_of(config: ConfigDict, data: DataSpec) -> TrainState:
    """The shapes and dtypes of the state of a run with this config; raises the errors of `abstract_state`."""
    return abstract_state(make_task(config, data, 1), data)


def write_run(
    workdir: pathlib.Path, config: ConfigDict, described: dict[str, Any], shapes: TrainState, params: dict[str, Any]
) -> None:
    """Creates a work directory whose checkpoint, at step 0, holds the converted parameters.

    The parameters are also stored as averaged ones if the run keeps an average. The rest of the state is zeros.

    Args:
      workdir: to create.
      config: of the run.
      described: from `describe`.
      shapes: from `shapes_of`.
      params: parameters by network.
    Raises:
      StorageError: `workdir` is a work directory already.
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
