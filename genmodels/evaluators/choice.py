"""Which of the metrics of config.eval a run can have, and the values of config.eval that no evaluation takes.

A metric that the data or the model does not allow is left out, with a reason. A value that is wrong by itself is
refused before training, not by `evaluate` a day later.
"""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from genmodels.errors import ConfigError, choose
from genmodels.evaluators import Metric, Options, check_counts, check_run
from genmodels.evaluators.likelihood import KEY, resolve_likelihoods
from genmodels.evaluators.metric_names import check_layer
from genmodels.extractors import ExtractorSpec, inception
from genmodels.metrics.resize import RESIZES

WEIGHTS = ("lpips_trunk", "lpips_linear")


class Subject(NamedTuple):
    """What metrics are to be measured of.

    Attributes:
      functions: the predict functions of the task, by name.
      image_shape: (height, width, channel).
      fields: the image fields of a batch.
    """

    functions: Mapping[str, Any]
    image_shape: tuple[int, ...]
    fields: Collection[str]


class Choice(NamedTuple):
    """The metrics that can be measured, and {name: why not} of the others."""

    metrics: dict[str, Metric]
    left_out: dict[str, str]

    def note(self) -> str:
        """One line that says which metrics are left out, why, and which are left."""
        alike: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            alike.setdefault(reason.removeprefix(f"metric {name}"), []).append(name)
        likewise = {
            reason: f" (likewise {', '.join(names[1:])})" if names[1:] else "" for reason, names in alike.items()
        }
        reasons = "; ".join(f"{names[0]}{likewise[reason]}{reason}" for reason, names in alike.items())
        rest = f"{', '.join(self.metrics)} can be measured" if self.metrics else "only pictures can be made"
        return f"config.eval.metrics without what this run cannot have: {reasons}; {rest}"


def choose_metrics(metrics: Mapping[str, Metric], options: Options, settings: Mapping[str, Any], of: Subject) -> Choice:
    """Sorts out the metrics that the data or the model does not allow.

    Args:
      settings: config.eval, with the split that is compared with.
    """
    choice = Choice({}, {})
    for name, metric in metrics.items():
        likelihoods, timesteps = settings.get("likelihoods", ()), settings["timesteps"]
        try:
            split = settings["split"]
            check_run({name: metric}, of.functions, of.image_shape, split, timesteps, likelihoods, of.fields)
            if name == "lpips" and not all(getattr(options, key) for key in WEIGHTS):
                raise ConfigError(
                    f"metric lpips needs weights: set {' and '.join(f'config.eval.{k}' for k in WEIGHTS)}"
                )
            choice.metrics[name] = metric
        except ConfigError as error:
            choice.left_out[name] = str(error)
    return choice


def choose_by_counts(choice: Choice, options: Options, generated: int, reference: int | None) -> Choice:
    """Sorts out the metrics for which a set has too few images; None is a set that is not needed."""
    fewer = Choice({}, dict(choice.left_out))
    for name, metric in choice.metrics.items():
        try:
            check_counts({name: metric}, options, generated, reference)
            fewer.metrics[name] = metric
        except ConfigError as error:
            fewer.left_out[name] = str(error)
    return fewer


def check_extractor(settings: Mapping[str, Any]) -> None:
    """Checks the extractor that config.eval names, its resize and its layer, without loading it.

    Raises:
      ConfigError: one of them is unknown, or the file with the weights is not there.
    """
    extractor, resize, layer = (settings[key] for key in ("extractor", "resize", "layer"))
    choose("config.eval.resize", resize, ("none", *RESIZES))
    if layer:
        choose("config.eval.layer", layer, inception.LAYERS)
    if not extractor:
        return
    try:
        ExtractorSpec(extractor, resize, layer)
    except ConfigError as error:
        raise ConfigError(f"config.eval.extractor={extractor}: {error}") from error
    name, _, path = extractor.partition(":")
    if name in (inception.ID, inception.UNVERIFIED):
        _check_file("extractor", path)


def _check_file(key: str, path: str) -> None:
    if path and not pathlib.Path(path).is_file():
        raise ConfigError(f"config.eval.{key}: there is no file {path}")


def check_values(metrics: Mapping[str, Metric], options: Options, settings: Mapping[str, Any], of: Subject) -> None:
    """Checks the other values of config.eval.

    Raises:
      ConfigError: an unknown likelihood, an option out of range, weights that are not there, or fewer samples than a
        metric needs.
    """
    try:
        check_layer(settings["layer"], [metric.extractor_spec for metric in metrics.values()])
    except ConfigError as error:
        raise ConfigError(f"config.eval.{error}") from error
    for key in WEIGHTS:
        _check_file(key, getattr(options, key))
    if options.subset_size < 2:
        raise ConfigError(f"config.eval.subset_size must be at least 2, got {options.subset_size}")
    try:
        check_counts(metrics, options, settings["num_samples"], None)
    except ConfigError as error:
        text = str(error).replace("--", "config.eval.")
        raise ConfigError(f"config.eval.num_samples={settings['num_samples']}: {text}") from error
    if any(function.output == "nll" for function in of.functions.values()):
        try:
            resolve_likelihoods(of.functions, settings["likelihoods"])
        except ConfigError as error:
            raise ConfigError(f"config.eval.{KEY}: {str(error).removeprefix(f'{KEY}=')}") from error
