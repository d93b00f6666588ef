"""The registry of metrics: it maps a name to the function that measures the metric and to what that function needs.

Metrics that compare distributions are named <family>_<extractor>, see `distribution`. All others are in METRICS.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from genmodels.errors import ConfigError, DataError
from genmodels.evaluators import (
    classification,
    distribution,
    likelihood,
    memorization,
    metric_names,
    pairs,
    reconstruction,
)
from genmodels.evaluators.base import Context, ImageSet, Options, Result, Statistics
from genmodels.evaluators.features import MOMENTS, Summaries
from genmodels.evaluators.goals import DOWN, UP
from genmodels.evaluators.metric_names import ExtractorDefaults
from genmodels.extractors import ExtractorSpec, perceptual

__all__ = [
    "METRICS",
    "Context",
    "ExtractorDefaults",
    "ImageSet",
    "Metric",
    "Options",
    "Result",
    "Statistics",
    "check_counts",
    "check_paths",
    "check_run",
    "evaluate",
    "goal",
    "load_weights",
    "need",
    "pairs",
    "resolve",
]


@dataclasses.dataclass(frozen=True)
class Metric:
    """How a metric is measured.

    Attributes:
      evaluate: maps a Context to Results; for a distribution metric it maps (Context, Summaries) to Results.
      needs: names of the context's fields that it reads, and any of these: "held_out" (the reference must not be the
        training split), "requested_labels" (samples must come from a conditional model), "labels" (the reference must
        have labels).
      predict: names of predict functions, one of which the run must have.
      between_paths: replaces `evaluate` when two sets of images are compared without a model; it reads only the
        context's `generated` and `reference`.
      family: name in `distribution.FAMILIES`; "" if it is not a distribution metric.
      extractor_spec: the extractor of a distribution metric.
      wants: what a distribution metric needs of each set of images, of `features.WANTS`.
      goal: the value that it improves towards, see `goals`.
    """

    evaluate: Callable[..., Iterator[Result]]
    needs: tuple[str, ...]
    predict: tuple[str, ...] = ()
    between_paths: Callable[[Context], Iterator[Result]] | None = None
    family: str = ""
    extractor_spec: ExtractorSpec | None = None
    wants: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    goal: float = UP


Metrics = Mapping[str, Metric]
DEFAULT = ExtractorDefaults()

RECONSTRUCT = ("reconstruct", "denoise")

METRICS = {
    "nn_distance_ratio": Metric(
        memorization.nn_distance_ratio,
        ("generated", "reference", "held_out", "training"),
        goal=memorization.AS_NEW_AS_HELD_OUT,
    ),
    "psnr": Metric(reconstruction.psnr, ("reference", "timesteps"), RECONSTRUCT, pairs.psnr),
    "ssim": Metric(reconstruction.ssim, ("reference", "timesteps"), RECONSTRUCT, pairs.ssim),
    "ms_ssim": Metric(reconstruction.ms_ssim, ("reference", "timesteps"), RECONSTRUCT, pairs.ms_ssim),
    "lpips": Metric(reconstruction.lpips, ("reference", "timesteps"), RECONSTRUCT, pairs.lpips, goal=DOWN),
    "nll": Metric(likelihood.nll, ("reference", "likelihoods"), goal=DOWN),
    "accuracy": Metric(classification.accuracy, ("reference", "labels"), ("classify",)),
}


def goal(name: str) -> float:
    """The value that a metric improves towards, see `goals`.

    Raises:
      ConfigError: no metric has this name.
    """
    family = metric_names.family_of(name)
    return METRICS[_known(name)].goal if family is None else distribution.FAMILIES[family].goal


def _known(name: str) -> str:
    if name not in METRICS:
        raise ConfigError(metric_names.unknown_metric(name, METRICS))
    return name


def resolve(names: Collection[str], defaults: ExtractorDefaults = DEFAULT) -> dict[str, Metric]:
    """The metrics with these names; no extractor is loaded yet.

    Args:
      names: of metrics, such as "psnr", "fd_digits" or "fid[clean]".
      defaults: the extractor, resize and layer for names that do not state them.
    Raises:
      ConfigError: a metric is unknown, or its name contradicts the defaults.
    """
    return {name: _resolve(name, defaults) for name in names}


def _resolve(name: str, defaults: ExtractorDefaults) -> Metric:
    family = metric_names.family_of(name)
    if family is None:
        return METRICS[_known(name)]
    extractor_spec = metric_names.extractor_of(name, family, defaults)
    wants = distribution.wants(family)
    needs = ["generated"]
    if wants["reference"]:
        needs.append("reference")
    if family == "agreement":
        needs.append("requested_labels")
    return Metric(
        functools.partial(distribution.evaluate, name, family, extractor_spec),
        tuple(needs),
        family=family,
        extractor_spec=extractor_spec,
        wants=wants,
        goal=distribution.FAMILIES[family].goal,
    )


def need(metrics: Metrics, what: str) -> bool:
    """Whether any of the metrics needs `what`, see `Metric.needs`."""
    return any(what in metric.needs for metric in metrics.values())


def _check_shape(name: str, metric: Metric, image_shape: tuple[int, ...]) -> None:
    if metric.extractor_spec is None:
        return
    try:
        metric.extractor_spec.check(image_shape)
    except DataError as error:
        raise ConfigError(f"metric {name}: {error}") from error


def check_counts(metrics: Metrics, options: Options, generated: int | None, reference: int | None) -> None:
    """Raises ConfigError, which names the metric, if a set has too few images; None is an unknown number."""
    for name, metric in metrics.items():
        if metric.family:
            distribution.check_counts(name, metric.family, options, generated, reference)


def load_weights(metrics: Metrics, options: Options) -> None:
    """Loads all networks that the metrics need, so that missing or wrong weights are reported before any work.

    Raises:
      ConfigError, DataError: the weights cannot be used; the message names them and says how to get them.
    """
    for name, metric in metrics.items():
        if metric.extractor_spec is not None:
            metric.extractor_spec.load()
        if name == "lpips":
            try:
                perceptual.load(options.lpips_trunk, options.lpips_linear)
            except DataError as error:
                raise DataError(f"metric {name}: {error}") from error


def check_paths(
    metrics: Metrics, shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({}), statistics: Collection[str] = ()
) -> None:
    """Checks, before any work, that the metrics can be measured between two sets of images.

    Args:
      metrics: to be measured.
      shapes: role, "generated" or "reference", to the shape of its images; () if its images differ in size.
      statistics: the roles that are given by a statistics file instead of images.
    Raises:
      ConfigError: a metric cannot be measured; the message says what it needs.
    """
    for name, metric in metrics.items():
        if {"training", "likelihoods"} & set(metric.needs) or (metric.predict and metric.between_paths is None):
            raise ConfigError(f"metric {name} needs a run with its model or its training images; give --workdir")
        for role in statistics:
            if metric.extractor_spec is None or not metric.wants[role] <= {MOMENTS}:
                raise ConfigError(f"metric {name} needs the images themselves; --{role} is a file of their statistics")
        for image_shape in shapes.values():
            if image_shape:
                _check_shape(name, metric, image_shape)
        different = len(set(shapes.values())) > 1 or () in shapes.values()
        if different and (metric.extractor_spec is None or metric.extractor_spec.load().resize == "none"):
            found = " and ".join("x".join(map(str, shape)) or "of many sizes" for shape in shapes.values())
            remedy = (
                "it compares image i with image i"
                if metric.extractor_spec is None
                else "choose how to resize them: --resize=clean or --resize=tf1"
            )
            raise ConfigError(f"metric {name} needs images of one size, these are {found}; {remedy}")
    channels = {role: shape[2] for role, shape in shapes.items() if shape}
    if len(set(channels.values())) > 1:
        found = " and ".join(f"--{role} has {count}" for role, count in channels.items())
        raise ConfigError(
            f'images have different numbers of channels: {found}; convert one set: \'folder("DIR", convert="rgb")\''
        )


def check_run(
    metrics: Metrics,
    predict: Mapping[str, Any],
    image_shape: tuple[int, ...],
    split: str,
    timesteps: Collection[int],
    likelihoods: Collection[str] = (),
    fields: Collection[str] = ("image",),
) -> None:
    """Checks, before any work, that the metrics can be measured on a run.

    Args:
      metrics: to be measured.
      predict: the predict functions of the run's task, by name.
      image_shape: (height, width, channel) of the run's images.
      split, timesteps, likelihoods: as in config.eval.
      fields: of the images in a batch of its data.
    Raises:
      ConfigError: a metric cannot be measured; the message says what it needs.
    """
    for name, metric in metrics.items():
        if "image" not in fields and {"reference", "training"} & set(metric.needs):
            raise ConfigError(
                f"metric {name} compares with images of the field image, but the data of this run has the fields "
                f"{' and '.join(fields)}; no metric measures such a run yet: --metrics= draws its pictures alone"
            )
        for functions in (metric.predict, ("sample",) if "generated" in metric.needs else ()):
            if functions and not set(functions) & set(predict):
                raise ConfigError(
                    f"metric {name} needs the predict function {' or '.join(map(repr, functions))}, which this model "
                    f"does not have; this model has {', '.join(sorted(predict))}"
                )
        if "requested_labels" in metric.needs and "label" not in predict["sample"].inputs:
            raise ConfigError(f"metric {name} needs a conditional model; this one is unconditional")
        if "timesteps" in metric.needs and not timesteps and "reconstruct" not in predict:
            raise ConfigError(f"metric {name} needs config.eval.timesteps, which is empty")
        if "likelihoods" in metric.needs:
            likelihood.resolve_likelihoods(predict, likelihoods)
        if "held_out" in metric.needs and split == "train":
            others = ",".join(other for other in metrics if "held_out" not in metrics[other].needs)
            advice = f"; leave it out: --metrics={others}" if others else ""
            raise ConfigError(f"metric {name} needs held-out images, not the train split{advice}")
        _check_shape(name, metric, image_shape)


def evaluate(metrics: Metrics, context: Context) -> Iterator[Result]:
    """Measures metrics that `check_run` or `check_paths` has accepted, and yields each result when it is done."""
    wanted = [
        (role, metric.extractor_spec, wants)
        for metric in metrics.values()
        if metric.extractor_spec
        for role, wants in metric.wants.items()
        if wants
    ]
    summaries = Summaries(context, wanted)
    for metric in metrics.values():
        if metric.extractor_spec is not None:
            yield from metric.evaluate(context, summaries)
        elif context.predict is None and metric.between_paths is not None:
            yield from metric.between_paths(context)
        else:
            yield from metric.evaluate(context)
