"""What evaluators take and give: sets of images that know where they come from, and results that carry a protocol."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from genmodels.data.pixels import Pixels


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """uint8 images [N, height, width, channel], their labels if any, and protocol entries that describe them.

    Those of a training split may be a stack that reads its rows when asked (data.pixels).
    """

    images: UInt8[np.ndarray, "N height width channel"] | Pixels
    labels: Int[np.ndarray, " N"] | None
    origin: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Result:
    """One number and how it came about; `as_json` is an entry of evaluate's "results".

    Attributes:
      curve: {"title", "x_label", "y_label", "x": [...], "y": [...]}, a picture of what the number is made of.
    """

    name: str
    value: float
    protocol: Mapping[str, Any]
    curve: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """{"name", "value", "protocol"} and the "curve" where there is one."""
        curve = {} if self.curve is None else {"curve": dict(self.curve)}
        return {"name": self.name, "value": self.value, "protocol": dict(self.protocol)} | curve


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
      likelihoods: the predict functions that give `nll`, each with the protocol entries that say what it means.
      likelihood_images: how many images of the reference they see; 0 is all.
    """

    generated: ImageSet | None = None
    reference: ImageSet | None = None
    training: ImageSet | None = None
    predict: Callable[..., dict[str, np.ndarray]] | None = None
    conditional: bool = False
    protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    timesteps: tuple[int, ...] = ()
    likelihoods: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    likelihood_images: int = 0
    seed: int = 0
