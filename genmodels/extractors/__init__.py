"""The extractors, which are networks that map images to features and logits, by name.

digits, mnist, fashion_mnist     this project's own classifiers, whose weights are part of the package
inception[:PATH]                 the FID Inception, with weights at PATH, from the cache or downloaded; checked by hash
inception_unverified:PATH        any weights of the same layout; nothing measured with them is called fid
module:function                  your own extractor, which the function returns when called without arguments
"""

import dataclasses
import functools

from genmodels.core import user_code
from genmodels.errors import ConfigError, choose
from genmodels.extractors import classifiers, inception
from genmodels.extractors.base import Extracted, Extractor, NetworkExtractor, check_shape, logits_of
from genmodels.metrics.resize import RESIZES

__all__ = [
    "NAMES",
    "Extracted",
    "Extractor",
    "ExtractorSpec",
    "NetworkExtractor",
    "is_published",
    "is_user_extractor",
    "logits_of",
]

NAMES = (*classifiers.SHIPPED, inception.ID, inception.UNVERIFIED)


def is_user_extractor(spec: str) -> bool:
    """Whether a spec, as ExtractorSpec takes it, names code outside this package: "module:function"."""
    return user_code.is_user_code(spec) and spec.partition(":")[0] not in NAMES


def is_published(extractor: Extractor) -> bool:
    """Whether published numbers are made with this extractor's network, weights, layer and resize."""
    return (
        isinstance(extractor, NetworkExtractor)
        and extractor.id == inception.ID
        and extractor.sha256 == inception.WEIGHTS.sha256
        and extractor.layer in (inception.DEFAULT_LAYER, inception.SPATIAL)
        and extractor.resize in RESIZES
    )


@dataclasses.dataclass(frozen=True)
class ExtractorSpec:
    """Names an extractor and its settings without loading its weights.

    Attributes:
      spec: a name as listed at the head of this module, e.g. "digits" or "inception:PATH".
      resize: "none", "tf1" or "clean"; a user's own extractor fixes it itself.
      layer: layer of the FID Inception whose output is the features; empty is pool3.
    """

    spec: str
    resize: str = "none"
    layer: str = ""

    def __post_init__(self):
        """Raises ConfigError for an unknown extractor, resize or layer."""
        choose("resize", self.resize, ("none", *RESIZES))
        name, _, rest = self.spec.partition(":")
        if name in (inception.ID, inception.UNVERIFIED):
            choose(f"layer of {name}", self.layer or inception.DEFAULT_LAYER, inception.LAYERS)
            if name == inception.UNVERIFIED and not rest:
                raise ConfigError(f"--extractor={name} needs the path of its weights: --extractor={name}:PATH")
        elif self.layer:
            raise ConfigError(
                f"--layer={self.layer}: only --extractor=inception has layers to choose from; leave --layer out"
            )
        elif name in NAMES or not rest:
            choose("extractor", self.spec, NAMES)

    @property
    def id(self) -> str:
        """The id of the extractor, which is part of the names of its metrics; a user's own is loaded to ask for it."""
        name = self.spec.partition(":")[0]
        return name if name in NAMES else self.load().id

    def check(self, image_shape: tuple[int, ...]) -> None:
        """Checks, without loading weights, that the extractor takes images of shape (height, width, channel).

        A user's own extractor is not checked.

        Raises:
          DataError: size or channels do not fit; the message names the option that helps.
        """
        name = self.spec.partition(":")[0]
        if name in classifiers.SHIPPED:
            check_shape(name, classifiers.SHIPPED[name].shape, self.resize, image_shape)
        elif name in NAMES:
            check_shape(name, inception.SHAPE, self.resize, image_shape)

    def load(self) -> Extractor:
        """Loads the extractor; equal specs are loaded once.

        Raises:
          ConfigError: a user's own extractor cannot be imported, or is not an Extractor.
          DataError: the weights are missing, or their hash differs from the expected one.
        """
        return _load(self)


@functools.cache
def _load(extractor_spec: ExtractorSpec) -> Extractor:
    name, _, argument = extractor_spec.spec.partition(":")
    if name in classifiers.SHIPPED:
        return classifiers.load(name, extractor_spec.resize)
    if name in NAMES:
        layer = extractor_spec.layer or inception.DEFAULT_LAYER
        return inception.load(argument, extractor_spec.resize, layer, verified=name == inception.ID)
    return _load_user_extractor(name, argument, extractor_spec.resize)


def _load_user_extractor(module: str, function: str, resize: str) -> Extractor:
    spec = f"{module}:{function}"
    extractor = user_code.call("--extractor", spec)
    if not isinstance(extractor, Extractor) or not callable(extractor):
        raise ConfigError(
            f"--extractor={spec}: the function must return an object that has id, sha256, layer, dimension and resize, "
            "and that can be called with images"
        )
    if extractor.id in NAMES or not (isinstance(extractor.id, str) and extractor.id.isidentifier()):
        raise ConfigError(
            f"--extractor={spec}: its id {extractor.id!r} is taken, or is not one word; choose another id"
        )
    if resize not in ("none", extractor.resize):
        raise ConfigError(f"--extractor={spec} resizes by {extractor.resize!r}; --resize={resize} cannot change that")
    return extractor
