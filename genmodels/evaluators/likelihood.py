"""How much a held-out image costs under the model: one record per kind of likelihood that is asked for.

Every kind is called `nll`. Of 8-bit images it is in bits per dimension, so that diffusion, autoencoders and flows stand
side by side; of black and white ones, and of greys taken for probabilities, in nats. The protocol's "unit",
"likelihood" and "meaning" say which it is and whether it is a bound. A kind is written as its name, or as a call with
its options and the number of images: "iwae(samples=5000, images=100)".
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
CURVE_POINTS = 200  # at most, in the picture of the terms: single terms first, then parts that grow


def select(predict: Mapping[str, Any], wanted: Collection[str], images: int = 0) -> tuple[Likelihood, ...]:
    """The likelihoods that are wanted, or all that the predict functions give.

    Args:
      images: how many images they see where they do not say; 0 is all.
    Raises:
      ConfigError: the model has none, or not one that is wanted, or that one has no such option.
    """
    known = {name: function for name, function in predict.items() if function.output == "nll"}
    if not known:
        raise ConfigError(f"metric nll needs a model with a likelihood; this one has {', '.join(sorted(predict))}")
    return tuple(_read(text, known, images) for text in wanted or sorted(known))


def _read(text: str, known: Mapping[str, Any], images: int) -> Likelihood:
    if not text.strip():
        raise ConfigError(f"{KEY}: a name is missing beside a comma; there are {', '.join(known)}")
    call = parse(text, KEY, EXAMPLE)
    if call.args:
        raise ConfigError(f"{KEY}={text!r}: options have names: {EXAMPLE}")
    function = known[choose("likelihood of this model", call.name, known)]
    own = {"images": images, **function.options}
    for key, value in call.options.items():
        choose(f"option of the likelihood {call.name}", key, own)
        if not fits(value, type(own[key])) or (key in COUNTS and value < 1):
            least = " and at least 1" if key in COUNTS else ""
            raise ConfigError(f"{KEY}={text!r}: {key}={value!r} must be {type(own[key]).__name__}{least}")
    options = {key: value for key, value in call.options.items() if key != "images"}
    protocol = {**function.protocol, **function.options, **options}
    return Likelihood(call.name, protocol, options, call.options.get("images", images))


def _curve(outputs: dict[str, np.ndarray], title: str) -> dict[str, Any] | None:
    """The mean over images of the terms, against the mean of where they are; long curves averaged in parts."""
    if "curve_y" not in outputs:
        return None
    x, y = (outputs[f"curve_{axis}"].mean(axis=0) for axis in "xy")
    edges = np.unique(np.round(np.geomspace(1, len(x), CURVE_POINTS)).astype(int))
    parts = np.split(np.arange(len(x)), edges[:-1])
    x, y = ([float(values[part].mean()) for part in parts] for values in (x, y))
    return {
        "title": title,
        "x_label": "timestep, from 1 (the decoder)",
        "y_label": "bits/dim, one term",
        "x": x,
        "y": y,
    }


def nll(context: Context) -> Iterator[Result]:
    """One result per kind of likelihood, the mean over images with its standard error.

    The error is that of the mean over images; it holds what the draws of noise and timesteps add to each of them.

    Raises:
      DataError: a likelihood that is not a number, e.g. where an ODE solver gave up.
    """
    reference = context.reference
    for kind in context.likelihoods:
        name, meaning = kind.name, kind.protocol
        num = min(kind.images or len(reference.images), len(reference.images))
        inputs = {"image": reference.images[:num]}
        if context.conditional:
            inputs["label"] = reference.labels[:num]
        outputs = context.predict(name, num, inputs, seed=context.seed, **kind.options)
        values = outputs.pop("nll").astype(np.float64)
        if not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(
                f"nll: the likelihood {name!r} of image {bad} is not a number; leave it out of --likelihoods"
            )
        title = meaning.get("curve", name)
        meaning = {key: value for key, value in meaning.items() if key != "curve"}
        protocol = {**context.protocol, **reference.origin, **meaning, "n_reference": num}
        if num > 1:
            protocol["standard_error"] = float(values.std(ddof=1) / np.sqrt(num))
        parts = {f"mean_{key}": float(x.mean()) for key, x in outputs.items() if not key.startswith("curve")}
        yield Result("nll", float(values.mean()), protocol | parts, _curve(outputs, title))
