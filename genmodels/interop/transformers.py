"""Converts a transformers model folder (a `ViTForImageClassification` or a `ViTModel`) to a work directory.

A download of google/vit-base-patch16-224-in21k is such a folder. It has config.json, model.safetensors and, if the
model does not take images in [-1, 1], preprocessor_config.json, whose mean and standard deviation become part of the
patch projection. The converted run gives the same logits, and can be used as `config.init_from` or as a teacher.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genmodels import config as config_lib
from genmodels.errors import ConfigError, DataError, StorageError
from genmodels.interop import model_folder, transformers_keys
from genmodels.models.vit import HEAD
from genmodels.runs import workdir as workdir_lib
from genmodels.tasks import DataSpec
from genmodels.tasks.classifier import NETWORK

WEIGHTS = "model.safetensors"
PREPROCESSOR = "preprocessor_config.json"


def config_of(model: Mapping[str, Any]) -> tuple[ConfigDict, DataSpec]:
    """The config and the data of a run that could have produced such a model.

    Args:
      model: contents of config.json.
    Raises:
      ValueError: a key has no equivalent; the message names it.
    """
    settings = transformers_keys.settings_of(model)
    size, channels = model.get("image_size", 224), model.get("num_channels", 3)
    classes = len(model["id2label"]) if model.get("id2label") else model.get("num_labels", 2)
    for key, value in (("image_size", size), ("num_channels", channels), ("num_labels", classes)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{key}={value!r}: must be a whole number")
    config = config_lib.defaults("classifier", network="vit")
    config.data.source = ""
    config.model.update(settings)
    config.train.steps = 1
    config.eval.metrics = ("accuracy",)
    return config, DataSpec((size, size, channels), classes)


def read(folder: pathlib.Path, workdir: pathlib.Path, source: str = "") -> None:
    """Creates a work directory at step 0 from a transformers folder. A model without a head gets one of zeros.

    Args:
      folder: the transformers model folder.
      workdir: the work directory to create.
      source: the data on which the model was trained, as in config.data.source. It is needed only by metrics that
        compare with data.
    Raises:
      StorageError: a file is missing or damaged, or the work directory exists.
      ConfigError: something in the model has no equivalent, or `source` does not fit the model.
      DataError: a tensor of the weights is missing, left over or has another shape.
    """
    model = workdir_lib.read_json(model_folder.existing(folder, "config.json", kind="transformers"))
    if not isinstance(model, dict):
        raise StorageError(f"{folder}: its config.json must be a JSON object")
    tensors = model_folder.read_tensors(folder, WEIGHTS, kind="transformers")
    try:
        config, data = config_of(model)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{folder}: its config.json cannot be converted: {error}") from error
    preprocessor = folder / PREPROCESSOR
    try:
        mean_and_deviation = transformers_keys.normalisation_of(
            workdir_lib.read_json(preprocessor) if preprocessor.is_file() else {}, data.image_shape[-1]
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{preprocessor}: cannot be converted: {error}") from error
    described = model_folder.describe(folder, config, data, source)
    shapes = model_folder.shapes_of(config, data)
    expected = shapes.params[NETWORK]
    try:
        params = transformers_keys.params_of(tensors, config.model.depth)
    except ValueError as error:
        raise DataError(f"{folder}: {error}") from error
    params.setdefault(HEAD, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), expected[HEAD]))
    if jax.tree.map(np.shape, params) != jax.tree.map(np.shape, expected):
        raise DataError(f"{folder}: the tensors of {WEIGHTS} do not have the shapes that config.json requires")
    params = transformers_keys.normalised(params, *mean_and_deviation)
    model_folder.write_run(workdir, config, described, shapes, {NETWORK: params})
