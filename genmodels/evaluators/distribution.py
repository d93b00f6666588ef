"""Distances between the distributions of generated and reference images, in the features of an extractor.

The naming law: the names `fid`, `is`, `kid`, `sfid` and `fid_infinity` are reserved for numbers that can be compared
with published ones. They are used only if the extractor is the FID Inception with its published weights, and always
with the resize: fid[clean]. Every other number is named <family>_<extractor>, and its protocol says why it cannot be
compared with published numbers.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from genmodels.cli.progress import progress
from genmodels.data.classes import are_numbers
from genmodels.errors import ConfigError, DataError
from genmodels.evaluators import metric_names
from genmodels.evaluators.base import Context, ImageSet, Options, Result, Statistics
from genmodels.evaluators.features import CLASSES, FEATURES, HISTOGRAM, MOMENTS, SCORES, Summaries, Summary, present
from genmodels.evaluators.goals import DOWN, UP
from genmodels.evaluators.metric_names import PUBLISHED, may_have_published_name, result_name
from genmodels.extractors import Extractor, ExtractorSpec, inception, is_published
from genmodels.metrics import frechet, kernel, precision_recall
from genmodels.metrics.moments import COVARIANCE_DIVISOR

Measured = tuple[float, dict[str, Any]]  # a value, and protocol entries


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of metric that can be measured with any extractor.

    Attributes:
      measure: maps (context, a Summary for each set of which something is wanted) to (value, protocol entries).
      generated, reference: what it wants of each set of images, of `features.WANTS`.
      goal: the value that it improves towards, see `goals`.
    """

    measure: Callable[..., Measured]
    generated: frozenset[str]
    reference: frozenset[str] = frozenset()
    goal: float = UP


def _deficient(dimension: int, **counts: int | None) -> dict[str, str]:
    """A warning if a covariance cannot have full rank; `counts` maps a role to its images, None if unknown."""
    few = [f"{count} {role} images" for role, count in counts.items() if count is not None and count <= dimension]
    if not few:
        return {}
    return {"warning": f"{' and '.join(few)} for {dimension} dimensions: covariances are singular, FD far too high"}


def _fd(context: Context, generated: Summary, reference: Summary) -> Measured:
    a, b = present(generated.gaussian), present(reference.gaussian)
    distance = frechet.frechet_distance(a, b)
    return distance.value, {
        "covariance_divisor": COVARIANCE_DIVISOR,
        "solver": distance.solver,
        "dtype": "features float32, statistics float64",
        **_deficient(len(a.mean), generated=a.count, reference=b.count),
    }


