"""Networks that turn images into features and logits, by name.

digits, mnist, fashion_mnist     this project's own classifiers, shipped
inception[:PATH]                 the FID Inception; found in the cache, downloaded, or at PATH; its hash must be right
inception_unverified:PATH        any weights of that layout; nothing measured with them is called fid
module:function                  your own: the function, called without arguments, returns an Extractor
"""

import dataclasses
import functools

from genmodels.core import user_code
from genmodels.errors import ConfigError, choose
from genmodels.extractors import classifiers, inception
from genmodels.extractors.base import Extracted, Extractor, NetworkExtractor, check_shape
from genmodels.metrics.resize import RESIZES

__all__ = ["NAMES", "Extracted", "Extractor", "ExtractorSpec", "NetworkExtractor", "is_published"]

NAMES = (*classifiers.SHIPPED, inception.ID, inception.UNVERIFIED)


def is_published(extractor: Extractor) -> bool:
    """Whether it is the network, with the weights, the layer and a resize, that published numbers are made with."""
    return (
        isinstance(extractor, NetworkExtractor)
        and extractor.id == inception.ID
        and extractor.sha256 == inception.WEIGHTS.sha256
        and extractor.layer in (inception.DEFAULT_LAYER, inception.SPATIAL)
        and extractor.resize in RESIZES
    )


@dataclasses.dataclass(frozen=True)
class ExtractorSpec:
    """Which extractor is meant, not loaded yet.

    Attributes:
      spec: see above.
      resize: "none", "tf1" or "clean"; one of the user's own has its own.
      layer: of the FID Inception; empty is pool3.
    """

    spec: str
    resize: str = "none"
    layer: str = ""

    def __post_init__(self):
        """Raises ConfigError: no such extractor, resize or layer."""
        choose("resize", self.resize, ("none", *RESIZES))
        name, _, rest = self.spec.partition(":")
        if name in (inception.ID, inception.UNVERIFIED):
            choose(f"layer of {name}", self.layer or inception.DEFAULT_LAYER, inception.LAYERS)
            if name == inception.UNVERIFIED and not rest:
                raise ConfigError(f"--extractor={name} needs the path of its weights: {name}:PATH")
        elif self.layer:
            raise ConfigError(f"--layer={self.layer}: only the FID Inception has layers to choose from")
        elif name in NAMES or not rest:
            choose("extractor", self.spec, NAMES)

    @property
    def id(self) -> str:
        """Of the extractor."""
        name = self.spec.partition(":")[0]
        return name if name in NAMES else self.load().id

    def check(self, image_shape: tuple[int, ...]) -> None:
        """Raises DataError for images [height, width, channel] that it cannot take; without loading weights."""
        name = self.spec.partition(":")[0]
        if name in classifiers.SHIPPED:
            check_shape(name, classifiers.SHIPPED[name].shape, self.resize, image_shape)
        elif name in NAMES:
            check_shape(name, inception.SHAPE, self.resize, image_shape)

    def load(self) -> Extractor:
        """The extractor.

        Raises:
          ConfigError: it is the user's own, and none.
          DataError: its weights are missing or not what they should be.
        """
        return _load(self)


@functools.cache
def _load(selection: ExtractorSpec) -> Extractor:
    name, _, rest = selection.spec.partition(":")
    if name in classifiers.SHIPPED:
        return classifiers.load(name, selection.resize)
    if name in NAMES:
        layer = selection.layer or inception.DEFAULT_LAYER
        return inception.load(rest, selection.resize, layer, verified=name == inception.ID)
    return _own(name, rest, selection.resize)


def _own(module: str, function: str, resize: str) -> Extractor:
    spec = f"{module}:{function}"
    extractor = user_code.call("--extractor", spec)
    if not isinstance(extractor, Extractor) or not callable(extractor):
        raise ConfigError(
            f"--extractor={spec}: what it returned has not all of id, sha256, layer, dimension and resize, or cannot "
            "be called with images"
        )
    if extractor.id in NAMES or not (isinstance(extractor.id, str) and extractor.id.isidentifier()):
        raise ConfigError(f"--extractor={spec}: its id {extractor.id!r} is taken, or is no plain word")
    if resize not in ("none", extractor.resize):
        raise ConfigError(f"--extractor={spec} resizes by {extractor.resize!r}; --resize={resize} cannot change that")
    return extractor
