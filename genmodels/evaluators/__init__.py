"""The registry of metrics: name to the evaluator that gives it and what that needs.

Metrics of distributions are named <family>_<extractor>, see `distribution`; the others stand in METRICS.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from genmodels.errors import ConfigError, DataError
from genmodels.evaluators import classification, distribution, likelihood, memorization, pairs, reconstruction
from genmodels.evaluators.base import Context, ImageSet, Options, Result, Statistics
from genmodels.evaluators.distribution import ExtractorDefaults
from genmodels.evaluators.features import MOMENTS, Summaries
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
    "load_weights",
    "lower_is_better",
    "need",
    "resolve",
]


@dataclasses.dataclass(frozen=True)
class Metric:
    """How a metric is measured.

    Attributes:
      evaluate: Context to Results; of a distribution metric (Context, Summaries) to Results.
      needs: fields of the context that it reads, and of these words: "held_out", a reference that is not the training
        split; "asked", samples of a model that is asked for labels; "labels", those of the reference.
      predict: the predict functions it may call: the run must have one of them.
      between_paths: takes its place between two sets of images without a model; it needs `generated` and `reference`.
      family, selection, wants: of a distribution metric: its kind, its extractor and what it wants of each set.
      lower_is_better: which way it improves.
    """

    evaluate: Callable[..., Iterator[Result]]
    needs: tuple[str, ...]
    predict: tuple[str, ...] = ()
    between_paths: Callable[[Context], Iterator[Result]] | None = None
    family: str = ""
    selection: ExtractorSpec | None = None
    wants: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    lower_is_better: bool = False


Metrics = Mapping[str, Metric]
DEFAULT = ExtractorDefaults()

RECONSTRUCT = ("reconstruct", "denoise")

METRICS = {
    "nn_distance_ratio": Metric(memorization.nn_distance_ratio, ("generated", "reference", "held_out", "training")),
    "psnr": Metric(reconstruction.psnr, ("reference", "timesteps"), RECONSTRUCT, pairs.psnr),
    "ssim": Metric(reconstruction.ssim, ("reference", "timesteps"), RECONSTRUCT, pairs.ssim),
    "ms_ssim": Metric(reconstruction.ms_ssim, ("reference", "timesteps"), RECONSTRUCT, pairs.ms_ssim),
    "lpips": Metric(reconstruction.lpips, ("reference", "timesteps"), RECONSTRUCT, pairs.lpips, lower_is_better=True),
    "nll": Metric(likelihood.nll, ("reference", "likelihoods"), lower_is_better=True),
    "accuracy": Metric(classification.accuracy, ("reference", "labels"), ("classify",)),
}


def lower_is_better(name: str) -> bool:
    """Which way a metric improves.

    Raises:
      ConfigError: there is no such metric.
    """
    family = distribution.family_of(name)
    if family is not None:
        return distribution.FAMILIES[family].lower_is_better
    return METRICS[_known(name)].lower_is_better


def _known(name: str) -> str:
    if name not in METRICS:
        raise ConfigError(distribution.unknown(name, METRICS))
    return name


def resolve(names: Collection[str], default: ExtractorDefaults = DEFAULT) -> dict[str, Metric]:
    """The metrics of these names; no extractor is loaded yet.

    Args:
      default: the extractor and resize where a name leaves them open.
    Raises:
      ConfigError: there is no such metric, suggesting the nearest one; or its name and the flags contradict.
    """
    return {name: _resolve(name, default) for name in names}


def _resolve(name: str, default: ExtractorDefaults) -> Metric:
    family = distribution.family_of(name)
    if family is None:
        return METRICS[_known(name)]
    selection = distribution.select(name, family, default)
    wants = distribution.wants(family)
    needs = ("generated", *(["reference"] if wants["reference"] else []), *(["asked"] if family == "agreement" else []))
    return Metric(
        functools.partial(distribution.evaluate, name, family, selection),
        needs,
        family=family,
        selection=selection,
        wants=wants,
        lower_is_better=distribution.FAMILIES[family].lower_is_better,
    )


def need(metrics: Metrics, what: str) -> bool:
    """Whether any of the metrics needs `what`."""
    return any(what in metric.needs for metric in metrics.values())


def _check_shape(name: str, metric: Metric, image_shape: tuple[int, ...]) -> None:
    if metric.selection is None:
        return
    try:
        metric.selection.check(image_shape)
    except DataError as error:
        raise ConfigError(f"metric {name}: {error}") from error


def check_counts(metrics: Metrics, options: Options, generated: int | None, reference: int | None) -> None:
    """Raises ConfigError, naming the metric, where there are too few images; None is an unknown count."""
    for name, metric in metrics.items():
        if metric.family:
            distribution.check_counts(name, metric.family, options, generated, reference)


def load_weights(metrics: Metrics, options: Options) -> None:
    """Loads all networks, so that what is amiss with their weights is said before any work.

    Raises:
      ConfigError, DataError: name the weights and what to do.
    """
    for name, metric in metrics.items():
        if metric.selection is not None:
            metric.selection.load()
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
      shapes: by role, "generated" and "reference", of an image; () where they differ in size.
      statistics: the roles for which a statistics file stands.
    Raises:
      ConfigError: names the metric and what it needs.
    """
    for name, metric in metrics.items():
        if {"training", "likelihoods"} & set(metric.needs) or (metric.predict and metric.between_paths is None):
            raise ConfigError(f"metric {name} needs a run (--workdir): its model or its training images")
        for role in statistics:
            if metric.selection is None or not metric.wants[role] <= {MOMENTS}:
                raise ConfigError(f"metric {name} needs the images themselves; --{role} is a file of their statistics")
        for image_shape in shapes.values():
            if image_shape:
                _check_shape(name, metric, image_shape)
        different = len(set(shapes.values())) > 1 or () in shapes.values()
        if different and (metric.selection is None or metric.selection.load().resize == "none"):
            found = " and ".join("x".join(map(str, shape)) or "of many sizes" for shape in shapes.values())
            remedy = (
                "it compares image with image" if metric.selection is None else "name a resize: --resize=clean or tf1"
            )
            raise ConfigError(f"metric {name} needs images of one size, these are {found}; {remedy}")
    channels = {role: shape[2] for role, shape in shapes.items() if shape}
    if len(set(channels.values())) > 1:
        found = " and ".join(f"--{role} has {count}" for role, count in channels.items())
        raise ConfigError(
            f'images of different numbers of channels: {found}; convert one: \'folder("DIR", convert="rgb")\''
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
      predict: the predict functions of its task, by name.
      split, timesteps, likelihoods: as in config.eval.
      fields: of the images in a batch of its data.
    Raises:
      ConfigError: names the metric and what it needs.
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
                    f"does not have; it has {', '.join(sorted(predict))}"
                )
        if "asked" in metric.needs and "label" not in predict["sample"].inputs:
            raise ConfigError(f"metric {name} needs a model that is asked for labels; this one is unconditional")
        if "timesteps" in metric.needs and not timesteps and "reconstruct" not in predict:
            raise ConfigError(f"metric {name} needs config.eval.timesteps, which is empty")
        if "likelihoods" in metric.needs:
            likelihood.select(predict, likelihoods)
        if "held_out" in metric.needs and split == "train":
            others = ",".join(other for other in metrics if "held_out" not in metrics[other].needs)
            raise ConfigError(
                f"metric {name} needs held-out images, not the train split; leave it out: --metrics={others}"
            )
        _check_shape(name, metric, image_shape)


def evaluate(metrics: Metrics, context: Context) -> Iterator[Result]:
    """The results of the metrics, which `check_run` or `check_paths` has let pass, as each is done."""
    wanted = [(role, m.selection, w) for m in metrics.values() if m.selection for role, w in m.wants.items() if w]
    summaries = Summaries(context, wanted)
    for metric in metrics.values():
        paired = context.predict is None and metric.between_paths is not None
        if metric.selection is not None:
            yield from metric.evaluate(context, summaries)
        else:
            yield from (metric.between_paths if paired else metric.evaluate)(context)
