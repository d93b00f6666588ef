"""Distances between the distributions of generated and reference images, in the features of an extractor.

The naming law: `fid`, `is`, `kid`, `sfid` and `fid_infinity` are names of numbers that compare with published ones, so
they are given only where the extractor is the FID Inception with its published weights, and always with the resize:
fid[clean]. Everything else is called what it is, <family>_<extractor>, and says that it compares with nothing
published, and why.
"""

import dataclasses
import difflib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from genmodels.cli.progress import progress
from genmodels.errors import ConfigError, DataError
from genmodels.evaluators.base import Context, ImageSet, Options, Result, Statistics
from genmodels.evaluators.features import CLASSES, FEATURES, HISTOGRAM, MOMENTS, SCORES, Summaries, Summary
from genmodels.extractors import NAMES, Extractor, ExtractorSpec, inception, is_published
from genmodels.metrics import frechet, kernel, precision_recall
from genmodels.metrics.moments import COVARIANCE_DIVISOR

Measured = tuple[float, dict[str, Any]]
NOTHING: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of distance.

    Attributes:
      measure: (context, summaries of the sets of which something is wanted) -> (value, protocol entries).
      generated, reference: what it wants of each set, of features.WANTS.
      published: its name where the FID Inception measures it, if papers have one.
    """

    measure: Callable[..., Measured]
    generated: frozenset[str]
    reference: frozenset[str] = NOTHING
    published: str = ""
    lower_is_better: bool = False


def _deficient(dimension: int, **counts: int | None) -> dict[str, str]:
    """A warning where a covariance cannot have full rank; counts by what they are of, None is unknown."""
    few = [f"{count} {what} images" for what, count in counts.items() if count is not None and count <= dimension]
    if not few:
        return {}
    return {"warning": f"{' and '.join(few)} for {dimension} dimensions: covariances are singular, FD far too high"}


def _fd(context: Context, generated: Summary, reference: Summary) -> Measured:
    a, b = generated.gaussian, reference.gaussian
    distance = frechet.frechet_distance(a, b)
    return distance.value, {
        "covariance_divisor": COVARIANCE_DIVISOR,
        "solver": distance.solver,
        "dtype": "features float32, statistics float64",
        **_deficient(len(a.mean), generated=a.count, reference=b.count),
    }


def _fd_infinity(context: Context, generated: Summary, reference: Summary) -> Measured:
    features = generated.features
    least = max(2, min(len(features) // 10, 5000))
    with progress("FD of subsets", frechet.POINTS) as bar:
        found = frechet.extrapolated(features, reference.gaussian, context.seed, least, bar.update)
    return found.value, {
        "covariance_divisor": COVARIANCE_DIVISOR,
        "extrapolation": "line in 1/N through random subsets of the generated images, at 1/N = 0",
        "fitted_to_n": list(found.sizes),
        "seed": context.seed,
        **_deficient(features.shape[1], subset=least, reference=reference.gaussian.count),
    }


def _kd(context: Context, generated: Summary, reference: Summary) -> Measured:
    subsets, size = context.options.subsets, context.options.subset_size
    with progress("subsets of the kernel distance", subsets) as bar:
        found = kernel.kernel_distance(generated.features, reference.features, subsets, size, context.seed, bar.update)
    return found.mean, {
        "kernel": "(x.y/d + 1)^3",
        "estimator": "unbiased MMD^2",
        "subsets": subsets,
        "subset_size": size,
        "std_over_subsets": found.std,
        "seed": context.seed,
        "dtype": "features float32, kernel float64",
    }


def _cs(context: Context, generated: Summary) -> Measured:
    mean, std = generated.scores.result()
    return mean, {"splits": context.options.splits, "std_over_splits": std, "shuffled": False, "dtype": "float64"}


@functools.lru_cache(maxsize=1)  # precision, recall, density and coverage come together
def _manifolds(generated: Summary, reference: Summary, k: int) -> precision_recall.Manifolds:
    real, fake = reference.features, generated.features
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
    labels = context.generated.labels
    if labels is None:
        raise ConfigError("needs labels: samples of a conditional model, or an .npz with `labels`")
    return float(np.mean(generated.classes == labels)), {}


def _class_share_min(context: Context, generated: Summary) -> Measured:
    counts = generated.histogram
    return float(counts.min() / counts.sum()), {"classes": len(counts), "histogram": counts.tolist()}


FD, FEW = frozenset({MOMENTS}), frozenset({FEATURES})
FAMILIES = {
    "fd": Family(_fd, FD, FD, "fid", lower_is_better=True),
    "sfd": Family(_fd, FD, FD, "sfid", lower_is_better=True),
    "fd_infinity": Family(_fd_infinity, FEW, FD, "fid_infinity", lower_is_better=True),
    "kd": Family(_kd, FEW, FEW, "kid", lower_is_better=True),
    "cs": Family(_cs, frozenset({SCORES}), published="is"),
    "precision": Family(_manifold("precision"), FEW, FEW),
    "recall": Family(_manifold("recall"), FEW, FEW),
    "density": Family(_manifold("density"), FEW, FEW),
    "coverage": Family(_manifold("coverage"), FEW, FEW),
    "agreement": Family(_agreement, frozenset({CLASSES})),
    "class_share_min": Family(_class_share_min, frozenset({HISTOGRAM})),
}
PUBLISHED = {family.published: name for name, family in FAMILIES.items() if family.published}
PATTERN = re.compile(r"(?P<stem>\w+?)(\.(?P<layer>\w+))?(\[(?P<resize>\w+)\])?")


def family_of(name: str) -> str | None:
    """The family that a metric's name belongs to; None where it is no name of a distribution metric."""
    match = PATTERN.fullmatch(name)
    stem = match["stem"] if match else ""
    if stem in PUBLISHED:
        return PUBLISHED[stem]
    fits = [family for family in FAMILIES if stem == family or stem.startswith(f"{family}_")]
    return max(fits, key=len, default=None)


