"""Diagnostics of the samples drawn during training: how often the project's classifiers assign them to each class."""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import UInt8

from genmodels.errors import DataError
from genmodels.extractors import ExtractorSpec, logits_of
from genmodels.extractors.classifiers import SHIPPED

Images = UInt8[np.ndarray, "N height width channel"]
MAX_CLASS_SHARE = 0.5  # a warning is given if one class has a larger share of the samples
MIN_CLASS_COVERAGE = 0.85  # a warning is given if a smaller share of the classes occurs
CLASS_SHARE_PREFIX = "drawn_share_"


def sample_classifiers(
    extractor_specs: Iterable[ExtractorSpec | None], image_shape: tuple[int, ...]
) -> list[ExtractorSpec]:
    """The extractors of an evaluation that are shipped classifiers and take images of this shape.

    Args:
      extractor_specs: of the evaluation's metrics; None for metrics without an extractor.
      image_shape: (height, width, channel).
    """
    classifiers = {spec for spec in extractor_specs if spec is not None and spec.spec in SHIPPED}
    fitting = []
    for classifier in sorted(classifiers, key=lambda spec: spec.spec):
        try:
            classifier.check(image_shape)
        except DataError:  # training goes on without this diagnostic
            continue
        fitting.append(classifier)
    return fitting


def class_shares(images: Images, classifier: ExtractorSpec) -> dict[str, float]:
    """How the classes of a classifier are represented among images, as shares in [0, 1].

    Returns:
      `drawn_class_max`, the share of images in the most frequent class; `drawn_class_coverage`, the share of classes
      that occur at all; and for each class C `drawn_share_C`, its share of the images.
    """
    extractor = classifier.load()
    logits = logits_of(extractor, extractor(images))
    shares = np.bincount(np.argmax(logits, -1), minlength=logits.shape[1]) / len(logits)
    totals = {"drawn_class_max": float(shares.max()), "drawn_class_coverage": float(np.mean(shares > 0))}
    return totals | {f"{CLASS_SHARE_PREFIX}{name}": float(share) for name, share in enumerate(shares)}


def watch(values: Mapping[str, float]) -> Iterable[str]:
    """Yields a warning if one class has too large a share of the samples, or too many classes are absent.

    Args:
      values: from `class_shares`; metrics with other names are ignored.
    """
    class_max, coverage = values.get("drawn_class_max", 0.0), values.get("drawn_class_coverage", 1.0)
    if class_max > MAX_CLASS_SHARE or coverage < MIN_CLASS_COVERAGE:
        shares = {name: share for name, share in values.items() if name.startswith(CLASS_SHARE_PREFIX)}
        absent = [name.removeprefix(CLASS_SHARE_PREFIX) for name, share in shares.items() if not share]
        seen = f"none is of class {', '.join(absent)}" if absent else "all classes are seen"
        yield f"few classes: {class_max:.0%} of the drawn samples are of one class, {seen}"
