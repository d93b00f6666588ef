"""The registry of metrics: name to the evaluator that gives it and what that needs."""

import dataclasses
from collections.abc import Callable, Collection, Iterator

from genmodels.errors import ConfigError, choose
from genmodels.evaluators import classification, generation, memorization, pairs, reconstruction
from genmodels.evaluators.base import Context, ImageSet, Result
from genmodels.extractors import digits

__all__ = ["METRICS", "Context", "ImageSet", "Result", "check", "draws", "evaluate"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """How a metric is measured.

    Attributes:
      evaluate: Context to Results.
      needs: fields of the context, which must not be None.
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
    "agreement_digits": Metric(generation.agreement_digits, ("generated",), image_shape=digits.IMAGE_SHAPE),
    "nn_distance_ratio": Metric(memorization.nn_distance_ratio, ("generated", "reference", "training")),
    "psnr": Metric(reconstruction.psnr, ("reference",), "denoise", pairs.psnr),
    "ssim": Metric(reconstruction.ssim, ("reference",), "denoise", pairs.ssim),
    "accuracy": Metric(classification.accuracy, ("reference",), "classify"),
}


def check(
    metrics: Collection[str], predict: Collection[str] | None, image_shape: tuple[int, ...] | None = None
) -> None:
    """Checks, before any work, that the metrics exist and can be measured.

    Args:
      predict: names of the model's predict functions; None where two sets of images are compared.
      image_shape: (height, width, channel) of the images.
    Raises:
      ConfigError: names the metric and what it needs.
    """
    for name in metrics:
        metric = METRICS[choose("metric", name, METRICS)]
        if predict is None:
            if "training" in metric.needs or (metric.predict and metric.between_paths is None):
                raise ConfigError(f"metric {name} needs a run (--workdir): its model or its training images")
        else:
            for function in {metric.predict, "sample" if "generated" in metric.needs else None} - {None}:
                if function not in predict:
                    raise ConfigError(
                        f"metric {name} needs the predict function {function!r}, which this model does not have; it "
                        f"has {', '.join(sorted(predict))}"
                    )
        if image_shape is not None and metric.image_shape not in (None, tuple(image_shape)):
            shapes = ["x".join(map(str, shape)) for shape in (metric.image_shape, image_shape)]
            raise ConfigError(f"metric {name} is defined for images of {shapes[0]}, these are {shapes[1]}")


def draws(metrics: Collection[str]) -> bool:
    """Whether any of the metrics is about drawn samples."""
    return any("generated" in METRICS[name].needs for name in metrics)


def evaluate(metrics: Collection[str], context: Context) -> Iterator[Result]:
    """The results of the named metrics, which `check` has let pass, as each is done."""
    for name in metrics:
        metric = METRICS[name]
        paired = context.predict is None and metric.between_paths is not None
        yield from (metric.between_paths if paired else metric.evaluate)(context)
