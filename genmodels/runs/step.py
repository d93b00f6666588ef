"""What is compiled for a run: its initial state, and the task's step with augmentation before it and a guard around it.

`loop.train` calls both; so do tests and measurements of a single step.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from genmodels.core.guard import guarded
from genmodels.core.rng import AUGMENTATION_STREAM
from genmodels.core.state import TrainState
from genmodels.data import pipeline, transforms
from genmodels.data.augment import Augment
from genmodels.data.base import DataSource
from genmodels.tasks import Task
from genmodels.tasks.checks import check_step_output

NO_AUGMENTATION = Augment()


def compose_step(task: Task, augment: Augment = NO_AUGMENTATION, name: str = "") -> Callable:
    """The step that is compiled: normalisation and augmentation before the task's own step, the guard around both.

    Args:
      name: `config.task`, for messages.
    Raises, when the step is traced:
      ConfigError: the task's step does not return a state and scalar metrics with a "loss" among them.
    """

    def step(state, frozen, batch, rng, dist):
        batch = transforms.normalize(batch)
        if augment != NO_AUGMENTATION:
            batch = augment(batch, dist.example_keys(jax.random.fold_in(rng, AUGMENTATION_STREAM)))
        output = task.train_step(state, frozen, batch, rng, dist)
        check_step_output(name, output)
        return output

    return guarded(step)


def initial_state(task: Task, source: DataSource, seed: int, shardings: Any = None) -> TrainState:
    """The state of step 0, made where `shardings` say, so that it need not fit on one device."""
    shapes = jax.eval_shape(transforms.normalize, pipeline.make_batch(source, seed, 0, 1))
    batch = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    # It runs once: compiling its many small random draws with all optimisations costs far more than they save.
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    # What is traced is `task.init` itself, as it is for `abstract_state`, so that jax traces it once.
    return jax.jit(task.init, out_shardings=shardings, compiler_options=quick)(jax.random.key(seed), batch)