def unknown(name: str, others: Iterable[str] = ()) -> str:
    """What to say of a metric that there is not: the nearest name that there is, and which there are."""
    names = [*others, *PUBLISHED, *FAMILIES, *(f"{family}_{id}" for family in FAMILIES for id in NAMES)]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    there = f"{', '.join([*others, *PUBLISHED])}, and {', '.join(FAMILIES)} of an extractor: fd_digits"
    return f"unknown metric {name!r}: {f'did you mean {near[0]!r}? ' if near else ''}there are {there}"


def result_name(family: str, extractor: Extractor) -> str:
    """As the law above has it."""
    resize = "" if extractor.resize == "none" else f"[{extractor.resize}]"
    if FAMILIES[family].published and _is_law(family, extractor):
        return f"{FAMILIES[family].published}{resize}"
    own_layer = extractor.id in (inception.ID, inception.UNVERIFIED) and extractor.layer != _layer(family)
    layer = f".{extractor.layer}" if own_layer else ""
    return f"{family}_{extractor.id}{layer}{resize}"


def _layer(family: str) -> str:
    """Of the FID Inception, unless another is named."""
    return inception.SPATIAL if family == "sfd" else inception.DEFAULT_LAYER


def _is_law(family: str, extractor: Extractor) -> bool:
    return is_published(extractor) and (family == "cs" or extractor.layer == _layer(family))


@dataclasses.dataclass(frozen=True)
class ExtractorDefaults:
    """What the flags or config.eval say of the extractor, where a metric's name leaves it open."""

    spec: str = ""
    resize: str = "none"
    layer: str = ""

    @property
    def id(self) -> str:
        """Of the extractor; "" where none is named."""
        return ExtractorSpec(self.spec, self.resize).id if self.spec else ""


