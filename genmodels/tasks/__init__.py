"""The registry of tasks: adding a method is a module here and a row in TASKS.

A task's module has `make`, and what a config may hold for it: `sections` and `SWITCHES`, see `config.defaults`.
"""

import importlib
from types import ModuleType

from genmodels.errors import choose
from genmodels.tasks.base import DataSpec, FrozenNetwork, Predict, Pretrained, Task

__all__ = ["TASKS", "DataSpec", "FrozenNetwork", "Predict", "Pretrained", "Task", "make_task", "module_of"]

TASKS = {name: f"genmodels.tasks.{name}" for name in ("classifier", "diffusion", "gan", "vae")}


def module_of(task: str) -> ModuleType:
    """The module of a task, imported when it is asked for: a run imports the code of its own method only.

    Raises:
      ConfigError: an unknown task.
    """
    return importlib.import_module(TASKS[choose("config.task", task, TASKS)])


def make_task(config, data: DataSpec, num_steps: int) -> Task:
    """The task that `config.task` names, for data of this shape and a run of `num_steps` updates.

    Raises:
      ConfigError: an unknown task, or settings that the task refuses.
    """
    return module_of(config.task).make(config, data, num_steps)
