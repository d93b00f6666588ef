"""Functions that every foreign format needs to turn a model folder into a work directory. Weights are safetensors."""

import pathlib
import re
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

SHARD = re.compile(r"-\d+-of-\d+\.")  # in the names of files that hold a part of the weights


def existing(folder: pathlib.Path, name: str, sub: str = "", kind: str = "diffusers") -> pathlib.Path:
    """The path of a file in a model folder's sub-folder or, where it is not there, in the model folder itself.

    Args:
      folder: the model folder.
      name: of the file.
      sub: name of the sub-folder; "" is none.
      kind: library that wrote the folder, for the message.
    Raises:
      StorageError: the file does not exist.
    """
    for path in (place / name for place in _places(folder, sub)):
        if path.is_file():
            return path
    raise _missing(folder, name, sub, kind)


def _missing(folder: pathlib.Path, name: str, sub: str, kind: str) -> StorageError:
    if not folder.is_dir():
        return StorageError(f"{folder}: no such folder")
    missing = f"neither {name} nor {sub}/{name}" if sub else f"no {name}"
    return StorageError(f"{folder}: has {missing}; is it a {kind} model folder?")


def _places(folder: pathlib.Path, sub: str) -> list[pathlib.Path]:
    return [folder / sub, folder] if sub else [folder]


def read_tensors(folder: pathlib.Path, name: str, sub: str = "", kind: str = "diffusers") -> dict[str, np.ndarray]:
    """All tensors of a model folder's safetensors, in one file or in several; for the arguments see `existing`.

    A folder may have the weights in several variants, which the file names tell: NAME.fp16.safetensors. Those without a
    variant are preferred.

    Raises:
      StorageError: a file is missing or damaged, or there are several variants to choose from. If the weights exist
        only as a pickle, the message says so; a pickle is never read.
    """
    stem = name.removesuffix(".safetensors")
    for place in _places(folder, sub):
        for found in (_named(place, stem, ""), _named(place, stem, "*")):
            if len(found) > 1:
                raise StorageError(
                    f"{place}: has the weights in {len(found)} variants ({', '.join(path.name for path in found)}); "
                    "leave one of them there"
                )
            if found:
                return _of_index(found[0]) if found[0].suffix == ".json" else _of_file(found[0])
    for path in (path for place in _places(folder, sub) for path in sorted(place.glob(f"{stem}*"))):
        if ".bin" in path.suffixes:
            raise StorageError(
                f"{path}: is a pickle and is never read; save the weights as {name} by {kind}' save_pretrained with "
                "safe_serialization=True"
            )
        if SHARD.search(path.name):
            raise StorageError(f"{path}: is a part of the weights; copy {name}.index.json too, which lists all parts")
    raise _missing(folder, name, sub, kind)


def _named(place: pathlib.Path, stem: str, variant: str) -> list[pathlib.Path]:
    """The files that hold or list all weights: whole files or, if there is none, indices of several files."""
    dot = f".{variant}" if variant else ""
    whole = [path for path in place.glob(f"{stem}{dot}.safetensors") if not SHARD.search(path.name)]
    indices = {f"{stem}{dot}.safetensors.index.json", f"{stem}.safetensors.index{dot}.json"}
    return sorted(whole) or sorted(path for pattern in indices for path in place.glob(pattern))


def _of_file(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{path}: cannot be read as float tensors, copy it again: {error}") from error


def _of_index(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors that an index lists in "weight_map", {tensor: file}, from files beside it."""
    index = workdir_lib.read_json(path)
    where = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(where, dict) or not all(isinstance(file, str) for file in where.values()):
        raise StorageError(f'{path}: has no "weight_map" of tensors to files, copy it again')
    found: dict[str, np.ndarray] = {}
    for file in sorted(set(where.values())):
        if pathlib.PurePath(file).name != file or not file.endswith(".safetensors"):
            raise StorageError(f"{path}: names {file!r}, which is not a .safetensors file beside it")
        if not (path.parent / file).is_file():
            raise StorageError(f"{path.parent / file}: no such file, although {path.name} names it; copy it too")
        found |= _of_file(path.parent / file)
    missing = sorted(where.keys() - found.keys())
    if missing:
        raise StorageError(f"{path}: names the tensor {missing[0]!r} in {where[missing[0]]}, which lacks it")
    return found


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
