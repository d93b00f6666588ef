"""The project's own digits classifier as a feature extractor: 8x8 grey images to 64 features and 10 logits.

Trained by experiments/classifier_digits.py on the 1,500 training digits; the weights are package data. It is no
Inception: numbers from it are called fd_digits and agreement_digits and compare with nothing published.
"""

import functools
import hashlib
import importlib.resources
import io

import jax
import numpy as np
from jaxtyping import Float, UInt8

from genmodels.errors import DataError
from genmodels.models.convnet import ConvNet

ID = "digits"
SHA256 = "c261a8e2ca04dd6ea1e8f9d9ebd12e46e32e4c82d98ca9b8f857da3f7375984b"
LAYER = "hidden"
DIMENSION = 64
IMAGE_SHAPE = (8, 8, 1)


@functools.cache
def load() -> tuple[ConvNet, dict]:
    """The network and its variables.

    Raises:
      DataError: the weights are not those this version was released with.
    """
    data = importlib.resources.files("genmodels.extractors").joinpath("weights/digits.npz").read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise DataError(f"extractors/weights/digits.npz has sha256 {found}, expected {SHA256}; reinstall genmodels")
    params: dict = {}
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        for name in file.files:
            _, layer, leaf = name.split(".")
            params.setdefault(layer, {})[leaf] = file[name]
    return ConvNet(num_classes=10), {"params": params}


@functools.cache
def _apply():
    model, variables = load()
    return jax.jit(lambda images: model.apply(variables, images.astype(np.float32) / 127.5 - 1))


def extract(
    images: UInt8[np.ndarray, "N 8 8 1"], batch_size: int = 512
) -> tuple[Float[np.ndarray, "N 64"], Float[np.ndarray, "N 10"]]:
    """(features, logits) of uint8 images.

    Raises:
      DataError: images of another shape.
    """
    if images.shape[1:] != IMAGE_SHAPE:
        raise DataError(f"the digits extractor takes 8x8x1 images, got {'x'.join(map(str, images.shape[1:]))}")
    features, logits = [], []
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        padded = np.concatenate([part, np.zeros((batch_size - len(part), *IMAGE_SHAPE), np.uint8)])
        out_logits, out_features = _apply()(padded)
        features.append(np.asarray(out_features)[: len(part)])
        logits.append(np.asarray(out_logits)[: len(part)])
    return np.concatenate(features), np.concatenate(logits)
