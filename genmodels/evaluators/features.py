"""One pass of an extractor over a set of images, for all metrics that want something of it.

Moments and class scores stream, so their memory does not grow with the images; features are kept only for metrics that
compare images with each other. Moments of a set of known contents are kept on disk for the next time.
"""

import collections
import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32, Int

from genmodels.data.progress import Progress
from genmodels.errors import ConfigError, DataError
from genmodels.evaluators import statistics
from genmodels.evaluators.base import Context, ImageSet
from genmodels.extractors import Extracted, Extractor, Selection
from genmodels.metrics.inception_score import ScoreSums
from genmodels.metrics.moments import Gaussian, Moments

MOMENTS, SCORES, FEATURES, CLASSES = WANTS = ("moments", "scores", "features", "classes")
CHUNK = 512  # images read and extracted at a time
BYTES = 2**27  # of pixels in a chunk, at the most


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """What was wanted of a set of images; the rest is None.

    Attributes:
      gaussian: of the moments.
      scores: sums of the class score.
      features: of all images.
      classes: the most likely one of each image.
    """

    gaussian: Gaussian | None = None
    scores: ScoreSums | None = None
    features: Float32[np.ndarray, "N d"] | None = None
    classes: Int[np.ndarray, " N"] | None = None


def _extract(what: str, extractor: Extractor, images, start: int) -> Extracted:
    """Features and logits of some rows, checked."""
    count = len(images)
    if not isinstance(images, list):
        found = extractor(images)
    elif hasattr(extractor, "mixed"):
        found = extractor.mixed(images)
    else:
        each = [extractor(image[None]) for image in images]
        logits = None if each[0].logits is None else np.concatenate([one.logits for one in each])
        found = Extracted(np.concatenate([one.features for one in each]), logits)
    if found.features.shape != (count, extractor.dimension):
        wanted = (count, extractor.dimension)
        raise DataError(f"the extractor {extractor.id} gave features of shape {found.features.shape}, not {wanted}")
    for kind, values in (("features", found.features), ("logits", found.logits)):
        if values is not None and not np.isfinite(values).all():
            bad = start + int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise DataError(f"the extractor {extractor.id}: {kind} of image {bad} of {what} are not finite")
    return found


def _chunk(images: ImageSet) -> int:
    shape = images.images.shape[1:]
    return CHUNK if not shape else max(1, min(CHUNK, BYTES // int(np.prod(shape))))


def summarise(what: str, images: ImageSet, extractor: Extractor, wants: Iterable[str], splits: int) -> Summary:
    """Passes over the images once.

    Args:
      what: the role of the set, for messages.
      wants: of WANTS.
      splits: of the class score.
    Raises:
      DataError: features that are not finite, too few images, or no logits where they are wanted.
    """
    wants, pixels, count = set(wants), images.images, len(images)
    if wants == {MOMENTS} and (known := statistics.load_moments(extractor, images.fingerprint)):
        return Summary(gaussian=_gaussian(what, known))
    progress = Progress(f"{extractor.id} features of {what}", count)
    moments, scores, features, classes = None, None, [], []
    chunk = _chunk(images)
    for start in range(0, count, chunk):
        rows = pixels[np.arange(start, min(start + chunk, count))]
        found = _extract(what, extractor, rows, start)
        if wants & {SCORES, CLASSES} and found.logits is None:
            raise ConfigError(f"the extractor {extractor.id} has no logits, which a class score or agreement needs")
        if MOMENTS in wants:
            part = Moments.of(found.features)
            moments = part if moments is None else moments.merge(part)
        if SCORES in wants:
            try:
                scores = (scores or ScoreSums.empty(count, found.logits.shape[1], splits)).add(found.logits)
            except ValueError as error:
                raise DataError(f"{what}: {error}; set --splits") from error
        if FEATURES in wants:
            features.append(found.features)
        if CLASSES in wants:
            classes.append(np.argmax(found.logits, axis=-1))
        progress.advance(len(rows))
    progress.close()
    if moments is not None:
        statistics.keep_moments(extractor, images.fingerprint, moments)
    return Summary(
        gaussian=None if moments is None else _gaussian(what, moments),
        scores=scores,
        features=np.concatenate(features) if features else None,
        classes=np.concatenate(classes) if classes else None,
    )


def _gaussian(what: str, moments: Moments) -> Gaussian:
    try:
        return moments.gaussian()
    except ValueError as error:
        raise DataError(f"{what}: {error}") from error


class Summaries:
    """The summaries of a context's sets, each made once, when it is first asked for.

    Args:
      wanted: what all metrics of the evaluation together want, by (role, extractor).
    """

    def __init__(self, context: Context, wanted: Iterable[tuple[str, Selection, Iterable[str]]]):
        self._context = context
        self._wants: dict[tuple[str, Selection], set[str]] = collections.defaultdict(set)
        for role, selection, wants in wanted:
            self._wants[role, selection] |= set(wants)
        self._made: dict[tuple[str, Selection], Summary] = {}

    def __call__(self, role: str, selection: Selection) -> Summary:
        """Of the set "generated" or "reference"."""
        key = role, selection
        if key not in self._made:
            images, extractor = getattr(self._context, role), selection.load()
            if isinstance(images, ImageSet):
                made = summarise(role, images, extractor, self._wants[key], self._context.options.splits)
            else:
                statistics.check(images, f"--{role}", extractor)
                made = Summary(gaussian=images.gaussian)
            self._made[key] = made
        return self._made[key]
