"""What samples drawn during training tell of a run: which classes the project's classifiers see in them."""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import UInt8

from genmodels.errors import DataError
from genmodels.extractors import ExtractorSpec
from genmodels.extractors.classifiers import SHIPPED

Images = UInt8[np.ndarray, "N height width channel"]
MOST, LEAST = 0.5, 0.85  # a class should have no more of the samples, and no fewer of the classes be among them
SHARE = "drawn_share_"


def sample_classifiers(selections: Iterable[ExtractorSpec | None], image_shape: tuple[int, ...]) -> list[ExtractorSpec]:
    """Those of an evaluation's extractors that are classifiers of ours and take images of this shape."""
    found = {extractor for extractor in selections if extractor is not None and extractor.spec in SHIPPED}
    fitting = []
    for extractor in sorted(found, key=lambda one: one.spec):
        try:
            extractor.check(image_shape)
        except DataError:  # training can do without
            continue
        fitting.append(extractor)
    return fitting


def class_shares(images: Images, extractor: ExtractorSpec) -> dict[str, float]:
    """`drawn_share_C`, the share of each class C.

    And `drawn_class_max`, the share of the commonest; `drawn_class_coverage`, the share of classes that occur.
    """
    logits = extractor.load()(images).logits
    shares = np.bincount(np.argmax(logits, -1), minlength=logits.shape[1]) / len(logits)
    totals = {"drawn_class_max": float(shares.max()), "drawn_class_coverage": float(np.mean(shares > 0))}
    return totals | {f"{SHARE}{name}": float(share) for name, share in enumerate(shares)}


def watch(values: Mapping[str, float]) -> Iterable[str]:
    """Warns of samples that show few classes, or one above all."""
    most, coverage = values.get("drawn_class_max", 0.0), values.get("drawn_class_coverage", 1.0)
    if most > MOST or coverage < LEAST:
        absent = [name.removeprefix(SHARE) for name, share in values.items() if name.startswith(SHARE) and not share]
        seen = f"none is of class {', '.join(absent)}" if absent else "all classes are seen"
        yield f"few classes: {most:.0%} of the drawn samples are of one class, {seen}"
