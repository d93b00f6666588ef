"""The registry of metrics: name to the evaluator that gives it and what that needs."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from genmodels.errors import ConfigError, choose
from genmodels.evaluators import classification, generation, likelihood, memorization, pairs, reconstruction
from genmodels.evaluators.base import Context, ImageSet, Result
from genmodels.extractors import digits

__all__ = [
    "METRICS",
    "Context",
    "ImageSet",
    "Result",
    "check_names",
    "check_paths",
    "check_run",
    "evaluate",
    "likelihoods_of",
    "need",
]


@dataclasses.dataclass(frozen=True)
class Metric:
    """How a metric is measured.

    Attributes:
      evaluate: Context to Results.
      needs: fields of the context that it reads, and of these words: "held_out", a reference that is not the training
        split; "asked", samples of a model that is asked for labels; "labels", those of the reference.
      predict: the predict function it calls, if any.
      between_paths: takes its place between two sets of images without a model; it needs `generated` and `reference`.
      image_shape: the only shape it is defined for.
      lower_is_better: which way it improves.
    """

    evaluate: Callable[[Context], Iterator[Result]]
    needs: tuple[str, ...]
    predict: str | None = None
    between_paths: Callable[[Context], Iterator[Result]] | None = None
    image_shape: tuple[int, int, int] | None = None
    lower_is_better: bool = False


METRICS = {
    "fd_digits": Metric(
        generation.fd_digits, ("generated", "reference"), image_shape=digits.IMAGE_SHAPE, lower_is_better=True
    ),
    "agreement_digits": Metric(generation.agreement_digits, ("generated", "asked"), image_shape=digits.IMAGE_SHAPE),
    "nn_distance_ratio": Metric(memorization.nn_distance_ratio, ("generated", "reference", "held_out", "training")),
    "psnr": Metric(reconstruction.psnr, ("reference", "timesteps"), "denoise", pairs.psnr),
    "ssim": Metric(reconstruction.ssim, ("reference", "timesteps"), "denoise", pairs.ssim),
    "nll": Metric(likelihood.nll, ("reference", "likelihoods"), lower_is_better=True),
    "accuracy": Metric(classification.accuracy, ("reference", "labels"), "classify"),
}


def check_names(metrics: Collection[str]) -> None:
    """Raises ConfigError, suggesting the nearest one, for a metric that there is not."""
    for name in metrics:
        choose("metric", name, METRICS)


def need(metrics: Collection[str], what: str) -> bool:
    """Whether any of the metrics needs `what`."""
    return any(what in METRICS[name].needs for name in metrics)


def _check_shape(name: str, image_shape: tuple[int, ...]) -> None:
    wanted = METRICS[name].image_shape
    if wanted not in (None, tuple(image_shape)):
        shapes = ["x".join(map(str, shape)) for shape in (wanted, image_shape)]
        raise ConfigError(f"metric {name} is defined for images of {shapes[0]}, these are {shapes[1]}")


def check_paths(metrics: Collection[str], *image_shapes: tuple[int, ...]) -> None:
    """Checks, before any work, that the metrics can be measured between sets of images of these shapes.

    Raises:
      ConfigError: names the metric and what it needs.
    """
    check_names(metrics)
    for name in metrics:
        metric = METRICS[name]
        if {"training", "likelihoods"} & set(metric.needs) or (metric.predict and metric.between_paths is None):
            raise ConfigError(f"metric {name} needs a run (--workdir): its model or its training images")
        for image_shape in image_shapes:
            _check_shape(name, image_shape)


def check_run(
    metrics: Collection[str],
    predict: Mapping[str, Any],
    image_shape: tuple[int, ...],
    split: str,
    timesteps: Collection[int],
    likelihoods: Collection[str] = (),
) -> None:
    """Checks, before any work, that the metrics can be measured on a run.

    Args:
      predict: the predict functions of its task, by name.
      split, timesteps, likelihoods: as in config.eval.
    Raises:
      ConfigError: names the metric and what it needs.
    """
    check_names(metrics)
    for name in metrics:
        metric = METRICS[name]
        for function in (metric.predict, "sample" if "generated" in metric.needs else None):
            if function is not None and function not in predict:
                raise ConfigError(
                    f"metric {name} needs the predict function {function!r}, which this model does not have; it has "
                    f"{', '.join(sorted(predict))}"
                )
        if "asked" in metric.needs and "label" not in predict["sample"].inputs:
            raise ConfigError(f"metric {name} needs a model that is asked for labels; this one is unconditional")
        if "timesteps" in metric.needs and not timesteps:
            raise ConfigError(f"metric {name} needs config.eval.timesteps, which is empty")
        if "likelihoods" in metric.needs:
            likelihoods_of(predict, likelihoods)
        if "held_out" in metric.needs and split == "train":
            others = ",".join(other for other in metrics if "held_out" not in METRICS[other].needs)
            raise ConfigError(
                f"metric {name} needs held-out images, not the train split; leave it out: --metrics={others}"
            )
        _check_shape(name, image_shape)


def likelihoods_of(predict: Mapping[str, Any], wanted: Collection[str]) -> dict[str, dict[str, Any]]:
    """The predict functions that give a likelihood, all or those `wanted`, with what they mean and their options.

    Raises:
      ConfigError: the model has none, or not one that is wanted.
    """
    known = {name: function for name, function in predict.items() if function.output == "nll"}
    if not known:
        raise ConfigError(f"metric nll needs a model with a likelihood; this one has {', '.join(sorted(predict))}")
    names = [choose("likelihood of this model", name, known) for name in wanted] or sorted(known)
    return {name: {**known[name].protocol, **known[name].options} for name in names}


def evaluate(metrics: Collection[str], context: Context) -> Iterator[Result]:
    """The results of the named metrics, which `check_run` or `check_paths` has let pass, as each is done."""
    for name in metrics:
        metric = METRICS[name]
        paired = context.predict is None and metric.between_paths is not None
        yield from (metric.between_paths if paired else metric.evaluate)(context)