def _fd_infinity(context: Context, generated: Summary, reference: Summary) -> Measured:
    features, gaussian = present(generated.features), present(reference.gaussian)
    min_size = max(2, min(len(features) // 10, 5000))
    with progress("FD of subsets", frechet.POINTS) as bar:
        extrapolated = frechet.extrapolated(features, gaussian, context.seed, min_size, bar.update)
    return extrapolated.value, {
        "covariance_divisor": COVARIANCE_DIVISOR,
        "extrapolation": "line in 1/N through random subsets of the generated images, at 1/N = 0",
        "fitted_to_n": list(extrapolated.sizes),
        "seed": context.seed,
        **_deficient(features.shape[1], subset=min_size, reference=gaussian.count),
    }


def _kd(context: Context, generated: Summary, reference: Summary) -> Measured:
    subsets, size = context.options.subsets, context.options.subset_size
    with progress("subsets of the kernel distance", subsets) as bar:
        x, y = present(generated.features), present(reference.features)
        distance = kernel.kernel_distance(x, y, subsets, size, context.seed, bar.update)
    return distance.mean, {
        "kernel": "(x.y/d + 1)^3",
        "estimator": "unbiased MMD^2",
        "subsets": subsets,
        "subset_size": size,
        "std_over_subsets": distance.std,
        "seed": context.seed,
        "dtype": "features float32, kernel float64",
    }


def _cs(context: Context, generated: Summary) -> Measured:
    mean, std = present(generated.scores).result()
    return mean, {"splits": context.options.splits, "std_over_splits": std, "shuffled": False, "dtype": "float64"}


@functools.lru_cache(maxsize=1)  # precision, recall, density and coverage come from the same computation
def _manifolds(generated: Summary, reference: Summary, k: int) -> precision_recall.Manifolds:
    real, fake = present(reference.features), present(generated.features)
    with progress("nearest neighbours", 2 * len(real) + len(fake)) as bar:
        return precision_recall.manifolds(real, fake, k, advance=bar.update)


def _manifold(part: str) -> Callable[..., Measured]:
    def measure(context, generated, reference):
        k = context.options.neighbours
        return getattr(_manifolds(generated, reference, k), part), {
            "neighbours": k,
            "boundary": "inside",
            "dtype": "float32",
        }

    return measure


def _agreement(context: Context, generated: Summary) -> Measured:
    images = context.require_images("generated")
    labels = images.labels
    if labels is None:
        raise ConfigError("needs labels: take samples of a conditional model, or an .npz that has `labels`")
    if are_numbers(images.class_names):  # a model of the digits 7 and 3 has the labels 0 and 1, the extractor has not
        labels = np.array([int(name) for name in images.class_names])[labels]
    return float(np.mean(present(generated.classes) == labels)), {}


def _class_share_min(context: Context, generated: Summary) -> Measured:
    counts = present(generated.histogram)
    return float(counts.min() / counts.sum()), {"classes": len(counts), "histogram": counts.tolist()}


ONLY_MOMENTS, ONLY_FEATURES = frozenset({MOMENTS}), frozenset({FEATURES})
FAMILIES = {
    "fd": Family(_fd, ONLY_MOMENTS, ONLY_MOMENTS, goal=DOWN),
    "sfd": Family(_fd, ONLY_MOMENTS, ONLY_MOMENTS, goal=DOWN),
    "fd_infinity": Family(_fd_infinity, ONLY_FEATURES, ONLY_MOMENTS, goal=DOWN),
    "kd": Family(_kd, ONLY_FEATURES, ONLY_FEATURES, goal=DOWN),
    "cs": Family(_cs, frozenset({SCORES})),
    "precision": Family(_manifold("precision"), ONLY_FEATURES, ONLY_FEATURES),
    "recall": Family(_manifold("recall"), ONLY_FEATURES, ONLY_FEATURES),
    "density": Family(_manifold("density"), ONLY_FEATURES, ONLY_FEATURES),
    "coverage": Family(_manifold("coverage"), ONLY_FEATURES, ONLY_FEATURES),
    "agreement": Family(_agreement, frozenset({CLASSES})),
    "class_share_min": Family(_class_share_min, frozenset({HISTOGRAM})),
}


Sets = Mapping[str, ImageSet | Statistics]


def _comparable(family: str, extractor: Extractor, sets: Sets) -> dict[str, Any]:
    """Protocol entries that say whether the number can be compared with published ones, and if not, why."""
    reason = ""
    if extractor.id not in (inception.ID, inception.UNVERIFIED):
        reason = f"the extractor is {extractor.id}, not the FID Inception"
    elif not is_published(extractor):
        reason = "the weights are not those of the published FID Inception" if extractor.id != inception.ID else ""
        reason = reason or "the images were not resized by the extractor, or its layer is another"
    elif not metric_names.FAMILIES[family] or not may_have_published_name(family, extractor):
        reason = "published numbers of this kind were made with other networks and settings"
    elif _undocumented(sets):
        reason = "a statistics file does not say what it was made with"
    if reason:
        return {"comparable_to_published": False, "reason": reason}
    return {"comparable_to_published": True, "reason": "at the same numbers of images, reference and resize only"}


def _undocumented(sets: Sets) -> Statistics | None:
    """The first statistics file that does not state which extractor made it; None if there is none."""
    files = (images for images in sets.values() if isinstance(images, Statistics))
    return next((file for file in files if file.extractor is None), None)


def _counted(role: str, images: ImageSet | Statistics) -> dict[str, Any]:
    """Protocol entries for the origin and the number of images of one set."""
    if isinstance(images, ImageSet):
        return {**images.origin, f"n_{role}": len(images)}
    made_with = "the file does not say" if images.extractor is None else "the same extractor and resize"
    count = "unknown" if images.gaussian.count is None else images.gaussian.count
    return {**images.origin, f"{role}_statistics_made_with": made_with, f"n_{role}": count}


def evaluate(
    name: str, family: str, extractor_spec: ExtractorSpec, context: Context, summaries: Summaries
) -> Iterator[Result]:
    """Measures a distribution metric and yields its one result.

    Args:
      name: of the metric, as the user asked for it.
      family: a key of FAMILIES.
      extractor_spec: from `extractor_of`.
      context: the sets of images.
      summaries: of these sets.
    Raises:
      ConfigError, DataError: the metric cannot be measured; the message names it and says why.
    """
    extractor = extractor_spec.load()
    sets = {role: context.require_set(role) for role, parts in wants(family).items() if parts}
    full_name = result_name(family, extractor)
    undocumented = _undocumented(sets)
    if undocumented and full_name.partition("[")[0] in PUBLISHED:
        full_name = f"{family}_{extractor.id}[{extractor.resize}]"
        if name.partition("[")[0] in PUBLISHED:
            raise DataError(
                f"metric {name}: {next(iter(undocumented.origin.values()))} does not state which network and resize "
                f"made it; ask for {full_name}, or make the file with genmodels.statistics"
            )
    try:
        value, details = FAMILIES[family].measure(context, *(summaries(role, extractor_spec) for role in sets))
    except ConfigError as error:
        raise ConfigError(f"metric {name}: {error}") from error
    except (ValueError, DataError) as error:
        raise DataError(f"metric {name}: {error}") from error
    protocol = {
        **context.protocol,
        "extractor": extractor.id,
        "extractor_sha256": extractor.sha256,
        "layer": extractor.layer,
        "dimension": extractor.dimension,
        "resize": extractor.resize,
        "value_range": getattr(extractor, "value_range", "uint8 0-255 handed to the extractor"),
        **{key: entry for role, images in sets.items() for key, entry in _counted(role, images).items()},
        **_comparable(family, extractor, sets),
    }
    yield Result(full_name, value, protocol | details)


def check_counts(name: str, family: str, options: Options, generated: int | None, reference: int | None) -> None:
    """Raises ConfigError if there are too few images for a metric; None is a number that is unknown or not needed."""
    counts = [count for count in (generated, reference if FAMILIES[family].reference else None) if count is not None]
    need, flag = {
        "kd": (options.subset_size, "--subset_size"),
        "cs": (options.splits, "--splits"),
        **dict.fromkeys(("precision", "recall", "density", "coverage"), (options.neighbours + 1, "--neighbours")),
        **dict.fromkeys(("fd", "sfd"), (2, "")),
        "fd_infinity": (20, ""),
    }.get(family, (1, ""))
    if counts and min(counts) < need:
        remedy = f"take more, or set {flag}" if flag else "take more"
        raise ConfigError(f"metric {name} needs at least {need} images a side, got {min(counts)}: {remedy}")


def wants(family: str) -> Mapping[str, frozenset[str]]:
    """What a family wants of each set of images, of `features.WANTS`."""
    return {"generated": FAMILIES[family].generated, "reference": FAMILIES[family].reference}
