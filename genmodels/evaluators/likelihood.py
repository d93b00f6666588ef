"""How many bits a held-out image costs under the model: one record per kind of likelihood that the model has.

Every kind is called `nll`, in bits per dimension of the 8-bit image, so that diffusion, autoencoders and flows stand
side by side; the protocol's "likelihood" and "meaning" say which kind it is and whether it is a bound.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from genmodels.errors import DataError
from genmodels.evaluators.base import Context, Result

CURVE_POINTS = 200  # at most, in the picture of the terms: single terms first, then parts that grow


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
    num = min(context.likelihood_images or len(reference.images), len(reference.images))
    inputs = {"image": reference.images[:num]}
    if context.conditional:
        inputs["label"] = reference.labels[:num]
    for name, meaning in context.likelihoods.items():
        outputs = context.predict(name, num, inputs, seed=context.seed)
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
