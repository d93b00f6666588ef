"""The FID Inception: the network of models.inception with the weights that published numbers are made with.

The weights file is the PyTorch port of TensorFlow's graph of 2015-12-05, released with pytorch-fid. Other weights of
that layout can be used too; numbers from them are called by another name.
"""

import pathlib
from collections.abc import Mapping

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
DEFAULT_LAYER, SPATIAL = "pool3", "spatial"
LAYERS = {DEFAULT_LAYER: 2048, "mixed6": 768, "pool2": 192, "pool1": 64, SPATIAL: 2023, "logits": inception.CLASSES}
SHAPE = (inception.SIZE, inception.SIZE, 3)
ID, UNVERIFIED = "inception", "inception_unverified"


def folded(state: Mapping[str, np.ndarray]) -> dict:
    """Parameters of `inception.Inception` from a PyTorch state dict; batch norms folded in, in float64.

    Raises:
      ValueError: an entry is missing, too many, or of another shape.
    """
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    used, params = {"fc.weight", "fc.bias"}, {}
    for name in state:
        if not name.endswith(".conv.weight"):
            continue
        stem = name.removesuffix(".conv.weight")
        norm = [f"{stem}.bn.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        if missing := [key for key in norm if key not in state]:
            raise ValueError(f"lacks {missing[0]}")
        used |= {name, *norm}
        weight, bias, mean, variance = (state[key].astype(np.float64) for key in norm)
        scale = weight / np.sqrt(variance + BATCH_NORM_EPSILON)
        kernel = state[name].astype(np.float64).transpose(2, 3, 1, 0) * scale
        folded_bias = bias - mean * scale
        conv = {"kernel": kernel.astype(np.float32), "bias": folded_bias.astype(np.float32)}
        params[stem.replace(".", "_")] = {"conv": conv}
    if extra := sorted(state.keys() - used):
        raise ValueError(f"has {extra[0]}, which the FID Inception has not")
    if missing := [key for key in ("fc.weight", "fc.bias") if key not in state]:
        raise ValueError(f"lacks {missing[0]}")
    params["fc"] = {"kernel": state["fc.weight"].T, "bias": state["fc.bias"]}
    image = jax.ShapeDtypeStruct((1, inception.SIZE, inception.SIZE, 3), np.float32)
    wanted = jax.eval_shape(inception.Inception().init, jax.random.key(0), image)["params"]
    found, wanted = (
        {jax.tree_util.keystr(k): v.shape for k, v in jax.tree_util.tree_leaves_with_path(t)} for t in (params, wanted)
    )
    if found != wanted:
        name = sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))[0]
        raise ValueError(f"differs from the FID Inception at {name}: {found.get(name)} instead of {wanted.get(name)}")
    return params


def load(path: str, resize: str, layer: str = DEFAULT_LAYER, verified: bool = True) -> NetworkExtractor:
    """The extractor.

    Args:
      path: of the weights; empty finds or downloads them.
      resize: "tf1" or "clean"; "none" for images of 299x299.
      layer: of LAYERS; the logits beside its features are those without bias, as Inception Score takes them.
      verified: False takes any weights of the layout, and another id.
    Raises:
      DataError: no or other weights.
    """
    file = pathlib.Path(path) if path else find(WEIGHTS)
    if verified and path:
        check(file, WEIGHTS)
    try:
        params = folded(read_tensors(file))
    except ValueError as error:
        raise DataError(str(error) if str(file) in str(error) else f"{file}: {error}") from error
    model = inception.Inception()

    def apply(variables, images):
        taps = model.apply(variables, (images - 128) / 128)
        return getattr(taps, layer), taps.unbiased

    return NetworkExtractor(
        id=ID if verified else UNVERIFIED,
        sha256=digest(file),
        layer=layer,
        dimension=LAYERS[layer],
        resize=resize,
        shape=SHAPE,
        apply=apply,
        variables={"params": params},
        value_range="(x - 128) / 128 of 0-255",
        batch_size=32,
    )
