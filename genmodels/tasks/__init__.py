"""The registry of tasks: adding a method is a module here and a row in TASKS, or a module of one's own.

`config.task` is a name in TASKS, or "module:function": a function outside this package that takes
(config, data, num_steps) and returns a Task. Beside that function, which is called `make` here, a module may have
`sections` and `SWITCHES`: what a config may hold for the task, see `config.defaults`.
"""

import functools
import importlib
from collections.abc import Callable
from types import ModuleType

from genmodels.core import user_code
from genmodels.errors import ConfigError, choose
from genmodels.tasks.base import Curve, DataSpec, FrozenNetwork, Predict, Pretrained, Task

__all__ = [
    "TASKS",
    "Curve",
    "DataSpec",
    "FrozenNetwork",
    "Predict",
    "Pretrained",
    "Task",
    "find",
    "make_task",
    "module_of",
]

TASKS = {name: f"genmodels.tasks.{name}" for name in ("classifier", "diffusion", "gan", "vae")}


def module_of(task: str) -> ModuleType:
    """The module of a task, imported when it is needed: a run imports the code of its own method only.

    Raises:
      ConfigError: there is no such task, or the module of a user's task cannot be imported.
    """
    if user_code.is_user_code(task):
        return user_code.module_of("config.task", task)
    return importlib.import_module(TASKS[choose("config.task", task, TASKS)])


def find(name: str) -> Callable[..., Task]:
    """The function that makes the task `name`, a name in TASKS or "module:function"; takes what `make_task` takes.

    Raises:
      ConfigError: there is no such task. Errors of a user's module are raised when the function is called.
    """
    if user_code.is_user_code(name):
        return functools.partial(user_code.call, "config.task", name)
    return module_of(name).make


def make_task(config, data: DataSpec, num_steps: int) -> Task:
    """The task that `config.task` names, for data of this shape and a run of `num_steps` updates.

    Raises:
      ConfigError: an unknown task, settings that the task refuses, or a mistake in a user's module.
    """
    task = find(config.task)(config, data, num_steps)
    if not isinstance(task, Task):
        raise ConfigError(
            f"config.task={config.task}: it must return a genmodels.tasks.Task, not {type(task).__name__}"
        )
    return task
