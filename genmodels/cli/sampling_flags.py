"""Flags on how samples are drawn; a flag that is given overrides the run's config.sampler."""

import math
from typing import Any

from absl import flags

from genmodels.errors import ConfigError

OVERRIDES = {
    "sampler": flags.DEFINE_string(
        "sampler", None, "Sampler, e.g. ddim, ancestral, heun; default: the run's config.sampler."
    ),
    "steps": flags.DEFINE_integer("steps", None, "Sampling steps; default: the run's config.sampler.", lower_bound=1),
    "spacing": flags.DEFINE_string(
        "spacing", None, "Spacing of the steps, e.g. trailing, karras; default: config.sampler."
    ),
    "eta": flags.DEFINE_float("eta", None, "Noise of ddim, 0 to 1; default: the run's config.sampler."),
    "variance": flags.DEFINE_string(
        "variance", None, "Variance of ancestral, e.g. fixed_large; default: config.sampler."
    ),
    "guidance": flags.DEFINE_float("guidance", None, "Scale of classifier-free guidance; default: 1, which is none."),
}


def given() -> dict[str, Any]:
    """{name: value} of the flags that were given.

    Raises:
      ConfigError: a value is not a finite number.
    """
    values = {name: flag.value for name, flag in OVERRIDES.items() if flag.value is not None}
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"--{name}={value}: must be a finite number")
    return values
