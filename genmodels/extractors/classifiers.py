"""This project's own classifiers as extractors: digits (8x8), MNIST and Fashion-MNIST (28x28), each grey, ten classes.

They were trained by experiments/classifier_{digits,mnist}.py on the training split, and their weights are part of the
package. Because none of them is the FID Inception, numbers measured with them are called fd_<id>, kd_<id>, ... and are
not comparable to published ones.
"""

import dataclasses
import hashlib
import importlib.resources
import io

import numpy as np

from genmodels.errors import DataError
from genmodels.extractors.base import NetworkExtractor
from genmodels.models.convnet import ConvNet

LAYER = "hidden"


@dataclasses.dataclass(frozen=True)
class Shipped:
    """A classifier whose weights are part of the package.

    Attributes:
      sha256: of the weights file.
      side: height and width of its images in pixels.
      channels, features: see `models.convnet.ConvNet`.
    """

    sha256: str
    side: int
    channels: tuple[int, ...]
    features: int = 64

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channel) of the images it takes."""
        return self.side, self.side, 1


SHIPPED = {
    "digits": Shipped("c261a8e2ca04dd6ea1e8f9d9ebd12e46e32e4c82d98ca9b8f857da3f7375984b", 8, (24, 48, 48)),
    "mnist": Shipped("3d18d5191e53ebe52a69995154e2deb637e6c9814fc7ec9b8a7acd9a1371651a", 28, (16, 32, 48, 48)),
    "fashion_mnist": Shipped("e3804f8bf627061b8f6d083e6894fe00972e76a8974c9adc1de365d7c6721bd7", 28, (16, 32, 48, 48)),
}


def load(name: str, resize: str = "none") -> NetworkExtractor:
    """Loads a shipped classifier.

    Args:
      name: a key of SHIPPED.
      resize: "none", "tf1" or "clean".
    Raises:
      DataError: the hash of the weights file is not the expected one.
    """
    shipped = SHIPPED[name]
    data = importlib.resources.files("genmodels.extractors").joinpath(f"weights/{name}.npz").read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != shipped.sha256:
        raise DataError(
            f"extractors/weights/{name}.npz has sha256 {found}, expected {shipped.sha256}; reinstall genmodels"
        )
    params: dict = {}
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        for key in file.files:
            _, layer, leaf = key.split(".")
            params.setdefault(layer, {})[leaf] = file[key]
    model = ConvNet(num_classes=10, channels=shipped.channels, features=shipped.features)

    def apply(variables, images):
        logits, features = model.apply(variables, images / 127.5 - 1)
        return features, logits

    return NetworkExtractor(
        id=name,
        sha256=shipped.sha256,
        layer=LAYER,
        dimension=shipped.features,
        resize=resize,
        shape=shipped.shape,
        apply=apply,
        variables={"params": params},
        value_range="x / 127.5 - 1 of 0-255",
        batch_size=512,
    )
