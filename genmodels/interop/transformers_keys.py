"""transformers' `ViTForImageClassification` and our `ViT`: the same network under other names.

A transformers model is a folder with config.json and model.safetensors. Beside names, layouts differ: their patch
projection is [out, in, height, width] and their dense layers [out, in]; their position embeddings have the class
token's first and then the grid as one row. Files carry the names of before transformers 5, a model in memory the new.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from genmodels.models.vit import GRID, HEAD

Tensors = Mapping[str, np.ndarray]

# Keys whose other values our network has no equivalent for, and the value it takes, the library's default.
ONLY = {"model_type": "vit", "hidden_act": "gelu", "qkv_bias": True}

# Names of before transformers 5, and what they are now.
RENAMED = (
    (r"encoder\.layer\.", "layers."),
    (r"attention\.attention\.(query|key|value)", lambda match: f"attention.{match[1][0]}_proj"),
    (r"attention\.output\.dense", "attention.o_proj"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"(layers\.\d+)\.output\.dense", r"\1.mlp.fc2"),
)
BLOCK = {  # of ours: of theirs
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
    """The settings of our `ViT` for a config.json of `ViTForImageClassification`, `num_classes` apart.

    Raises:
      ValueError: names the key that has no equivalent.
    """
    for key, wanted in ONLY.items():
        if config.get(key, wanted) != wanted:
            raise ValueError(f"{key}={config[key]!r} has no equivalent here; it must be {wanted!r}")
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
    """(mean, standard deviation) that a preprocessor_config.json takes of each channel of images in [0, 1].

    Raises:
      ValueError: names the key that has no equivalent.
    """
    if not math.isclose(preprocessor.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-3) or not preprocessor.get(
        "do_rescale", True
    ):
        raise ValueError("do_rescale, rescale_factor: images in other ranges than [0, 1] have no equivalent here")
    if not preprocessor.get("do_normalize", True):
        return np.zeros(channels), np.ones(channels)
    found = []
    for key in ("image_mean", "image_std"):
        values = np.broadcast_to(np.asarray(preprocessor.get(key, 0.5), np.float64), channels)
        if not np.isfinite(values).all() or (key == "image_std" and values.min() <= 0):
            raise ValueError(f"{key}={preprocessor[key]!r}: must be finite numbers, and deviations positive")
        found.append(values)
    return found[0], found[1]


def normalised(params: dict[str, Any], mean: np.ndarray, deviation: np.ndarray) -> dict[str, Any]:
    """`params` for images in [-1, 1], where they were made for (x - mean) / deviation of images x in [0, 1].

    Patches have no padding, so that the patch projection can do it.
    """
    projection = params["trunk"]["patches"]["projection"]
    kernel = np.asarray(projection["kernel"], np.float64)
    moved = projection["bias"] + np.einsum("hwio,i->o", kernel, (0.5 - mean) / deviation)
    scaled = kernel * (0.5 / deviation)[:, None]
    patches = {"projection": {"kernel": scaled.astype(np.float32), "bias": moved.astype(np.float32)}}
    return params | {"trunk": params["trunk"] | {"patches": patches}}


def _new_name(name: str) -> str:
    name = name.removeprefix("vit.")
    for old, new in RENAMED:
        name = re.sub(old, new, name)
    return name


def params_of(tensors: Tensors, depth: int) -> dict[str, Any]:
    """The parameters of our `ViT`, float32, for such a model's tensors, one without a head included.

    Raises:
      ValueError: a tensor is missing, left over, or has no square grid.
    """
    left = {_new_name(name): np.asarray(value, np.float32) for name, value in tensors.items()}
    left = {name: value for name, value in left.items() if not name.startswith("pooler.")}  # not of the classifier

    def take(name):
        if name not in left:
            raise ValueError(f"has no tensor {name}: not a ViTForImageClassification of {depth} layers")
        return left.pop(name)

    def dense(name):
        return {"kernel": take(f"{name}.weight").T, "bias": take(f"{name}.bias")}

    def norm(name):
        return {"norm": {"scale": take(f"{name}.weight"), "bias": take(f"{name}.bias")}}

    places = take("embeddings.position_embeddings")[0]
    side = math.isqrt(len(places) - 1)
    if side * side != len(places) - 1:
        raise ValueError(f"{len(places) - 1} positions are no square grid")
    trunk = {
        "class_token": take("embeddings.cls_token")[0, 0],
        "class_position": places[0],
        GRID: places[1:].reshape(side, side, -1),
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
    if "classifier.weight" in left:
        params[HEAD] = dense("classifier")
    if left:
        raise ValueError(f"tensor {min(left)} has no place in a network of {depth} layers")
    return params
