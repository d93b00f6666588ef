"""Translates settings and weights between diffusers' `UNet2DModel` and our `UNet`, in both directions.

The two are the same network with different parameter names. Arrays are numpy arrays. Settings without an equivalent in
our network are refused by name. Layouts differ too: diffusers' convolutions are [out, in, height, width] and its dense
layers [out, in]. With `flip_sin_to_cos` diffusers' time embedding has the cosines first; for this, the rows of the
first dense layer are swapped.

Attention layers may have the names that diffusers used before 0.13 (query, key, value, proj_attn), as in the files of
google/ddpm-*.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from genmodels.interop import diffusers_defaults
from genmodels.models.unet import UNet
from genmodels.nn.norms import num_groups

Tensors = Mapping[str, np.ndarray]

OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

# Config keys of which our network has only these values.
SUPPORTED_VALUES = {
    "act_fn": ("silu", "swish"),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "add_attention": (True,),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2D",),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,),
    "freq_shift": (0, 1),
    "downsample_padding": (1, 0),
}
DOWN = {"DownBlock2D": False, "AttnDownBlock2D": True}
UP = {"UpBlock2D": False, "AttnUpBlock2D": True}


def _attention_of(config: Mapping[str, Any], key: str, known: Mapping[str, bool]) -> list[bool]:
    """Whether each level has attention, from the names of its blocks."""
    found = []
    if len(config[key]) != len(config["block_out_channels"]):
        raise ValueError(f"{key}: must name as many blocks as block_out_channels has widths")
    for name in config[key]:
        if name not in known:
            raise ValueError(f"{key}: {name} has no equivalent in genmodels; these have: {', '.join(known)}")
        found.append(known[name])
    return found


def _attention_resolutions(size: Any, levels: int, attention: list[bool]) -> tuple[int, ...]:
    """The heights of the feature maps that have attention, for images of `size` pixels a side."""
    if not any(attention):
        return ()
    if isinstance(size, bool) or not isinstance(size, int):
        raise ValueError(
            f"sample_size={size!r}: must be a whole number, which determines the resolutions that have attention"
        )
    return tuple(-(-size // 2**level) for level, has in zip(range(levels), attention, strict=False) if has)


def settings_of(config: Mapping[str, Any], *, null_label: bool = False) -> dict[str, Any]:
    """The settings of our `UNet`, including `out_channels` and `num_classes`, for a config.json of `UNet2DModel`.

    Args:
      config: contents of config.json.
      null_label: whether the last class is the null label. Our network always has a null label; if the last class is
        a proper class, a null label that was never trained is added.
    Raises:
      ValueError: a key is missing or its value has no equivalent; the message names it.
    """
    class_name = config.get("_class_name", diffusers_defaults.UNET_CLASS)
    if class_name != diffusers_defaults.UNET_CLASS:
        raise ValueError(f"_class_name={class_name!r} has no equivalent in genmodels; it must be UNet2DModel")
    if not config.keys() & diffusers_defaults.UNET.keys():
        raise ValueError("config.json has no setting of a UNet2DModel")
    config, _ = diffusers_defaults.completed(config, class_name, diffusers_defaults.UNET)
    for value in config["block_out_channels"]:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"block_out_channels={config['block_out_channels']!r}: must be whole numbers")
    for key, supported in SUPPORTED_VALUES.items():
        if config[key] not in supported:
            raise ValueError(
                f"{key}={config[key]!r} has no equivalent in genmodels; it must be {' or '.join(map(str, supported))}"
            )
    groups = config["norm_num_groups"]
    scale_shift = config["resnet_time_scale_shift"] == "scale_shift"
    middle = config["attn_norm_num_groups"]
    if (groups if middle is None and not scale_shift else middle) != groups:
        raise ValueError(
            f"attn_norm_num_groups={middle}: the attention in the middle must have a norm of norm_num_groups={groups} "
            "groups, as all other norms"
        )
    widths = tuple(config["block_out_channels"])
    if not widths or min(widths) < 1:
        raise ValueError(f"block_out_channels={list(widths)}: must be positive")
    base = widths[0]
    if any(width % base for width in widths):
        raise ValueError(f"block_out_channels={list(widths)}: each width must be a multiple of the first")
    down, up = _attention_of(config, "down_block_types", DOWN), _attention_of(config, "up_block_types", UP)
    if down != up[::-1]:
        raise ValueError("up_block_types must have attention at the same levels as down_block_types")
    head_channels = config["attention_head_dim"]
    classes = config["num_class_embeds"] or 0
    return {
        "out_channels": config["out_channels"],
        "channels": base,
        "multipliers": tuple(width // base for width in widths),
        "blocks": config["layers_per_block"],
        "attention_resolutions": _attention_resolutions(config["sample_size"], len(widths), down),
        "heads": 1,
        "head_channels": head_channels or 0,
        "dropout": float(config["dropout"]),
        "num_classes": max(0, classes - null_label),
        "scale_shift": scale_shift,
        "norm_groups": groups,
        "norm_epsilon": float(config["norm_eps"]),
        "downsample_padding": "symmetric" if config["downsample_padding"] else "same",
        "frequency_shift": float(config["freq_shift"]),
    }


def config_of(model: UNet, size: int, in_channels: int) -> dict[str, Any]:
    """The config.json of the `UNet2DModel` that is equivalent to our network on images of size x size.

    Raises:
      ValueError: the network has something that `UNet2DModel` lacks: norms with different numbers of groups, attention
        heads of different widths, a frequency shift other than 0 or 1, or feature maps of odd size.
    """
    levels = range(len(model.multipliers))
    widths = [model.channels * multiplier for multiplier in model.multipliers]
    if size % 2 ** (len(widths) - 1):
        raise ValueError(
            f"images of {size} pixels lead to feature maps of odd size, to which diffusers cannot upsample; set "
            f"config.data.size to a multiple of {2 ** (len(widths) - 1)}, or fewer config.model.multipliers"
        )
    groups = {model.norm_groups or num_groups(width) for width in _norm_widths(model)}
    if len(groups) > 1:
        raise ValueError(
            f"with config.model.norm_groups=0 its norms have {', '.join(map(str, sorted(groups)))} groups, in "
            f"diffusers all have one number; config.model.norm_groups={math.gcd(*groups)} would do"
        )
    attention = [-(-size // 2**level) in model.attention_resolutions for level in levels]
    attention_widths = {width for width, has in zip(widths, attention, strict=True) if has}
    attention_widths.add(widths[-1])  # of the middle
    fixed_number = model.heads > 1 and not model.head_channels
    head_widths = {width // model.heads for width in attention_widths} if fixed_number else set()
    if len(head_widths) > 1:
        raise ValueError(
            f"with config.model.heads={model.heads} its attention heads have "
            f"{', '.join(map(str, sorted(head_widths)))} channels, in diffusers all have one number; set "
            "config.model.head_channels"
        )
    if model.frequency_shift not in (0, 1):
        raise ValueError(f"config.model.frequency_shift={model.frequency_shift} must be 0 or 1 for diffusers")
    num = groups.pop()
    return {
        "_class_name": "UNet2DModel",
        "act_fn": "silu",
        "add_attention": True,
        "attn_norm_num_groups": num if model.scale_shift else None,
        "attention_head_dim": model.head_channels or next(iter(head_widths), None),
        "block_out_channels": widths,
        "center_input_sample": False,
        "down_block_types": ["AttnDownBlock2D" if has else "DownBlock2D" for has in attention],
        "downsample_padding": 1 if model.downsample_padding == "symmetric" else 0,
        "dropout": model.dropout,
        "flip_sin_to_cos": False,
        "freq_shift": int(model.frequency_shift),
        "in_channels": in_channels,
        "layers_per_block": model.blocks,
        "mid_block_scale_factor": 1,
        "norm_eps": model.norm_epsilon,
        "norm_num_groups": num,
        "num_class_embeds": model.num_classes + 1 if model.num_classes else None,
        "out_channels": model.out_channels,
        "resnet_time_scale_shift": "scale_shift" if model.scale_shift else "default",
        "sample_size": size,
        "time_embedding_type": "positional",
        "up_block_types": ["AttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attention)],
    }


def _norm_widths(model: UNet) -> set[int]:
    """All numbers of channels to which a group norm is applied."""
    widths = [model.channels * multiplier for multiplier in model.multipliers]
    skips = [model.channels]
    for level, width in enumerate(widths):
        skips += [width] * (model.blocks + (level < len(widths) - 1))
    found, h = {model.channels, *widths}, widths[-1]
    for width in reversed(widths):
        for _ in range(model.blocks + 1):
            found.add(h + skips.pop())
            h = width
    return found


def _modules(model: UNet) -> Iterator[tuple[str, str, str]]:
    """The modules of the network as (our name, diffusers' name, kind).

    Kinds are conv, dense, norm, embedding, residual and attention.
    """
    yield from (("conv_in", "conv_in", "conv"), ("norm_out", "conv_norm_out", "norm"), ("conv_out", "conv_out", "conv"))
    yield from (("time_0", "time_embedding.linear_1", "dense"), ("time_1", "time_embedding.linear_2", "dense"))
    if model.num_classes:
        yield "label", "class_embedding", "embedding"
    yield from (("middle_0", "mid_block.resnets.0", "residual"), ("middle_1", "mid_block.resnets.1", "residual"))
    yield "middle_attention", "mid_block.attentions.0", "attention"
    count = len(model.multipliers)
    for level in range(count):
        directions = [
            ("down", f"down_blocks.{level}", model.blocks),
            ("up", f"up_blocks.{count - 1 - level}", model.blocks + 1),
        ]
        for direction, theirs, blocks in directions:
            for block in range(blocks):
                yield f"{direction}_{level}_{block}", f"{theirs}.resnets.{block}", "residual"
                yield f"{direction}_{level}_{block}_attention", f"{theirs}.attentions.{block}", "attention"
        if level < count - 1:
            yield f"downsample_{level}", f"down_blocks.{level}.downsamplers.0.conv", "conv"
        if level:
            yield f"upsample_{level}", f"up_blocks.{count - 1 - level}.upsamplers.0.conv", "conv"


PARTS = {
    "residual": (
        ("norm_in", "norm1", "norm"),
        ("conv_in", "conv1", "conv"),
        ("condition", "time_emb_proj", "dense"),
        ("norm_out", "norm2", "norm"),
        ("conv_out", "conv2", "conv"),
        ("shortcut", "conv_shortcut", "conv"),
    ),
    "attention": (
        ("norm", "group_norm", "norm"),
        ("query", "to_q", "dense"),
        ("key", "to_k", "dense"),
        ("value", "to_v", "dense"),
        ("project", "to_out.0", "dense"),
    ),
}
LEAVES = {
    "conv": (("kernel", "weight"), ("bias", "bias")),
    "dense": (("kernel", "weight"), ("bias", "bias")),
    "norm": (("norm/scale", "weight"), ("norm/bias", "bias")),
    "embedding": (("embedding", "weight"),),
}


def _leaves(model: UNet, params: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Every array that `params` has, as (our path, diffusers' name, kind)."""
    for ours, theirs, kind in _modules(model):
        if ours not in params:
            continue  # a level without attention
        for inner, outer, part in PARTS.get(kind, (("", "", kind),)):
            module = params[ours].get(inner) if inner else params[ours]
            if module is None:
                continue  # a residual block without shortcut, because the channels do not change
            prefix = (ours, inner) if inner else (ours,)
            name = f"{theirs}.{outer}" if outer else theirs
            for leaf, tensor in LEAVES[part]:
                yield (*prefix, *leaf.split("/")), f"{name}.{tensor}", part


def _from_torch(value: np.ndarray, kind: str) -> np.ndarray:
    if value.ndim == 1 or kind == "embedding":
        return value
    if kind == "dense":
        return value.reshape(value.shape[:2]).T  # in old files attention may have 1x1 convolutions
    return value.transpose(2, 3, 1, 0)


def _to_torch(value: np.ndarray, kind: str) -> np.ndarray:
    if value.ndim == 1 or kind == "embedding":
        return value
    return value.T if kind == "dense" else value.transpose(3, 2, 0, 1)


def _find(tensors: Tensors, name: str) -> str:
    """`name`, or the name that the same tensor had before diffusers 0.13."""
    for new, old in OLD_ATTENTION.items():
        if name not in tensors and f".{new}." in name:
            return name.replace(f".{new}.", f".{old}.")
    return name


def _at(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def params_of(tensors: Tensors, model: UNet, shapes: Mapping[str, Any], *, flip_sin_to_cos: bool) -> dict[str, Any]:
    """The parameters of `model`, float32, from the tensors of a `UNet2DModel`.

    Args:
      tensors: by diffusers' names.
      model: our network.
      shapes: the parameters of `model` as arrays or shapes, e.g. from `jax.eval_shape` of its init.
      flip_sin_to_cos: as in config.json.
    Raises:
      ValueError: a tensor is missing, is left over, has another shape, or has values that are not finite numbers.
    """
    params: dict[str, Any] = {}
    used = set()
    for path, name, kind in _leaves(model, shapes):
        found = _find(tensors, name)
        if found not in tensors:
            raise ValueError(f"the file has no tensor {name!r}")
        if tensors[found].dtype.kind in "biu":
            raise ValueError(f"tensor {found!r} has the dtype {tensors[found].dtype}, not a floating-point one")
        value = _from_torch(np.asarray(tensors[found], np.float32), kind)
        expected = tuple(_at(shapes, path).shape)
        if kind == "embedding" and len(value) == expected[0] - 1:
            value = np.pad(value, ((0, 1), (0, 0)))  # adds the null label
        if value.shape != expected:
            theirs = list(_to_torch(np.empty(expected), kind).shape)
            raise ValueError(f"tensor {found!r} has shape {list(tensors[found].shape)}, not {theirs}")
        if not np.isfinite(value).all():
            raise ValueError(f"tensor {found!r} has values that are not finite")
        if path == ("time_0", "kernel") and flip_sin_to_cos:
            value = np.roll(value, len(value) // 2, axis=0)
        used.add(found)
        inner = params
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = np.ascontiguousarray(value)
    unused = sorted(set(tensors) - used)
    if unused:
        raise ValueError(f"the file has {len(unused)} tensors that the config does not account for, e.g. {unused[0]!r}")
    return params


def tensors_of(params: Mapping[str, Any], model: UNet) -> dict[str, np.ndarray]:
    """The tensors, by current names, of a `UNet2DModel` with `flip_sin_to_cos=False`, from our parameters; float32."""
    return {
        name: np.ascontiguousarray(_to_torch(np.asarray(_at(params, path), np.float32), kind))
        for path, name, kind in _leaves(model, params)
    }
