"""The registry of tasks: adding a method is a file here and a row in TASKS, or a module of one's own.

`config.task` is a name in TASKS, or "module:function": a function outside this package that takes
(config, data, num_steps) and returns a Task.
"""

import functools
from collections.abc import Callable

from genmodels.core import user_code
from genmodels.errors import ConfigError, choose
from genmodels.tasks import classifier, diffusion, gan, vae
from genmodels.tasks.base import Curve, DataSpec, FrozenNetwork, Predict, Pretrained, Task

__all__ = ["TASKS", "Curve", "DataSpec", "FrozenNetwork", "Predict", "Pretrained", "Task", "find", "make_task"]

TASKS = {"classifier": classifier.make, "diffusion": diffusion.make, "gan": gan.make, "vae": vae.make}


def find(name: str) -> Callable[..., Task]:
    """The function that makes the task `name`, a name in TASKS or "module:function"; takes what `make_task` takes.

    Raises:
      ConfigError: there is no such task. Errors of a user's module are raised when the function is called.
    """
    if user_code.is_user_code(name):
        return functools.partial(user_code.call, "config.task", name)
    return TASKS[choose("config.task", name, TASKS)]


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
