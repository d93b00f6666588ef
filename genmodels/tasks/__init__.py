"""The registry of tasks. A new method is a new file in this folder and a new entry in TASKS."""

from genmodels.errors import choose
from genmodels.tasks import classifier, diffusion, gan, vae
from genmodels.tasks.base import Curve, DataSpec, FrozenNetwork, Predict, Pretrained, Task

__all__ = ["TASKS", "Curve", "DataSpec", "FrozenNetwork", "Predict", "Pretrained", "Task", "make_task"]

TASKS = {"classifier": classifier.make, "diffusion": diffusion.make, "gan": gan.make, "vae": vae.make}


def make_task(config, data: DataSpec, num_steps: int) -> Task:
    """The task that `config.task` names, for data of this shape and a run of `num_steps` updates.

    Raises:
      ConfigError: an unknown task, or settings that the task refuses.
    """
    return TASKS[choose("config.task", config.task, TASKS)](config, data, num_steps)
