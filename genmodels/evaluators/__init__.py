"""The registry of metrics: name to the evaluator that gives it and what that needs of the context."""

from collections.abc import Iterator

from genmodels.errors import ConfigError, choose
from genmodels.evaluators import classification, generation, memorization, pairs, reconstruction
from genmodels.evaluators.base import Context, ImageSet, Result

__all__ = ["METRICS", "Context", "ImageSet", "Result", "check_names", "evaluate", "lower_is_better"]

METRICS = {
    "fd_digits": (generation.fd_digits, ("generated", "reference")),
    "agreement_digits": (generation.agreement_digits, ("generated",)),
    "nn_distance_ratio": (memorization.nn_distance_ratio, ("generated", "reference", "training")),
    "psnr": (reconstruction.psnr, ("reference", "predict")),
    "ssim": (reconstruction.ssim, ("reference", "predict")),
    "accuracy": (classification.accuracy, ("reference", "predict")),
}

# Between two paths the paired metrics compare image i with image i.
PAIRED = {"psnr": pairs.psnr, "ssim": pairs.ssim}

LOWER_IS_BETTER = ("fd_digits",)


def lower_is_better(name: str) -> bool:
    """Which way `name` improves."""
    return name in LOWER_IS_BETTER


def check_names(metrics: tuple[str, ...]) -> None:
    """Raises ConfigError, suggesting the nearest one, for a metric that there is not."""
    for name in metrics:
        choose("metric", name, METRICS)


def evaluate(metrics: tuple[str, ...], context: Context) -> Iterator[Result]:
    """The results of the named metrics, as each is done.

    Raises:
      ConfigError: an unknown metric, or one that needs what this call does not have.
    """
    check_names(metrics)
    for name in metrics:
        function, needs = METRICS[name]
        if context.predict is None and name in PAIRED:
            function, needs = PAIRED[name], ("generated", "reference")
        for need in needs:
            if getattr(context, need) is None:
                what = {"predict": "a model (--workdir)", "training": "the training images (--workdir)"}.get(need, need)
                raise ConfigError(f"metric {name} needs {what}, which this call does not have")
        yield from function(context)
