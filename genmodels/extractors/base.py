"""What an extractor is, and the one that runs a Flax network on all devices."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Float32, UInt8

from genmodels.errors import DataError
from genmodels.metrics.resize import resize, resize_on_host

Images = UInt8[np.ndarray, "N height width channel"]


class Extracted(NamedTuple):
    """What an extractor says of images; logits are None where it does not classify."""

    features: Float32[np.ndarray, "N d"]
    logits: Float32[np.ndarray, "N classes"] | None


@runtime_checkable
class Extractor(Protocol):
    """Images to features.

    Attributes:
      id: part of the names of its metrics: fd_<id>.
      sha256: of its weights, which with `id` is its identity.
      layer: where its features come from.
      dimension: of the features.
      resize: "none", "tf1", "clean" or a word of your own: how it brings images to its size.
    """

    id: str
    sha256: str
    layer: str
    dimension: int
    resize: str

    def __call__(self, images: Images) -> Extracted:
        """Features and logits, float32."""


def check_shape(id: str, wanted: tuple[int, ...], resize: str, image_shape: tuple[int, ...]) -> None:
    """Raises DataError for images that a network of this input shape cannot take, saying which option mends it."""
    found = "x".join(map(str, image_shape))
    if image_shape[2] not in (wanted[2], 1):
        raise DataError(
            f"the extractor {id} takes images of {wanted[2]} channel{'s' if wanted[2] > 1 else ''}, these are {found}; "
            f'convert them: \'folder("DIR", convert="{"rgb" if wanted[2] == 3 else "grey"}")\''
        )
    if resize == "none" and tuple(image_shape[:2]) != tuple(wanted[:2]):
        raise DataError(
            f"the extractor {id} takes {'x'.join(map(str, wanted))} images, these are {found}; name a resize to bring "
            "them there: --resize=clean or tf1"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkExtractor:
    """An Extractor that resizes and runs a network on all devices of this process, padding the last batch.

    Attributes:
      shape: (height, width, channel) that the network takes; grey images are repeated for three channels.
      apply: (variables, images of 0-255 in float32) -> (features, logits or None).
      value_range: of what the network sees, for protocols.
      batch_size: rows a call, rounded up to a multiple of the devices.
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
        everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("devices"))
        variables = jax.device_put(self.variables, everywhere)

        @functools.partial(jax.jit, in_shardings=(everywhere, split), static_argnums=2)
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
        """Features and logits, float32.

        Raises:
          DataError: images that the network cannot take.
        """
        check_shape(self.id, self.shape, self.resize, images.shape[1:])
        return self._batches(images, self.resize)

    def mixed(self, images: Sequence[UInt8[np.ndarray, "_ _ _"]]) -> Extracted:
        """As a call, for images of different sizes: each is resized on the host, by the same numbers.

        Raises:
          DataError: an image that the network cannot take.
        """
        for image in images:
            check_shape(self.id, self.shape, self.resize, image.shape)
        same = [np.broadcast_to(image, (*image.shape[:2], self.shape[2])) for image in images]
        if self.resize == "none":
            return self._batches(np.stack(same), "none")
        return self._batches(np.stack([resize_on_host(self.resize, image, self.shape[0]) for image in same]), "none")
