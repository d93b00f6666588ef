"""Distances between the distributions of generated and reference images, in the features of an extractor.

The naming law: the names `fid`, `is`, `kid`, `sfid` and `fid_infinity` are reserved for numbers that can be compared
with published ones. They are used only if the extractor is the FID Inception with its published weights, and always
with the resize: fid[clean]. Every other number is named <family>_<extractor>, and its protocol says why it cannot be
compared with published numbers.
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
from genmodels.evaluators.features import CLASSES, FEATURES, HISTOGRAM, MOMENTS, SCORES, Summaries, Summary, present
from genmodels.extractors import NAMES, Extractor, ExtractorSpec, inception, is_published
from genmodels.metrics import frechet, kernel, precision_recall
from genmodels.metrics.moments import COVARIANCE_DIVISOR

Measured = tuple[float, dict[str, Any]]  # a value, and protocol entries


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of metric that can be measured with any extractor.

    Attributes:
      measure: maps (context, a Summary for each set of which something is wanted) to (value, protocol entries).
      generated, reference: what it wants of each set of images, of `features.WANTS`.
      published: its name in papers, which measure it with the FID Inception; "" if there is none.
      lower_is_better: whether smaller values are better.
    """

    measure: Callable[..., Measured]
    generated: frozenset[str]
    reference: frozenset[str] = frozenset()
    published: str = ""
    lower_is_better: bool = False


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
    labels = context.require_images("generated").labels
    if labels is None:
        raise ConfigError("needs labels: take samples of a conditional model, or an .npz that has `labels`")
    return float(np.mean(present(generated.classes) == labels)), {}


def _class_share_min(context: Context, generated: Summary) -> Measured:
    counts = present(generated.histogram)
    return float(counts.min() / counts.sum()), {"classes": len(counts), "histogram": counts.tolist()}


ONLY_MOMENTS, ONLY_FEATURES = frozenset({MOMENTS}), frozenset({FEATURES})
FAMILIES = {
    "fd": Family(_fd, ONLY_MOMENTS, ONLY_MOMENTS, "fid", lower_is_better=True),
    "sfd": Family(_fd, ONLY_MOMENTS, ONLY_MOMENTS, "sfid", lower_is_better=True),
    "fd_infinity": Family(_fd_infinity, ONLY_FEATURES, ONLY_MOMENTS, "fid_infinity", lower_is_better=True),
    "kd": Family(_kd, ONLY_FEATURES, ONLY_FEATURES, "kid", lower_is_better=True),
    "cs": Family(_cs, frozenset({SCORES}), published="is"),
    "precision": Family(_manifold("precision"), ONLY_FEATURES, ONLY_FEATURES),
    "recall": Family(_manifold("recall"), ONLY_FEATURES, ONLY_FEATURES),
    "density": Family(_manifold("density"), ONLY_FEATURES, ONLY_FEATURES),
    "coverage": Family(_manifold("coverage"), ONLY_FEATURES, ONLY_FEATURES),
    "agreement": Family(_agreement, frozenset({CLASSES})),
    "class_share_min": Family(_class_share_min, frozenset({HISTOGRAM})),
}
PUBLISHED = {family.published: name for name, family in FAMILIES.items() if family.published}
PATTERN = re.compile(r"(?P<stem>\w+?)(\.(?P<layer>\w+))?(\[(?P<resize>\w+)\])?")


def _parsed(name: str) -> tuple[str, str, str]:
    """The stem, layer and resize in a metric's name; "" for each that it does not state."""
    match = PATTERN.fullmatch(name)
    return (match["stem"], match["layer"] or "", match["resize"] or "") if match else ("", "", "")


def family_of(name: str) -> str | None:
    """The family to which a metric's name belongs; None if the name is not that of a distribution metric."""
    stem, *_ = _parsed(name)
    if stem in PUBLISHED:
        return PUBLISHED[stem]
    matching = [family for family in FAMILIES if stem == family or stem.startswith(f"{family}_")]
    return max(matching, key=len, default=None)


def unknown_metric(name: str, others: Iterable[str] = ()) -> str:
    """The error message for an unknown metric; it suggests the nearest name and lists all metrics.

    Args:
      name: the unknown name.
      others: names of metrics that are not distribution metrics.
    """
    names = [*others, *PUBLISHED, *FAMILIES, *(f"{family}_{id}" for family in FAMILIES for id in NAMES)]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    known = f"{', '.join([*others, *PUBLISHED])}, and with an extractor, as in fd_digits, {', '.join(FAMILIES)}"
    return f"unknown metric {name!r}: {f'did you mean {near[0]!r}? ' if near else ''}there are {known}"


