"""What evaluators take and give: sets of images that know where they come from, and results that carry a protocol."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from genmodels.data.pixels import Mixed, Pixels
from genmodels.metrics.moments import Gaussian


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """uint8 images [N, height, width, channel], their labels if any, and protocol entries that describe them.

    Attributes:
      images: an array; or a stack that reads its rows when asked, whose images may even differ in size (data.pixels).
      fingerprint: of its contents, by which what was computed from it is kept on disk; "" where it is not worth it.
      class_names: of the labels, where they are known.
    """

    images: UInt8[np.ndarray, "N height width channel"] | Pixels | Mixed
    labels: Int[np.ndarray, " N"] | None
    origin: Mapping[str, Any]
    fingerprint: str = ""
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.images.shape[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """In the place of reference images: what a statistics file holds of them.

    Attributes:
      extractor: what made it, as `statistics.identity` has it; None where the file does not say.
    """

    gaussian: Gaussian
    extractor: Mapping[str, Any] | None
    origin: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Result:
    """One number and how it came about; `as_json` is an entry of evaluate's "results".

    Attributes:
      curve: {"title", "x_label", "y_label", "x": [...], "y": [...]}, a picture of what the number is made of.
      table: {"title", "row_label", "column_label", "names": [...], "counts": [[...]]}, a square of counts likewise.
    """

    name: str
    value: float
    protocol: Mapping[str, Any]
    curve: Mapping[str, Any] | None = None
    table: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """{"name", "value", "protocol"}, and "curve" and "table" where there are such."""
        shown = {"curve": self.curve, "table": self.table}
        more = {key: dict(value) for key, value in shown.items() if value is not None}
        return {"name": self.name, "value": self.value, "protocol": dict(self.protocol)} | more


@dataclasses.dataclass(frozen=True)
class Options:
    """How distributions and pairs are compared; the flags of evaluate and keys of config.eval of the same names.

    Attributes:
      subsets, subset_size: of the kernel distance.
      neighbours: of precision, recall, density and coverage.
      splits: of the classifier score.
      lpips_trunk, lpips_linear: weights files of LPIPS.
    """

    subsets: int = 100
    subset_size: int = 1000
    neighbours: int = 3
    splits: int = 10
    lpips_trunk: str = ""
    lpips_linear: str = ""


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """One way to measure `nll`.

    Attributes:
      name: of the predict function.
      protocol: what its numbers mean, its options among it.
      options: those that differ from the function's own.
      images: how many of the reference it sees; 0 is all.
    """

    name: str
    protocol: Mapping[str, Any]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    images: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """All that an evaluator may draw on; what a call has not got is None.

    Attributes:
      generated: samples of the model or of a path.
      reference: held-out images of the data set, or of a path.
      training: the images the model was trained on.
      predict: (name, num, inputs, seed, **options) of a run, see inference.Predictor.
      protocol: entries that belong to every result (seed, versions, checkpoint).
      timesteps: of the one-step reconstructions.
      functions: the predict functions of the run, by name.
      likelihoods: what `nll` measures.
      options: of the comparisons.
    """

    generated: ImageSet | None = None
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
