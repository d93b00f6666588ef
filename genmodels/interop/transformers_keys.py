"""Translates settings and weights of transformers' `ViTForImageClassification` to our `ViT`.

The two are the same network with different parameter names. Layouts differ too: transformers' patch projection is
[out, in, height, width], its dense layers are [out, in], and its position embeddings are one row, the class token's
first and then the grid's. Files have the names that were used before transformers 5, a model in memory may have the
current ones; both are accepted.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from genmodels.models.vit import GRID, HEAD

Tensors = Mapping[str, np.ndarray]

# Config keys of which our network has only this value, which is the default of transformers.
SUPPORTED_VALUES = {"model_type": "vit", "hidden_act": "gelu", "qkv_bias": True}

# Patterns of names before transformers 5, and their replacements.
RENAMED = (
    (r"encoder\.layer\.", "layers."),
    (r"attention\.attention\.(query|key|value)", lambda match: f"attention.{match[1][0]}_proj"),
    (r"attention\.output\.dense", "attention.o_proj"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"(layers\.\d+)\.output\.dense", r"\1.mlp.fc2"),
)
BLOCK = {  # our names in a block: transformers' names
    "attention/query": "attention.q_proj",
    "attention/key": "attention.k_proj",
    "attention/value": "attention.v_proj",
    "attention/project": "attention.o_proj",
    "mlp/in": "mlp.fc1",
    "mlp/out": "mlp.fc2",
    "norm_attention/norm": "layernorm_before",
    "norm_mlp/norm": "layernorm_after",
}


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of our `ViT`, without `num_classes`, for a config.json of `ViTForImageClassification`.

    Raises:
      ValueError: a key has no equivalent; the message names it.
    """
    for key, supported in SUPPORTED_VALUES.items():
        if config.get(key, supported) != supported:
            raise ValueError(f"{key}={config[key]!r} has no equivalent in genmodels; it must be {supported!r}")
    sizes = {
        "patch_size": config.get("patch_size", 16),
        "width": config.get("hidden_size", 768),
        "depth": config.get("num_hidden_layers", 12),
        "heads": config.get("num_attention_heads", 12),
        "hidden": config.get("intermediate_size", 3072),
    }
    for key, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{key}={value!r}: must be a whole number")
    return sizes | {
        "pooling": "class",
        "positions": "learned",
        "dropout": float(config.get("hidden_dropout_prob", 0.0)),
        "norm_epsilon": float(config.get("layer_norm_eps", 1e-12)),
    }


def normalisation_of(preprocessor: Mapping[str, Any], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean and standard deviation by which the model's preprocessor normalises each channel of images in [0, 1].

    Args:
      preprocessor: contents of preprocessor_config.json.
      channels: of the images.
    Raises:
      ValueError: a key has no equivalent or an invalid value; the message names it.
    """
    if not math.isclose(preprocessor.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-3) or not preprocessor.get(
        "do_rescale", True
    ):
        raise ValueError(
            "do_rescale, rescale_factor: must scale images to [0, 1]; other ranges have no equivalent in genmodels"
        )
    if not preprocessor.get("do_normalize", True):
        return np.zeros(channels), np.ones(channels)
    found = []
    for key in ("image_mean", "image_std"):
        values = np.broadcast_to(np.asarray(preprocessor.get(key, 0.5), np.float64), channels)
        if not np.isfinite(values).all() or (key == "image_std" and values.min() <= 0):
            raise ValueError(f"{key}={preprocessor[key]!r}: must be finite numbers, and image_std positive")
        found.append(values)
    return found[0], found[1]


def normalised(params: dict[str, Any], mean: np.ndarray, deviation: np.ndarray) -> dict[str, Any]:
    """Parameters for images in [-1, 1], from parameters for (x - mean) / deviation of images x in [0, 1].

    The patch projection takes over the normalisation, which is exact because patches have no padding.
    """
    projection = params["trunk"]["patches"]["projection"]
    kernel = np.asarray(projection["kernel"], np.float64)
    shifted_bias = projection["bias"] + np.einsum("hwio,i->o", kernel, (0.5 - mean) / deviation)
    scaled_kernel = kernel * (0.5 / deviation)[:, None]
    patches = {"projection": {"kernel": scaled_kernel.astype(np.float32), "bias": shifted_bias.astype(np.float32)}}
    return params | {"trunk": params["trunk"] | {"patches": patches}}


def _new_name(name: str) -> str:
    name = name.removeprefix("vit.")
    for old, new in RENAMED:
        name = re.sub(old, new, name)
    return name


def params_of(tensors: Tensors, depth: int) -> dict[str, Any]:
    """The parameters of our `ViT`, float32, from the tensors of a model with or without a head.

    Args:
      tensors: by transformers' names.
      depth: number of encoder blocks.
    Raises:
      ValueError: a tensor is missing or left over, or the position embeddings do not form a square grid.
    """
    remaining = {_new_name(name): np.asarray(value, np.float32) for name, value in tensors.items()}
    # The pooler is not a part of the classifier.
    remaining = {name: value for name, value in remaining.items() if not name.startswith("pooler.")}

    def take(name):
        if name not in remaining:
            raise ValueError(f"has no tensor {name}; it is not a ViTForImageClassification of {depth} layers")
        return remaining.pop(name)

    def dense(name):
        return {"kernel": take(f"{name}.weight").T, "bias": take(f"{name}.bias")}

    def norm(name):
        return {"norm": {"scale": take(f"{name}.weight"), "bias": take(f"{name}.bias")}}

    positions = take("embeddings.position_embeddings")[0]
    side = math.isqrt(len(positions) - 1)
    if side * side != len(positions) - 1:
        raise ValueError(f"its {len(positions) - 1} position embeddings do not form a square grid")
    trunk = {
        "class_token": take("embeddings.cls_token")[0, 0],
        "class_position": positions[0],
        GRID: positions[1:].reshape(side, side, -1),
        "patches": {
            "projection": {
                "kernel": take("embeddings.patch_embeddings.projection.weight").transpose(2, 3, 1, 0),
                "bias": take("embeddings.patch_embeddings.projection.bias"),
            }
        },
        "norm": norm("layernorm"),
    }
    for index in range(depth):
        block: dict[str, Any] = {}
        for ours, theirs in BLOCK.items():
            module, _, part = ours.partition("/")
            name = f"layers.{index}.{theirs}"
            block.setdefault(module, {}).update(norm(name) if part == "norm" else {part: dense(name)})
        trunk[f"block_{index}"] = block
    params = {"trunk": trunk}
    if "classifier.weight" in remaining:
        params[HEAD] = dense("classifier")
    if remaining:
        raise ValueError(f"the tensor {min(remaining)} does not belong to a network of {depth} layers")
    return params
