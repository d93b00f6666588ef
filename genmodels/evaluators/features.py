"""One pass of an extractor over a set of images, which serves all metrics with that extractor.

Moments and classifier scores are running sums, so that their memory does not grow with the number of images. Features
of all images are kept only for metrics that compare images with each other. The moments of a set whose contents are
known by a fingerprint are cached on disk.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Float32, Int

from genmodels.cli.progress import progress
from genmodels.core.parallel import gather_hosts
from genmodels.errors import DataError
from genmodels.evaluators import statistics
from genmodels.evaluators.base import Context, ImageSet
from genmodels.extractors import Extracted, Extractor, ExtractorSpec, logits_of
from genmodels.metrics.inception_score import ScoreSums
from genmodels.metrics.moments import Gaussian, Moments, merged

T = TypeVar("T")

MOMENTS, SCORES, FEATURES, CLASSES, HISTOGRAM = WANTS = ("moments", "scores", "features", "classes", "histogram")
OF_LOGITS = frozenset({SCORES, CLASSES, HISTOGRAM})
CHUNK_IMAGES = 512  # at most, read and extracted at a time
CHUNK_BYTES = 2**27  # of pixels, at most


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """What metrics want of a set of images; what none of them wants is None. Metrics read it by `present`.

    Attributes:
      gaussian: fitted to the features.
      scores: sums of the classifier score.
      features: of all images.
      classes: the most likely class of each image.
      histogram: number of images for each class of the extractor.
    """

    gaussian: Gaussian | None = None
    scores: ScoreSums | None = None
    features: Float32[np.ndarray, "N d"] | None = None
    classes: Int[np.ndarray, " N"] | None = None
    histogram: Int[np.ndarray, " class"] | None = None


def present(part: T | None) -> T:
    """A part of a summary, which is present if a metric wants it.

    Raises:
      LookupError: it is None, because the metric that reads it does not state that it wants it.
    """
    if part is None:
        raise LookupError("a metric reads a part of a summary that it does not want; state it in its Family")
    return part


def _extract(what: str, extractor: Extractor, images, start: int) -> Extracted:
    """Features and logits of some images, checked for their shape and for values that are not finite."""
    count = len(images)
    if not isinstance(images, list):
        found = extractor(images)
    elif hasattr(extractor, "mixed"):
        found = extractor.mixed(images)
    else:
        outputs = [extractor(image[None]) for image in images]
        logits = None if outputs[0].logits is None else np.concatenate([output.logits for output in outputs])
        found = Extracted(np.concatenate([output.features for output in outputs]), logits)
    if found.features.shape != (count, extractor.dimension):
        expected = (count, extractor.dimension)
        raise DataError(
            f"the extractor {extractor.id} must return features of shape {expected}, not {found.features.shape}"
        )
    for kind, values in (("features", found.features), ("logits", found.logits)):
        if values is not None and not np.isfinite(values).all():
            bad = start + int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise DataError(f"the extractor {extractor.id}: {kind} of image {bad} of {what} are not finite")
    return found


def _chunk_size(images: ImageSet) -> int:
    shape = images.images.shape[1:]
    return CHUNK_IMAGES if not shape else max(1, min(CHUNK_IMAGES, CHUNK_BYTES // int(np.prod(shape))))


@dataclasses.dataclass(eq=False)
class _Parts:
    """The summary of one process's share of the images, as arrays that can be sent to other processes and merged."""

    moments: Moments | None = None
    scores: ScoreSums | None = None
    features: list[np.ndarray] = dataclasses.field(default_factory=list)
    classes: list[np.ndarray] = dataclasses.field(default_factory=list)
    histograms: list[np.ndarray] = dataclasses.field(default_factory=list)

    def packed(self) -> dict[str, np.ndarray]:
        """All parts as one dictionary of arrays by name."""
        lists = ("features", "classes", "histograms")
        named = {f"{kind}.{i}": x for kind in lists for i, x in enumerate(getattr(self, kind))}
        for kind, part in (("moments", self.moments), ("scores", self.scores)):
            named |= {} if part is None else {f"{kind}.{key}": np.asarray(value) for key, value in vars(part).items()}
        return named

    def add_features(self, features: Float32[np.ndarray, "rows d"], wants: set[str]) -> None:
        """Adds what is wanted of the features of more images."""
        if MOMENTS in wants:
            part = Moments.of(features)
            self.moments = part if self.moments is None else self.moments.merge(part)
        if FEATURES in wants:
            self.features.append(features)

    def add_classes(self, logits: Float32[np.ndarray, "rows classes"], wants: set[str]) -> None:
        """Adds what is wanted of the most likely classes of more images."""
        classes = np.argmax(logits, axis=-1)
        if CLASSES in wants:
            self.classes.append(classes)
        if HISTOGRAM in wants:
            self.histograms.append(np.bincount(classes, minlength=logits.shape[1]))

    @classmethod
    def unpacked(cls, named: Mapping[str, np.ndarray]) -> "_Parts":
        """The inverse of `packed`."""

        def fields(kind):
            found = {key.partition(".")[2]: value for key, value in named.items() if key.startswith(f"{kind}.")}
            return {key: value if value.ndim else int(value) for key, value in found.items()}

        moments, scores = fields("moments"), fields("scores")
        return cls(
            Moments(**moments) if moments else None,
            ScoreSums(**scores) if scores else None,
            list(fields("features").values()),
            list(fields("classes").values()),
            list(fields("histograms").values()),
        )