def select(name: str, family: str, default: ExtractorDefaults) -> ExtractorSpec:
    """The extractor that a metric's name, and where it leaves something open the flags, ask for.

    Raises:
      ConfigError: none is named, the two contradict each other, or the name is reserved for another.
    """
    match = PATTERN.fullmatch(name)
    stem, layer, resize = match["stem"], match["layer"] or "", match["resize"] or "none"
    for flag, mine, other in (("resize", resize, default.resize), ("layer", layer, default.layer)):
        if mine not in ("", "none") and other not in ("", "none", mine):
            raise ConfigError(f"metric {name}: contradicts --{flag}={other}")
    resize, layer, id = default.resize if resize == "none" else resize, layer or default.layer, default.id
    if stem in PUBLISHED:
        if id not in ("", inception.ID):
            raise ConfigError(
                f"metric {name}: {stem} is what the FID Inception with its published weights measures; with "
                f"--extractor={default.spec} ask for {family}_{id}"
            )
        if layer not in ("", _layer(family)):
            raise ConfigError(f"metric {name}: {stem} is of the layer {_layer(family)}; with another ask for {family}")
        if resize == "none":
            raise ConfigError(f"metric {name}: is always said with its resize: {stem}[clean] or {stem}[tf1]")
        wanted = inception.ID
    else:
        wanted = stem.removeprefix(family).removeprefix("_") or id
    if not wanted:
        raise ConfigError(f"metric {name}: of which features? Name the extractor, {name}_digits, or set --extractor")
    if wanted != id and wanted not in NAMES:
        raise ConfigError(unknown(name, [f"{family}_{id}"] if id else []))
    network = wanted in (inception.ID, inception.UNVERIFIED)
    if family == "sfd" and not network:
        raise ConfigError(
            f"metric {name}: needs features that keep their places, which only the FID Inception has here"
        )
    if network:
        layer = layer or _layer(family)
    return ExtractorSpec(default.spec if wanted == id else wanted, resize, layer if network else "")


Sets = Mapping[str, ImageSet | Statistics]


def _comparable(family: str, extractor: Extractor, sets: Sets) -> dict[str, Any]:
    """Whether published numbers compare, and why not."""
    reason = ""
    if extractor.id not in (inception.ID, inception.UNVERIFIED):
        reason = f"the extractor is {extractor.id}, not the FID Inception"
    elif not is_published(extractor):
        reason = "the weights are not those of the published FID Inception" if extractor.id != inception.ID else ""
        reason = reason or "the images were not resized by the extractor, or its layer is another"
    elif not FAMILIES[family].published or not _is_law(family, extractor):
        reason = "published numbers of this kind were made with other networks and settings"
    elif _unsaid(sets):
        reason = "a statistics file does not say what it was made with"
    if reason:
        return {"comparable_to_published": False, "reason": reason}
    return {"comparable_to_published": True, "reason": "at the same numbers of images, reference and resize only"}


def _unsaid(sets: Sets) -> Statistics | None:
    """A statistics file that does not say what it was made with."""
    return next((one for one in sets.values() if isinstance(one, Statistics) and one.extractor is None), None)


def _counted(role: str, one: ImageSet | Statistics) -> dict[str, Any]:
    """Protocol entries of one side."""
    if isinstance(one, ImageSet):
        return {**one.origin, f"n_{role}": len(one)}
    made_with = "the file does not say" if one.extractor is None else "the same extractor and resize"
    count = "unknown" if one.gaussian.count is None else one.gaussian.count
    return {**one.origin, f"{role}_statistics_made_with": made_with, f"n_{role}": count}


def evaluate(
    name: str, family: str, selection: ExtractorSpec, context: Context, summaries: Summaries
) -> Iterator[Result]:
    """The one result of a distribution metric.

    Raises:
      ConfigError, DataError: name the metric and what is in the way.
    """
    extractor = selection.load()
    sets = {role: getattr(context, role) for role, wanted in wants(family).items() if wanted}
    called = result_name(family, extractor)
    unsaid = _unsaid(sets)
    if unsaid and called.partition("[")[0] in PUBLISHED:
        called = f"{family}_{extractor.id}[{extractor.resize}]"
        if name.partition("[")[0] in PUBLISHED:
            raise DataError(
                f"metric {name}: {next(iter(unsaid.origin.values()))} does not say which network and resize made it; "
                f"ask for {called}, or make it with genmodels.statistics"
            )
    try:
        value, details = FAMILIES[family].measure(context, *(summaries(role, selection) for role in sets))
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
        **{key: entry for role, one in sets.items() for key, entry in _counted(role, one).items()},
        **_comparable(family, extractor, sets),
    }
    yield Result(called, value, protocol | details)


def check_counts(name: str, family: str, options: Options, generated: int | None, reference: int | None) -> None:
    """Raises ConfigError where there are too few images for a metric; None is a count that nobody knows or needs."""
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
    """What a family wants of each set."""
    return {"generated": FAMILIES[family].generated, "reference": FAMILIES[family].reference}
