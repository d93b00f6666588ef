"""What every task must fulfil, checked before its step is compiled, so that a mistake gives one line."""

from collections.abc import Mapping
from typing import Any

from genmodels.core.guard import Update
from genmodels.core.state import Average, TrainState
from genmodels.errors import ConfigError, choose
from genmodels.tasks.base import DataSpec, Task

IMAGE_FIELDS = ("image", "a", "b")  # fields that hold images whatever the data: one, or the two that are compared
OTHER_FIELDS = ("key", "label")


def check_predict_inputs(name: str, task: Task, data: DataSpec) -> None:
    """Checks that the commands can gather the inputs of every predict function.

    Args:
      name: `config.task`, for messages.
    Raises:
      ConfigError: an input is none of key, label, the image fields and those declared optional.
    """
    for function, predict in task.predict.items():
        known = {*OTHER_FIELDS, *IMAGE_FIELDS, *data.fields, *predict.optional}
        for field in predict.inputs:
            choose(f"config.task={name}: the predict function {function!r} has the input", field, known)


def check_step_output(name: str, output: Any) -> None:
    """Checks what `Task.train_step` returned while it was traced; costs nothing at run time.

    Args:
      name: `config.task`, for messages.
    Raises:
      ConfigError: it is not (TrainState, metrics) or (TrainState, metrics, Update), there is no metric "loss", or a
        metric is not a scalar.
    """
    where = f"config.task={name}: train_step"
    state, update = (output[0], output[2:]) if isinstance(output, tuple) and len(output) > 1 else (None, ())
    if not (isinstance(state, TrainState) and len(update) <= 1 and all(isinstance(part, Update) for part in update)):
        found = f"({', '.join(type(part).__name__ for part in output)})" if isinstance(output, tuple) else _kind(output)
        raise ConfigError(
            f"{where} must return (TrainState, metrics) or (TrainState, metrics, Update); it returns {found}"
        )
    metrics = output[1]
    if not isinstance(metrics, Mapping):
        raise ConfigError(f"{where} must return its metrics as a dictionary; it returns {_kind(metrics)}")
    if "loss" not in metrics:
        raise ConfigError(f"{where} must return the metric 'loss'; it returns {', '.join(sorted(metrics)) or 'none'}")
    for metric, value in metrics.items():
        parts = tuple(value) if isinstance(value, Average) else (value,)
        for part in parts:
            if getattr(part, "shape", None) != ():
                raise ConfigError(
                    f"{where} returns the metric {metric!r} as {_kind(part)}; a metric must be a scalar array or an "
                    "Average of two"
                )


def _kind(value: Any) -> str:
    """What a value is, for messages: its type, or the shape of an array."""
    shape = getattr(value, "shape", None)
    return f"a value of type {type(value).__name__}" if shape is None else f"an array of shape {tuple(shape)}"
