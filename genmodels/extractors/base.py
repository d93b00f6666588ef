"""The protocol that every extractor fulfils, and the extractor that runs a Flax network on all devices."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Float32, UInt8

from genmodels.errors import ConfigError, DataError
from genmodels.metrics.resize import resize, resize_on_host

Images = UInt8[np.ndarray, "N height width channel"]


class Extracted(NamedTuple):
    """The output of an extractor for N images.

    Attributes:
      features: one row per image.
      logits: unnormalised log probabilities of classes; None if the extractor does not classify.
    """

    features: Float32[np.ndarray, "N d"]
    logits: Float32[np.ndarray, "N classes"] | None


@runtime_checkable
class Extractor(Protocol):
    """A callable that maps images to features, with attributes that describe it; plain attributes will do."""

    @property
    def id(self) -> str:
        """One word, which is part of the names of its metrics: fd_<id>."""

    @property
    def sha256(self) -> str:
        """The hash of its weights."""

    @property
    def layer(self) -> str:
        """The name of the layer whose output is the features."""

    @property
    def dimension(self) -> int:
        """The length of a feature vector."""

    @property
    def resize(self) -> str:
        """How it resizes images to its input size: "none", "tf1", "clean" or a word of your own."""

    def __call__(self, images: Images) -> Extracted:
        """Features and logits of uint8 images."""


def logits_of(extractor: Extractor, found: Extracted) -> Float32[np.ndarray, "N classes"]:
    """The logits among an extractor's output.

    Raises:
      ConfigError: the extractor does not classify.
    """
    if found.logits is None:
        raise ConfigError(f"the extractor {extractor.id} returns no logits, but metrics of classes need them")
    return found.logits


def check_shape(id: str, input_shape: tuple[int, ...], resize: str, image_shape: tuple[int, ...]) -> None:
    """Checks that a network can take images of a shape.

    Args:
      id: of the extractor, for the message.
      input_shape: (height, width, channel) that the network takes.
      resize: "none" requires images of that height and width.
      image_shape: (height, width, channel) of the images; one channel always fits.
    Raises:
      DataError: the shape does not fit; the message names the option that helps.
    """
    found = "x".join(map(str, image_shape))
    channels = input_shape[2]
    if image_shape[2] not in (channels, 1):
        raise DataError(
            f"the extractor {id} takes images of {channels} channel{'s' if channels > 1 else ''}, these are {found}; "
            f'convert them: \'folder("DIR", convert="{"rgb" if channels == 3 else "grey"}")\''
        )
    if resize == "none" and tuple(image_shape[:2]) != tuple(input_shape[:2]):
        raise DataError(
            f"the extractor {id} takes {'x'.join(map(str, input_shape))} images, these are {found}; choose how to "
            "resize them: --resize=clean or --resize=tf1"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkExtractor:
    """An Extractor that resizes images and runs a network on all devices of this process.

    Attributes:
      id, sha256, layer, dimension, resize: see `Extractor`.
      shape: (height, width, channel) that the network takes; a grey image is repeated for three channels.
      apply: maps (variables, float32 images in 0-255) to (features, logits or None).
      variables: of the network.
      value_range: how `apply` scales images, for protocols.
      batch_size: images per call of the network, rounded up to a multiple of the devices; the last batch is padded.
    """

    id: str
    sha256: str
    layer: str
    dimension: int
    resize: str
    shape: tuple[int, int, int]
    apply: Callable[[Any, Float[Array, "batch height width channel"]], tuple[Array, Array | None]]
    variables: Any
    value_range: str
    batch_size: int = 64

    @functools.cached_property
    def _run(self) -> Callable:
        mesh = Mesh(np.asarray(jax.local_devices()), ("devices",))
        replicated, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("devices"))
        variables = jax.device_put(self.variables, replicated)

        @functools.partial(jax.jit, in_shardings=(replicated, split), static_argnums=2)
        def run(variables, images, kind):
            x = images.astype(np.float32) if kind == "none" else resize(kind, images, self.shape[0])
            if x.shape[3] != self.shape[2]:
                x = x.repeat(self.shape[2], axis=3)
            return self.apply(variables, x)

        return lambda images, kind: jax.device_get(run(variables, images, kind))

    def _batches(self, images: np.ndarray, kind: str) -> Extracted:
        devices = jax.local_device_count()
        size = -(-self.batch_size // devices) * devices
        parts = []
        for start in range(0, len(images), size):
            rows = images[start : start + size]
            padding = np.zeros((size - len(rows), *images.shape[1:]), images.dtype)
            features, logits = self._run(np.concatenate([rows, padding]), kind)
            parts.append((features[: len(rows)], None if logits is None else logits[: len(rows)]))
        features, logits = zip(*parts, strict=True)
        return Extracted(np.concatenate(features), None if logits[0] is None else np.concatenate(logits))

    def __call__(self, images: Images) -> Extracted:
        """Features and logits of images of one size.

        Raises:
          DataError: the network cannot take images of this shape.
        """
        check_shape(self.id, self.shape, self.resize, images.shape[1:])
        return self._batches(images, self.resize)

    def mixed(self, images: Sequence[UInt8[np.ndarray, "_ _ _"]]) -> Extracted:
        """Features and logits of images of different sizes; each is resized on the host, by the same method.

        Raises:
          DataError: the network cannot take one of the images.
        """
        for image in images:
            check_shape(self.id, self.shape, self.resize, image.shape)
        same = [np.broadcast_to(image, (*image.shape[:2], self.shape[2])) for image in images]
        if self.resize == "none":
            return self._batches(np.stack(same), "none")
        return self._batches(np.stack([resize_on_host(self.resize, image, self.shape[0]) for image in same]), "none")
