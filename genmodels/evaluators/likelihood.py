"""The negative log-likelihood of held-out images under the model, `nll`: one result per kind of likelihood.

For 8-bit images it is in bits per dimension, so that diffusion models, autoencoders and flows can be compared. For
black and white images, and for grey levels that are treated as probabilities, it is in nats per image. The protocol's
"unit", "likelihood" and "meaning" say which one it is and whether it is a bound. A kind is written as its name, or as a
call with options and a number of images: "iwae(samples=5000, images=100)".
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from genmodels.config import fits
from genmodels.data.spec import parse
from genmodels.errors import ConfigError, DataError, choose
from genmodels.evaluators.base import Context, Likelihood, Result

KEY, EXAMPLE = "likelihoods", "iwae(samples=5000, images=100)"
COUNTS = ("images", "samples")
CURVE_POINTS = 200  # at most, in the curve of the terms: single terms first, then means over parts that grow


def resolve_likelihoods(predict: Mapping[str, Any], kinds: Collection[str], images: int = 0) -> tuple[Likelihood, ...]:
    """The likelihoods to measure.

    Args:
      predict: the predict functions of the run, by name.
      kinds: as described at the head of this module; if empty, all kinds that the model has.
      images: number of reference images for kinds that do not state it; 0 is all.
    Raises:
      ConfigError: the model has no likelihood, or lacks one of these kinds or one of their options.
    """
    known = {name: function for name, function in predict.items() if function.output == "nll"}
    if not known:
        raise ConfigError(
            f"metric nll needs a model with a likelihood; this model only has {', '.join(sorted(predict))}"
        )
    return tuple(_read(text, known, images) for text in kinds or sorted(known))


def _read(text: str, known: Mapping[str, Any], images: int) -> Likelihood:
    if not text.strip():
        raise ConfigError(f"{KEY}: a name is missing beside a comma; there are {', '.join(known)}")
    call = parse(text, KEY, EXAMPLE)
    if call.args:
        raise ConfigError(f"{KEY}={text!r}: options have names, as in {EXAMPLE}")
    function = known[choose("likelihood of this model", call.name, known)]
    defaults = {"images": images, **function.options}
    for key, value in call.options.items():
        choose(f"option of the likelihood {call.name}", key, defaults)
        if not fits(value, type(defaults[key])) or (key in COUNTS and value < 1):
            minimum = " and at least 1" if key in COUNTS else ""
            raise ConfigError(f"{KEY}={text!r}: {key}={value!r} must be {type(defaults[key]).__name__}{minimum}")
    options = {key: value for key, value in call.options.items() if key != "images"}
    try:
        function.check({**function.options, **options})
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{KEY}={text!r}: {error}") from error
    protocol = {**function.protocol, **function.options, **options}
    return Likelihood(call.name, protocol, options, call.options.get("images", images))


def _curve(outputs: dict[str, np.ndarray], title: str) -> dict[str, Any] | None:
    """The curve of the bound's terms, averaged over images; a long curve is shortened by averaging over parts."""
    if "curve_y" not in outputs:
        return None
    x, y = (outputs[f"curve_{axis}"].mean(axis=0) for axis in "xy")
    edges = np.unique(np.round(np.geomspace(1, len(x), CURVE_POINTS)).astype(int))
    parts = np.split(np.arange(len(x)), edges[:-1])
    shortened = {axis: [float(values[part].mean()) for part in parts] for axis, values in (("x", x), ("y", y))}
    return {
        "title": title,
        "x_label": "timestep, from 1 (the decoder)",
        "y_label": "bits/dim, one term",
        **shortened,
    }


def nll(context: Context) -> Iterator[Result]:
    """One result for each kind of likelihood: the mean over images with its standard error.

    The standard error is computed from the values of single images. It therefore includes the variance that random
    noise and timesteps add to each value.

    Raises:
      DataError: a likelihood is not a number, for example because an ODE solver failed.
    """
    reference = context.require_images("reference")
    for kind in context.likelihoods:
        name, kind_protocol = kind.name, kind.protocol
        num = min(kind.images or len(reference), len(reference))
        inputs = {"image": reference.of_one_size()[:num]}
        if context.conditional:
            inputs["label"] = reference.require_labels()[:num]
        outputs = context.call(name, num, inputs, **kind.options)
        values = outputs.pop("nll").astype(np.float64)
        if not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(
                f"nll: the likelihood {name!r} of image {bad} is not a number; leave it out of --likelihoods"
            )
        title = kind_protocol.get("curve", name)
        kind_protocol = {key: value for key, value in kind_protocol.items() if key != "curve"}
        protocol = {**context.protocol, **reference.origin, **kind_protocol, "n_reference": num}
        if num > 1:
            protocol["standard_error"] = float(values.std(ddof=1) / np.sqrt(num))
        parts = {f"mean_{key}": float(x.mean()) for key, x in outputs.items() if not key.startswith("curve")}
        yield Result("nll", float(values.mean()), protocol | parts, _curve(outputs, title))
