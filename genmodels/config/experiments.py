"""What experiment files share: how they name their variants and promises, and how one is shrunk for tests."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from genmodels.errors import choose


class Variant(NamedTuple):
    """A variant of an experiment, for `python -m genmodels.experiments`. VARIANTS of a file has them by name.

    Attributes:
      what: what is special about it, in one line.
      time: how long training took, and where; "" where nobody has measured it.
    """

    what: str
    time: str = ""


TINY = Variant("seconds, on scikit-learn's digits, for tests")


def check_variant(variant: str, known: Iterable[str]) -> None:
    """Raises ConfigError unless `variant` is "" or one of `known`."""
    if variant:
        choose("variant", variant, [name for name in known if name])


def promise(metric: str, value: float, tolerance: float, *, data: str = "", **protocol: Any) -> dict[str, Any]:
    """An entry of `config.expect`: evaluation under this protocol is no worse than `value` by more than `tolerance`.

    Args:
      data: what the promise was made on: digits, mnist or fashion_mnist, which are known by their contents, or a data
        source; "" is the `config.data.source` of the experiment file. The promise is not checked on other data.
    """
    made_on = {"data": data} if data else {}
    return {"metric": metric, "value": value, "tolerance": tolerance, "protocol": protocol} | made_on


# At most so many of each, where the config has the key.
AT_MOST = {"diffusion.timesteps": 20, "sampler.steps": 4, "likelihood.strata": 4}


def tiny(config: ConfigDict, **model: Any) -> None:
    """Shrinks an experiment to six steps on scikit-learn's 8x8 digits, which promise nothing.

    Args:
      model: keys of `config.model`, which only the experiment knows how to shrink.
    """
    config.data.source = "digits"
    config.model.update(model)
    config.train.update(batch_size=16, steps=6, epochs=0.0, examples=0)
    config.log.update(every=2, samples_every=0)
    config.checkpoint.every = 3
    metrics = tuple(re.sub("_(fashion_)?mnist$", "_digits", metric) for metric in config.eval.metrics)
    config.eval.update(num_samples=20, batch_size=40, metrics=metrics)
    if config.eval.timesteps:
        config.eval.timesteps = (5,)
    for key, most in AT_MOST.items():
        section, _, name = key.partition(".")
        if name in config.get(section, {}):
            config[section][name] = min(config[section][name], most)
    config.expect = ()
