"""The inputs and outputs of evaluators: sets of images with their origin, and results with their protocol."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from genmodels.data.pixels import MixedPixels, Pixels, gather, of_one_size
from genmodels.errors import ConfigError
from genmodels.metrics.moments import Gaussian


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """A set of N images with labels, and protocol entries that describe it.

    Attributes:
      images: uint8 [N, height, width, channel]; either an array, or an object that reads rows on demand, whose images
        may differ in size (data.pixels).
      labels: one class per image, or None.
      origin: protocol entries that say where the images come from.
      fingerprint: of the contents, the key under which statistics of the set are cached; "" turns caching off.
      class_names: names of the classes, or () if they are unknown.
      files: the name of each image's file, or () if the images come from no files.
    """

    images: Pixels | MixedPixels
    labels: Int[np.ndarray, " N"] | None
    origin: Mapping[str, Any]
    fingerprint: str = ""
    class_names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.images.shape[0]

    def gathered(self) -> UInt8[np.ndarray, "N height width channel"]:
        """All images as one array."""
        return gather(self.of_one_size())

    def of_one_size(self) -> Pixels:
        """The images, for metrics that compare them as they are.

        Raises:
          DataError: they differ in size.
        """
        return of_one_size(self.images, str(next(iter(self.origin.values()), "a set of images")))

    def require_labels(self) -> Int[np.ndarray, " N"]:
        """The labels.

        Raises:
          ConfigError: the set has none.
        """
        if self.labels is None:
            raise ConfigError(
                f"a metric needs labels, but {next(iter(self.origin.values()), 'a set of images')} has none"
            )
        return self.labels


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """The contents of a statistics file, which can be given instead of images.

    Attributes:
      gaussian: mean and covariance of the features.
      extractor: the `statistics.identity` of the extractor that made the file; None if the file does not state it.
      origin: protocol entries that name the file.
    """

    gaussian: Gaussian
    extractor: Mapping[str, Any] | None
    origin: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Result:
    """One measured number with its protocol; `as_json` is an entry of evaluate's "results".

    Attributes:
      name: of the metric.
      value: of the metric.
      protocol: entries that say what was measured and how.
      curve: {"title", "x_label", "y_label", "x": [...], "y": [...]}, a curve that the report draws beside the number.
      table: {"title", "row_label", "column_label", "names": [...], "counts": [[...]]}, a square table of counts that
        the report shows beside the number.
    """

    name: str
    value: float
    protocol: Mapping[str, Any]
    curve: Mapping[str, Any] | None = None
    table: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """A dictionary with the keys "name", "value" and "protocol", and "curve" and "table" if they are not None."""
        optional = {"curve": self.curve, "table": self.table}
        present = {key: dict(value) for key, value in optional.items() if value is not None}
        return {"name": self.name, "value": self.value, "protocol": dict(self.protocol)} | present


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of metrics, which are flags of evaluate and keys of config.eval with the same names.

    Attributes:
      subsets: number of random subsets that the kernel distance averages over.
      subset_size: images in a subset of the kernel distance.
      neighbours: number of nearest neighbours in precision, recall, density and coverage.
      splits: parts of the samples that the classifier score averages over.
      lpips_trunk: file with the weights of LPIPS's network.
      lpips_linear: file with the weights of LPIPS's linear layers.
    """

    subsets: int = 100
    subset_size: int = 1000
    neighbours: int = 3
    splits: int = 10
    lpips_trunk: str = ""
    lpips_linear: str = ""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Options":
        """The settings that have these names; those that are absent are as by default."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: settings[name] for name in names if name in settings})


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """One kind of likelihood that `nll` measures.

    Attributes:
      name: of the predict function.
      protocol: entries that say what its numbers mean, including all its options.
      options: the options that differ from the function's defaults.
      images: number of reference images; 0 is all.
    """

    name: str
    protocol: Mapping[str, Any]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    images: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """Everything that an evaluator may use; what is not available is None or empty.

    Attributes:
      generated: samples of the model, or images or a statistics file at a path.
      reference: held-out images of the data set, or images or a statistics file at a path.
      training: the images on which the model was trained.
      predict: calls a predict function of the run: (name, num, inputs, seed, **options), see inference.Predictor.
      conditional: whether predict functions that take an image also take its label.
      protocol: entries that belong to every result (seed, versions, checkpoint).
      timesteps: of the one-step reconstructions.
      functions: the predict functions of the run, by name.
      likelihoods: the kinds of likelihood that `nll` measures.
      options: settings of the metrics.
      seed: of all random choices.
    """

    generated: ImageSet | Statistics | None = None
    reference: ImageSet | Statistics | None = None
    training: ImageSet | None = None
    predict: Callable[..., dict[str, np.ndarray]] | None = None
    conditional: bool = False
    protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    timesteps: tuple[int, ...] = ()
    functions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    likelihoods: tuple[Likelihood, ...] = ()
    options: Options = Options()
    seed: int = 0

    def require_set(self, role: str) -> ImageSet | Statistics:
        """The set "generated", "reference" or "training".

        Raises:
          ConfigError: it is not available.
        """
        found = {"generated": self.generated, "reference": self.reference, "training": self.training}[role]
        if found is None:
            raise ConfigError(f"a metric needs {role} images, which are not given; set `{role}` of the Context")
        return found

    def require_images(self, role: str) -> ImageSet:
        """The set "generated", "reference" or "training", which must be images.

        Raises:
          ConfigError: it is not available, or is a statistics file.
        """
        found = self.require_set(role)
        if isinstance(found, Statistics):
            raise ConfigError(f"a metric needs the {role} images themselves, but a file of their statistics is given")
        return found

    def call(self, function: str, num: int, inputs: Mapping[str, Any], **options: Any) -> dict[str, np.ndarray]:
        """The outputs of a predict function of the run for `num` rows of inputs.

        Raises:
          ConfigError: no run is given.
        """
        if self.predict is None:
            raise ConfigError(f"a metric needs a run with its function {function!r}; set `predict` of the Context")
        return self.predict(function, num, inputs, seed=self.seed, **options)
