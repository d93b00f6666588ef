"""Calling predict functions in batches, on all devices, with images as uint8 in and out.

Row i of a call gets the key fold_in(key(seed), i), whatever the batch size and the number of devices.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from genmodels.config import check_seed, fits
from genmodels.core.failures import explained
from genmodels.core.parallel import Parallel
from genmodels.core.rng import fold
from genmodels.data import pipeline, transforms
from genmodels.errors import ConfigError, choose
from genmodels.tasks import FrozenNetwork, Task

NO_NETWORKS: Mapping[str, FrozenNetwork] = MappingProxyType({})


class Predictor:
    """Calls a task's predict functions on any number of rows.

    Args:
      batch_size: the rows of one call of the compiled function, rounded up to a multiple of the devices.
      frozen: the trained networks that the predict functions need besides their own.
    """

    def __init__(
        self, task: Task, parallel: Parallel, batch_size: int, frozen: Mapping[str, FrozenNetwork] = NO_NETWORKS
    ):
        self.task = task
        self.frozen = dict(frozen)
        self._parallel = parallel
        devices = len(parallel.devices)
        self._batch_size = -(-batch_size // devices) * devices
        self._compiled: dict[Any, Callable] = {}

    def _compile(self, name: str, options: dict[str, Any]) -> Callable:
        predict = self.task.predict[name]

        def fn(variables, frozen, inputs, dist):
            keys = fold(jax.vmap(jax.random.key)(inputs["seed"]), inputs["index"])
            fields = transforms.normalize(inputs["fields"]) | {"key": keys}
            outputs = predict.fn(variables, frozen, fields, dist, **options)
            images = [field for field, v in outputs.items() if v.ndim >= 4 and field not in predict.numbers]
            return outputs | {field: transforms.denormalize(outputs[field]) for field in images}

        return self._parallel.compile_predict(fn)

    def __call__(self, variables: Any, name: str, num: int, *inputs, **options) -> dict[str, np.ndarray]:
        """The batches of `batches`, which takes the same arguments, as one dictionary of arrays."""
        parts = list(self.batches(variables, name, num, *inputs, **options))
        return {field: np.concatenate([part[field] for part in parts]) for field in parts[0]}

    def batches(
        self,
        variables: Any,
        name: str,
        num: int,
        inputs: dict[str, Any] | None = None,
        *,
        seed: int = 0,
        **options,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Runs `name` on `num` rows, a batch at a time; image inputs and outputs are uint8.

        Args:
          inputs: arrays of `num` rows for the function's fields, except "key", which comes from `seed`; images may be
            pixels that are read when they are needed (data.pixels).
          options: override the function's own; None leaves one at its default.
        Raises:
          ConfigError: the run has no such function, input or option, or a value is refused.
        """
        check_seed("seed", seed)
        predict = self.task.predict[choose("predict function", name, self.task.predict)]
        inputs = dict(inputs or {})
        for field in inputs:
            choose(f"input of {name}", field, predict.inputs + predict.optional)
        for field in predict.inputs:
            if field != "key" and field not in inputs:
                raise ConfigError(f"{name} needs the input {field!r}")
        chosen = self._options(name, options)
        key = (name, tuple(sorted(chosen.items())), tuple(sorted(inputs)))
        if key not in self._compiled:
            self._compiled[key] = self._compile(name, chosen)
        rows = {"seed": np.full(num, seed, np.uint32), "index": np.arange(num, dtype=np.uint32), "fields": inputs}
        try:
            for start in range(0, num, self._batch_size):
                part = jax.tree.map(lambda x, s=start: x[s : s + self._batch_size], rows)
                padded, real = pipeline.pad_rows(part, self._batch_size)
                with explained(f"the predict function {name}", "config.eval.batch_size"):
                    outputs = self._compiled[key](variables, self.frozen, padded)
                yield {field: value[real] for field, value in outputs.items()}
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from error

    def _options(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a predict function with those given in the place of its defaults, checked by their types."""
        defaults = self.task.predict[name].options
        chosen = dict(defaults)
        for key, value in options.items():
            choose(f"option of {name}", key, defaults)
            if value is None:
                continue
            wanted = type(defaults[key])
            if not fits(value, wanted):
                raise ConfigError(f"{name}: {key}={value!r}: must be {wanted.__name__}")
            chosen[key] = wanted(value)
        try:
            self.task.predict[name].check(chosen)
        except (ConfigError, ValueError) as error:
            raise ConfigError(f"{name}: {error}") from error
        return chosen
