"""The FID Inception: the network of models.inception with the weights with which published numbers are made.

The weights file is the PyTorch port of TensorFlow's graph of 2015-12-05, released with pytorch-fid. Other weights of
the same layout can be used as well, but numbers measured with them have another name (`evaluators.distribution`).
"""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from genmodels.errors import DataError
from genmodels.extractors.base import NetworkExtractor
from genmodels.extractors.torch_file import read_tensors
from genmodels.extractors.weights import WeightsFile, check, digest, find
from genmodels.models import inception

WEIGHTS = WeightsFile(
    name="pt_inception-2015-12-05-6726825d.pth",
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    size=95_628_359,
)
BATCH_NORM_EPSILON = 1e-3
NORM = ("weight", "bias", "running_mean", "running_var")
DEFAULT_LAYER, SPATIAL = "pool3", "spatial"
LAYERS = {DEFAULT_LAYER: 2048, "mixed6": 768, "pool2": 192, "pool1": 64, SPATIAL: 2023, "logits": inception.CLASSES}
SHAPE = (inception.SIZE, inception.SIZE, 3)
ID, UNVERIFIED = "inception", "inception_unverified"


@functools.cache
def _layout() -> dict[str, tuple[int, ...]]:
    """The name and shape of every entry that a PyTorch state dict of the network must have."""
    image = jax.ShapeDtypeStruct((1, *SHAPE), np.float32)
    params = jax.eval_shape(inception.Inception().init, jax.random.key(0), image)["params"]
    fc = params.pop("fc")["kernel"].shape
    layout: dict[str, tuple[int, ...]] = {"fc.weight": fc[::-1], "fc.bias": fc[1:]}
    for name, layer in params.items():
        block, _, branch = name.rpartition("_branch")
        stem = f"{block}.branch{branch}" if block else name
        height, width, channels_in, channels_out = layer["conv"]["kernel"].shape
        layout[f"{stem}.conv.weight"] = (channels_out, channels_in, height, width)
        layout |= {f"{stem}.bn.{part}": (channels_out,) for part in NORM}
    return layout


def folded(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The parameters of `models.inception.Inception` from a PyTorch state dict.

    Batch norms are folded into the convolutions before them, in float64.

    Raises:
      ValueError: an entry is missing, unknown or has another shape.
    """
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    layout = _layout()
    for name in sorted(layout.keys() - state.keys()):
        raise ValueError(f"lacks the tensor {name}; it must have the layout of the FID Inception ({WEIGHTS.name})")
    for name in sorted(state.keys() - layout.keys()):
        raise ValueError(f"has a tensor {name!r} that the FID Inception ({WEIGHTS.name}) does not have")
    for name, shape in layout.items():
        if state[name].shape != shape:
            raise ValueError(f"the tensor {name} has shape {state[name].shape}, in the FID Inception it has {shape}")
    params: dict[str, Any] = {"fc": {"kernel": state["fc.weight"].T, "bias": state["fc.bias"]}}
    for name in (name for name in layout if name.endswith(".conv.weight")):
        stem = name.removesuffix(".conv.weight")
        weight, bias, mean, variance = (state[f"{stem}.bn.{part}"].astype(np.float64) for part in NORM)
        scale = weight / np.sqrt(variance + BATCH_NORM_EPSILON)
        kernel = state[name].astype(np.float64).transpose(2, 3, 1, 0) * scale
        conv = {"kernel": kernel.astype(np.float32), "bias": (bias - mean * scale).astype(np.float32)}
        params[stem.replace(".", "_")] = {"conv": conv}
    return params


def load(path: str, resize: str, layer: str = DEFAULT_LAYER, verified: bool = True) -> NetworkExtractor:
    """Loads the FID Inception as an extractor, whose logits have no bias, as the Inception Score requires.

    Args:
      path: of the weights file; if empty, the file is taken from the cache or downloaded.
      resize: "tf1" or "clean", or "none" for images of 299x299.
      layer: a key of LAYERS.
      verified: whether the hash of the weights is checked; if not, the extractor has the id UNVERIFIED.
    Raises:
      DataError: the weights are missing, have another hash, or do not have the layout of the network.
    """
    file = pathlib.Path(path) if path else find(WEIGHTS)
    if verified and path:
        check(file, WEIGHTS)
    sha256 = digest(file)
    try:
        params = folded(read_tensors(file))
    except ValueError as error:
        raise DataError(str(error) if str(file) in str(error) else f"{file}: {error}") from error
    model = inception.Inception()

    def apply(variables, images):
        taps: Any = model.apply(variables, (images - 128) / 128)
        return getattr(taps, layer), taps.unbiased

    return NetworkExtractor(
        id=ID if verified else UNVERIFIED,
        sha256=sha256,
        layer=layer,
        dimension=LAYERS[layer],
        resize=resize,
        shape=SHAPE,
        apply=apply,
        variables={"params": params},
        value_range="(x - 128) / 128 of 0-255",
        batch_size=32,
    )
