"""Runs of the same network and method share one task and its compiled programs, as long as a test session lasts.

A test session trains the same few tiny configurations a hundred times; without this it traces, lowers and loads the
same programs each time. What a new process does is seen by the tests that start real ones, in test_commands.py and
data/test_commands.py.
"""

import collections
import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import jax
import pytest

from genmodels import loop, tasks
from genmodels.core import user_code
from genmodels.core.parallel import Parallel
from genmodels.runs import inference, plan
from genmodels.runs.predictor import Predictor
from genmodels.runs.step import NO_AUGMENTATION

MAX_KEPT = 100  # tasks and programs
# Sections and keys of a config that no task reads, but for its messages.
NOT_OF_THE_TASK = (
    "checkpoint",
    "data",
    "expect",
    "init_from",
    "init_fresh",
    "log",
    "parallel",
    "seed",
    "shard_parameters",
)


@dataclasses.dataclass(frozen=True)
class Itself:
    """A key that equals another only if both are of the same object."""

    thing: Any

    def __eq__(self, other):
        return isinstance(other, Itself) and self.thing is other.thing

    def __hash__(self):
        return id(self.thing)


class Kept:
    """The things that were used last, by their keys."""

    def __init__(self):
        self.things: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What was made for this key, else what `make` gives."""
        if key not in self.things:
            self.things[key] = make()
        self.things.move_to_end(key)
        if len(self.things) > MAX_KEPT:
            self.things.popitem(last=False)
        return self.things[key]


def share(patch: pytest.MonkeyPatch) -> None:
    """Lets runs share their programs until the patch is undone."""
    from genmodels.tasks import diffusion

    kept = Kept()
    make_task, compose_step, as_network = plan.make_task, loop.compose_step, inference.Run.as_network
    compile_step, compile_function = Parallel.compile_step, Predictor._compile

    def shared_task(config, data, num_steps):
        if user_code.is_user_code(config.task):
            return make_task(config, data, num_steps)
        read = str([(name, value) for name, value in sorted(config.to_dict().items()) if name not in NOT_OF_THE_TASK])
        # Tests replace what makes a task, and the network: then it is another one.
        key = ("task", read, data, num_steps, tasks.find(config.task), diffusion.UNet)
        return kept.get(key, lambda: make_task(config, data, num_steps))

    def shared_step(task, augment=NO_AUGMENTATION, name=""):
        return kept.get(("step", Itself(task), augment, name), lambda: compose_step(task, augment, name))

    def devices_of(parallel):
        return parallel.mode, tuple(parallel.devices), parallel.shard_parameters

    def shared_program(self, step, state):
        key = ("program", step, *devices_of(self), jax.tree.structure(state))
        return kept.get(key, lambda: compile_step(self, step, state))

    def shared_function(self, name, options):
        key = ("function", Itself(self.task), *devices_of(self._parallel), name, tuple(sorted(options.items())))
        return kept.get(key, lambda: compile_function(self, name, options))

    def shared_network(self):
        network = as_network(self)
        if self.predictor.frozen:
            return network
        return network.replace(predict=kept.get(("network", Itself(self.predictor.task)), lambda: network.predict))

    patch.setattr(plan, "make_task", shared_task)
    patch.setattr(inference, "make_task", shared_task)
    patch.setattr(loop, "compose_step", shared_step)
    patch.setattr(Parallel, "compile_step", shared_program)
    patch.setattr(Predictor, "_compile", shared_function)
    patch.setattr(inference.Run, "as_network", shared_network)
