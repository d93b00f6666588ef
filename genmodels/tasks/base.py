"""What a generative method is to the rest of the code: a frozen dataclass of pure functions.

The loop, the evaluators and the command line know only this. They route on a predict function's `inputs` and
`output`, never on the method's name.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optax
from flax import struct

from genmodels.core.state import TrainState
from genmodels.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """What a task must know of the data.

    Attributes:
      image_shape: (height, width, channel).
      num_classes: 0 for unlabelled images.
      fields: of images in a batch: "image", or "a" and "b" of a pair.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    fields: tuple[str, ...] = ("image",)

    def require(self, task: str, *fields: str) -> None:
        """Raises ConfigError unless batches have just these fields of images."""
        if self.fields != fields:
            raise ConfigError(
                f"config.task={task} reads the field {' and '.join(fields)}, but batches of config.data.source have "
                f"{' and '.join(self.fields)}"
            )


@dataclasses.dataclass(frozen=True)
class Predict:
    """A named function of a trained model.

    Attributes:
      fn: (variables, frozen, inputs, dist, **options) to a dictionary of arrays with one row an example. Images go
        in and come out as float32 in [-1, 1].
      inputs: fields that `inputs` must have: "key" (one a row), "label", and by any other name images.
      output: the field of the result that this function is for: "image" (one image a row), "frames" (a sequence of
        images a row), or another such as "logits".
      optional: further fields that `inputs` may have.
      options: static settings and their defaults; part of the compiled function.
      protocol: entries that say what its output is, wherever that becomes a number.
      numbers: fields of the result with four or more axes that are no images, e.g. latents with positions.
      title: of its picture, see `reporting.pictures`; its name unless given.
      shows: {field of the result: what it shows, in words}: the rows of its picture from above; only `output`, where
        it is empty.
    """

    fn: Callable[..., dict[str, Any]]
    inputs: tuple[str, ...]
    output: str
    optional: tuple[str, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    numbers: tuple[str, ...] = ()
    title: str = ""
    shows: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def images(self) -> tuple[str, ...]:
        """The fields of `inputs` that are images."""
        return tuple(field for field in self.inputs if field not in ("key", "label"))


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A trained network that a task wants beside its own: a teacher, a first stage.

    Attributes:
      key: the config key that names its work directory, for messages.
      workdir: its work directory, or an experiment to train first.
      predict: the predict function it must have.
      alike: fields of DataSpec in which its data must equal the task's.
      training_only: predict functions do without it, so that they need not find it.
    """

    key: str
    workdir: str
    predict: str
    alike: tuple[str, ...] = ("image_shape", "num_classes")
    training_only: bool = True


class FrozenNetwork(struct.PyTreeNode):
    """A trained network as an argument of a compiled function: arrays, and what they can do.

    Attributes:
      variables: what its predict functions take.
      predict: (name, variables, inputs, dist) to the dictionary that its predict function gives.
    """

    variables: Any
    predict: Callable[..., dict[str, Any]] = struct.field(pytree_node=False)

    def __call__(self, name: str, inputs: dict[str, Any], dist: Any) -> dict[str, Any]:
        """Calls its predict function `name`."""
        return self.predict(name, self.variables, inputs, dist)


def no_adaptation(name: str, array: Any, shape: tuple[int, ...]) -> None:
    """No parameter of another shape can be used."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A method.

    Attributes:
      init: (rng, batch) to TrainState; `batch` is one normalised batch, of which only shapes matter.
      train_step: (state, frozen, batch, rng, dist) to (TrainState, metrics). It never names a device axis; whatever
        enters the state comes from `dist.mean` or `dist.all_gather`. `rng` is already folded with the step. Metrics
        are scalars or `Average`s; one that is not finite marks the whole update as bad.
      optimizers: by the names that `params` and `opt_state` share. `optim.Frozen.of(config, name)`, handed to
        `make_optimizer` and `gradients`, keeps parameters that `config.frozen` names as they are.
      predict: by name.
      watch: from the averages of a logging interval and its last "step", a line for each thing that is going wrong; it
        begins with a word or two that stay the same while it lasts, then a colon: "collapse: ...".
      row_multiple: the rows of a batch that a device holds must be a multiple of it.
      defaults: {"section.key": value} of its config sections, for configs written before there was such a key.
      pretrained: trained networks it wants; train_step and predict functions get a FrozenNetwork of each in `frozen`,
        by the same name.
      heads: regular expressions: parameters, "network/module/leaf", that begin anew where `config.init_from` has them
        in another shape.
      adapt: (name, array, shape) to another run's parameter brought to that shape, or None where that has no meaning.
    """

    init: Callable[[Any, Any], TrainState]
    train_step: Callable[..., tuple[TrainState, dict[str, Any]]]
    optimizers: dict[str, optax.GradientTransformation]
    predict: dict[str, Predict]
    watch: Callable[[Mapping[str, float]], Iterable[str]] = lambda values: ()
    row_multiple: int = 1
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pretrained: Mapping[str, Pretrained] = dataclasses.field(default_factory=dict)
    heads: tuple[str, ...] = ()
    adapt: Callable[[str, Any, tuple[int, ...]], Any] = no_adaptation