def result_name(family: str, extractor: Extractor) -> str:
    """The name of a result under the naming law: fid[clean], fd_digits, fd_inception.logits[clean], ..."""
    resize = "" if extractor.resize == "none" else f"[{extractor.resize}]"
    if FAMILIES[family].published and _may_have_published_name(family, extractor):
        return f"{FAMILIES[family].published}{resize}"
    other_layer = extractor.id in (inception.ID, inception.UNVERIFIED) and extractor.layer != _default_layer(family)
    layer = f".{extractor.layer}" if other_layer else ""
    return f"{family}_{extractor.id}{layer}{resize}"


def _default_layer(family: str) -> str:
    """The layer of the FID Inception that a family uses by default."""
    return inception.SPATIAL if family == "sfd" else inception.DEFAULT_LAYER


def _may_have_published_name(family: str, extractor: Extractor) -> bool:
    return is_published(extractor) and (family == "cs" or extractor.layer == _default_layer(family))


@dataclasses.dataclass(frozen=True)
class ExtractorDefaults:
    """The extractor, resize and layer for metrics whose names do not state them, from the flags or config.eval.

    Attributes are those of `ExtractorSpec`; an empty `spec` names no extractor.
    """

    spec: str = ""
    resize: str = "none"
    layer: str = ""

    @property
    def id(self) -> str:
        """The id of the extractor; "" if none is named."""
        return ExtractorSpec(self.spec, self.resize).id if self.spec else ""


def extractor_of(name: str, family: str, defaults: ExtractorDefaults) -> ExtractorSpec:
    """The extractor of a metric, from its name and, for what the name does not state, from the defaults.

    Raises:
      ConfigError: no extractor is named, the name contradicts the defaults, or the name is reserved for the FID
        Inception and another extractor is chosen.
    """
    stem, layer, resize = _parsed(name)
    for flag, in_name, default in (("resize", resize, defaults.resize), ("layer", layer, defaults.layer)):
        if in_name not in ("", "none") and default not in ("", "none", in_name):
            raise ConfigError(f"metric {name}: contradicts --{flag}={default}; leave one of the two out")
    resize = resize if resize not in ("", "none") else defaults.resize
    layer, default_id = layer or defaults.layer, defaults.id
    if stem in PUBLISHED:
        if default_id not in ("", inception.ID):
            raise ConfigError(
                f"metric {name}: {stem} is measured by the FID Inception with its published weights; with "
                f"--extractor={defaults.spec} ask for {family}_{default_id}"
            )
        if layer not in ("", _default_layer(family)):
            raise ConfigError(
                f"metric {name}: {stem} is measured at the layer {_default_layer(family)}; for another layer ask for "
                f"{family}"
            )
        if resize == "none":
            raise ConfigError(f"metric {name}: its name must state the resize: {stem}[clean] or {stem}[tf1]")
        id = inception.ID
    else:
        id = stem.removeprefix(family).removeprefix("_") or default_id
    if not id:
        raise ConfigError(f"metric {name}: no extractor is named; ask for {name}_digits, or set --extractor")
    if id != default_id and id not in NAMES:
        raise ConfigError(unknown_metric(name, [f"{family}_{default_id}"] if default_id else []))
    has_layers = id in (inception.ID, inception.UNVERIFIED)
    if family == "sfd" and not has_layers:
        raise ConfigError(
            f"metric {name}: needs features with positions in the image, and only the FID Inception has a layer of "
            "such; ask for sfid[clean] or sfid[tf1]"
        )
    if has_layers:
        layer = layer or _default_layer(family)
    return ExtractorSpec(defaults.spec if id == default_id else id, resize, layer if has_layers else "")


Sets = Mapping[str, ImageSet | Statistics]


def _comparable(family: str, extractor: Extractor, sets: Sets) -> dict[str, Any]:
    """Protocol entries that say whether the number can be compared with published ones, and if not, why."""
    reason = ""
    if extractor.id not in (inception.ID, inception.UNVERIFIED):
        reason = f"the extractor is {extractor.id}, not the FID Inception"
    elif not is_published(extractor):
        reason = "the weights are not those of the published FID Inception" if extractor.id != inception.ID else ""
        reason = reason or "the images were not resized by the extractor, or its layer is another"
    elif not FAMILIES[family].published or not _may_have_published_name(family, extractor):
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
