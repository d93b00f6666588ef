"""One pass of an extractor over a set of images, for all metrics that want something of it.

Moments and classifier scores stream, so their memory does not grow with the images; features are kept only for metrics
that compare images with each other. Moments of a set of known contents are kept on disk for the next time.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Mapping

import jax
import numpy as np
from jaxtyping import Float32, Int

from genmodels.cli.progress import progress
from genmodels.core.parallel import gather_hosts
from genmodels.errors import ConfigError, DataError
from genmodels.evaluators import statistics
from genmodels.evaluators.base import Context, ImageSet
from genmodels.extractors import Extracted, Extractor, ExtractorSpec
from genmodels.metrics.inception_score import ScoreSums
from genmodels.metrics.moments import Gaussian, Moments, merged

MOMENTS, SCORES, FEATURES, CLASSES, HISTOGRAM = WANTS = ("moments", "scores", "features", "classes", "histogram")
CHUNK = 512  # images read and extracted at a time
BYTES = 2**27  # of pixels in a chunk, at the most


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """What was wanted of a set of images; the rest is None.

    Attributes:
      gaussian: of the moments.
      scores: sums of the classifier score.
      features: of all images.
      classes: the most likely one of each image.
      histogram: how many images each class of the extractor got.
    """

    gaussian: Gaussian | None = None
    scores: ScoreSums | None = None
    features: Float32[np.ndarray, "N d"] | None = None
    classes: Int[np.ndarray, " N"] | None = None
    histogram: Int[np.ndarray, " class"] | None = None


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


@dataclasses.dataclass(eq=False)
class _Parts:
    """What has been gathered of some rows, in any order of processes: plain arrays that can be sent and merged."""

    moments: Moments | None = None
    scores: ScoreSums | None = None
    features: list[np.ndarray] = dataclasses.field(default_factory=list)
    classes: list[np.ndarray] = dataclasses.field(default_factory=list)
    histograms: list[np.ndarray] = dataclasses.field(default_factory=list)

    def packed(self) -> dict[str, np.ndarray]:
        """As arrays by name."""
        lists = ("features", "classes", "histograms")
        named = {f"{kind}.{i}": x for kind in lists for i, x in enumerate(getattr(self, kind))}
        for kind, part in (("moments", self.moments), ("scores", self.scores)):
            for key, value in {} if part is None else vars(part).items():
                named |= {} if value is None else {f"{kind}.{key}": np.asarray(value)}
        return named

    @classmethod
    def unpacked(cls, named: Mapping[str, np.ndarray]) -> "_Parts":
        """The inverse of `packed`."""

        def fields(kind):
            found = {key.partition(".")[2]: value for key, value in named.items() if key.startswith(f"{kind}.")}
            return {key: value if value.ndim else int(value) for key, value in found.items()}

        moments, scores = fields("moments"), fields("scores")
        return cls(
            Moments(**({"rows": None, "scatter": None} | moments)) if moments else None,
            ScoreSums(**scores) if scores else None,
            list(fields("features").values()),
            list(fields("classes").values()),
            list(fields("histograms").values()),
        )


def summarise(what: str, images: ImageSet, extractor: Extractor, wants: Iterable[str], splits: int) -> Summary:
    """Passes over the images once; of several processes each over its share.

    Args:
      what: the role of the set, for messages.
      wants: of WANTS.
      splits: of the classifier score.
    Raises:
      DataError: features that are not finite, too few images, or no logits where they are wanted.
    """
    wants = set(wants)
    alone = jax.process_count() == 1  # else what one process finds on its disk another may miss
    if alone and wants == {MOMENTS} and (known := statistics.load_moments(extractor, images.fingerprint)):
        return Summary(gaussian=_gaussian(what, known))
    mine = _pass(what, images, extractor, wants, splits)
    parts = [mine] if alone else [_Parts.unpacked(named) for named in gather_hosts(mine.packed()) if named]
    moments = merged(part.moments for part in parts) if MOMENTS in wants else None
    if moments is not None:
        statistics.keep_moments(extractor, images.fingerprint, moments)
    return Summary(
        gaussian=None if moments is None else _gaussian(what, moments),
        scores=functools.reduce(ScoreSums.merge, (part.scores for part in parts)) if SCORES in wants else None,
        features=np.concatenate([rows for part in parts for rows in part.features]) if FEATURES in wants else None,
        classes=np.concatenate([rows for part in parts for rows in part.classes]) if CLASSES in wants else None,
        histogram=np.sum([one for part in parts for one in part.histograms], axis=0) if HISTOGRAM in wants else None,
    )


def _pass(what: str, images: ImageSet, extractor: Extractor, wants: set[str], splits: int) -> _Parts:
    """Over the rows of this process."""
    count, chunk = len(images), _chunk(images)
    first, last = (count * place // jax.process_count() for place in (jax.process_index(), jax.process_index() + 1))
    bar, parts = progress(f"{extractor.id} features of {what}", last - first), _Parts()
    for start in range(first, last, chunk):
        rows = images.images[np.arange(start, min(start + chunk, last))]
        found = _extract(what, extractor, rows, start)
        if wants & {SCORES, CLASSES, HISTOGRAM} and found.logits is None:
            raise ConfigError(f"the extractor {extractor.id} has no logits, which metrics of classes need")
        if MOMENTS in wants:
            part = Moments.of(found.features)
            parts.moments = part if parts.moments is None else parts.moments.merge(part)
        if SCORES in wants:
            try:
                sums = parts.scores or ScoreSums.empty(count, found.logits.shape[1], splits)
            except ValueError as error:
                raise DataError(f"{what}: {error}; set --splits") from error
            parts.scores = sums.add(found.logits, start)
        if FEATURES in wants:
            parts.features.append(found.features)
        if CLASSES in wants:
            parts.classes.append(np.argmax(found.logits, axis=-1))
        if HISTOGRAM in wants:
            classes = found.logits.shape[-1]
            parts.histograms.append(np.bincount(np.argmax(found.logits, axis=-1), minlength=classes))
        bar.update(len(rows))
    bar.close()
    return parts


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

    def __init__(self, context: Context, wanted: Iterable[tuple[str, ExtractorSpec, Iterable[str]]]):
        self._context = context
        self._wants: dict[tuple[str, ExtractorSpec], set[str]] = collections.defaultdict(set)
        for role, selection, wants in wanted:
            self._wants[role, selection] |= set(wants)
        self._made: dict[tuple[str, ExtractorSpec], Summary] = {}

    def __call__(self, role: str, selection: ExtractorSpec) -> Summary:
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
