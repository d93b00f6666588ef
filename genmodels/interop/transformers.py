"""A transformers model folder (a `ViTForImageClassification`, or a `ViTModel`) as a work directory.

google/vit-base-patch16-224-in21k, downloaded, is such a folder: config.json, model.safetensors and, where images are
not to be in [-1, 1], preprocessor_config.json, whose mean and deviation become part of the patch projection. What comes
of it classifies as theirs does, and serves as `config.init_from` or as a teacher.
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
    """The config and the data of a run that such a model could have come from.

    Raises:
      ValueError: names the key that has no equivalent.
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
    """Makes a work directory of a transformers folder; step 0, no training. A model without a head gets one of zeros.

    Args:
      source: the data it was trained on, as in config.data.source; needed only by metrics that compare with data.
    Raises:
      StorageError: a file is missing or damaged, or the work directory is taken.
      ConfigError, DataError: the model is something that genmodels has no equivalent for; or has other images.
    """
    model = workdir_lib.read_json(model_folder.existing(folder, "config.json", kind="transformers"))
    if not isinstance(model, dict):
        raise StorageError(f"{folder}: its config must be a JSON object")
    tensors = model_folder.read_tensors(folder, WEIGHTS, kind="transformers")
    try:
        config, data = config_of(model)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{folder}: the config cannot be understood: {error}") from error
    asked = folder / PREPROCESSOR
    try:
        scales = transformers_keys.normalisation_of(
            workdir_lib.read_json(asked) if asked.is_file() else {}, data.image_shape[-1]
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{asked}: cannot be understood: {error}") from error
    described = model_folder.describe(folder, config, data, source)
    shapes = model_folder.shapes_of(config, data)
    wanted = shapes.params[NETWORK]
    try:
        params = transformers_keys.params_of(tensors, config.model.depth)
    except ValueError as error:
        raise DataError(f"{folder}: {error}") from error
    params.setdefault(HEAD, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), wanted[HEAD]))
    if jax.tree.map(np.shape, params) != jax.tree.map(np.shape, wanted):
        raise DataError(f"{folder}: the shapes of {WEIGHTS} are not those that its config.json says")
    params = transformers_keys.normalised(params, *scales)
    model_folder.write_run(workdir, config, described, shapes, {NETWORK: params})