def summarise(what: str, images: ImageSet, extractor: Extractor, wants: Iterable[str], splits: int) -> Summary:
    """Summarises a set of images in one pass; with several processes, each passes over its share.

    Args:
      what: the role of the set, for messages.
      images: the set.
      extractor: gives the features and logits.
      wants: what is needed, of WANTS.
      splits: number of splits of the classifier score.
    Raises:
      ConfigError: the extractor has no logits, but they are needed.
      DataError: features or logits are not finite or have a wrong shape, or there are too few images.
    """
    if not len(images):
        raise DataError(f"{what}: there are no images")
    wants = set(wants)
    alone = jax.process_count() == 1  # the cache is not read by several processes, because their disks may differ
    if alone and wants == {MOMENTS} and (known := statistics.load_moments(extractor, images.fingerprint)):
        return Summary(gaussian=_gaussian(what, known))
    mine = _pass(what, images, extractor, wants, splits)
    parts = [mine] if alone else [_Parts.unpacked(named) for named in gather_hosts(mine.packed()) if named]
    moments = merged(present(part.moments) for part in parts) if MOMENTS in wants else None
    if moments is not None:
        statistics.keep_moments(extractor, images.fingerprint, moments)
    scores = (present(part.scores) for part in parts)
    return Summary(
        gaussian=None if moments is None else _gaussian(what, moments),
        scores=functools.reduce(ScoreSums.merge, scores) if SCORES in wants else None,
        features=np.concatenate([rows for part in parts for rows in part.features]) if FEATURES in wants else None,
        classes=np.concatenate([rows for part in parts for rows in part.classes]) if CLASSES in wants else None,
        histogram=np.sum([counts for part in parts for counts in part.histograms], axis=0)
        if HISTOGRAM in wants
        else None,
    )


def _pass(what: str, images: ImageSet, extractor: Extractor, wants: set[str], splits: int) -> _Parts:
    """Passes over this process's share of the images."""
    count, chunk = len(images), _chunk_size(images)
    first, last = (count * place // jax.process_count() for place in (jax.process_index(), jax.process_index() + 1))
    bar, parts = progress(f"{extractor.id} features of {what}", last - first), _Parts()
    for start in range(first, last, chunk):
        rows = images.images[np.arange(start, min(start + chunk, last))]
        found = _extract(what, extractor, rows, start)
        parts.add_features(found.features, wants)
        if wants & OF_LOGITS:
            logits = logits_of(extractor, found)
            parts.add_classes(logits, wants)
            if SCORES in wants:
                parts.scores = (parts.scores or _no_scores(what, count, logits.shape[1], splits)).add(logits, start)
        bar.update(len(rows))
    bar.close()
    return parts


def _no_scores(what: str, count: int, classes: int, splits: int) -> ScoreSums:
    try:
        return ScoreSums.empty(count, classes, splits)
    except ValueError as error:
        raise DataError(f"{what}: {error}; set --splits") from error


def _gaussian(what: str, moments: Moments) -> Gaussian:
    try:
        return moments.gaussian()
    except ValueError as error:
        raise DataError(f"{what}: {error}") from error


class Summaries:
    """The summaries of a context's sets; each is computed once, when a metric first needs it.

    Args:
      context: the sets of images.
      wanted: (role, extractor, wants) of all metrics of the evaluation.
    """

    def __init__(self, context: Context, wanted: Iterable[tuple[str, ExtractorSpec, Iterable[str]]]):
        self._context = context
        self._wants: dict[tuple[str, ExtractorSpec], set[str]] = collections.defaultdict(set)
        for role, extractor_spec, wants in wanted:
            self._wants[role, extractor_spec] |= set(wants)
        self._summaries: dict[tuple[str, ExtractorSpec], Summary] = {}

    def __call__(self, role: str, extractor_spec: ExtractorSpec) -> Summary:
        """The summary of the set "generated" or "reference" with this extractor."""
        key = role, extractor_spec
        if key not in self._summaries:
            images, extractor = self._context.require_set(role), extractor_spec.load()
            if isinstance(images, ImageSet):
                summary = summarise(role, images, extractor, self._wants[key], self._context.options.splits)
            else:
                statistics.check(images, f"--{role}", extractor)
                summary = Summary(gaussian=images.gaussian)
            self._summaries[key] = summary
        return self._summaries[key]
