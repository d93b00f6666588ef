"""Task: the interface between a generative method and the rest of the code, a frozen dataclass of pure functions.

The training loop, the evaluators and the command line see a method only through its Task. They choose what to do by the
`inputs` and the `output` of a predict function, never by the method's name.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optax
from flax import struct

from genmodels.core.guard import Update
from genmodels.core.state import TrainState
from genmodels.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """The facts about the data that a task is built from.

    Attributes:
      image_shape: (height, width, channel).
      num_classes: the number of classes; 0 for unlabelled images.
      fields: the names of a batch's images: "image", or "a" and "b" for pairs.
      class_names: of the labels 0, 1, ...; () where they are not known.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    fields: tuple[str, ...] = ("image",)
    class_names: tuple[str, ...] = ()

    def require(self, task: str, *fields: str) -> None:
        """Raises ConfigError unless the images of a batch have exactly the names `fields`."""
        if self.fields != fields:
            raise ConfigError(
                f"config.task={task} reads the field {' and '.join(fields)}, but batches of config.data.source have "
                f"{' and '.join(self.fields)}"
            )


@dataclasses.dataclass(frozen=True)
class Predict:
    """A named function of a trained model.

    Attributes:
      fn: (variables, frozen, inputs, dist, **options) to a dictionary of arrays with one row for each example. Images
        are float32 in [-1, 1], in the inputs and in the result.
      inputs: the fields that `inputs` must have: "key" (one for each row), "label", and images under any other name.
      output: the main field of the result: "image" (one image for each row), "frames" (a sequence of images for each
        row), or another such as "logits".
      optional: further fields that `inputs` may have.
      options: static settings with their defaults; they are constants of the compiled function.
      protocol: entries that describe the output in the protocol of every number that is computed from it.
      numbers: fields of the result that have four or more axes but are not images, e.g. latents with positions.
      title: the title of its picture, see `reporting.pictures`; by default its name.
      check: raises ConfigError or ValueError for options, all of them by name, that the function does not take.
      shows: {field of the result: what it shows, in words}: the rows of its picture from above; if empty, the picture
        shows `output` alone.
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
    check: Callable[[Mapping[str, Any]], None] = lambda options: None

    def shown(self, name: str, outputs: Mapping[str, Any]) -> dict[str, str]:
        """{field: what it shows, in words} of a result of the function called `name`, see `shows`."""
        return {field: words for field, words in (self.shows or {self.output: name}).items() if field in outputs}

    @property
    def images(self) -> tuple[str, ...]:
        """The fields of `inputs` that are images."""
        return tuple(field for field in self.inputs if field not in ("key", "label"))


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A trained network that a task needs besides its own, such as a teacher or a first stage.

    Attributes:
      key: the config key that names its work directory; error messages show it.
      workdir: its work directory, or an experiment that is trained first.
      predict: the predict function that it must have.
      alike: the fields of DataSpec in which its data must equal the task's data.
      training_only: only the training step needs it, so predict functions work where it is missing.
    """

    key: str
    workdir: str
    predict: str
    alike: tuple[str, ...] = ("image_shape", "num_classes")
    training_only: bool = True


class FrozenNetwork(struct.PyTreeNode):
    """A trained network that is handed to a compiled function as an argument: its arrays and its predict functions.

    Attributes:
      variables: the first argument of its predict functions.
      predict: (name, variables, inputs, dist) to the result of its predict function `name`.
    """

    variables: Any
    predict: Callable[..., dict[str, Any]] = struct.field(pytree_node=False)

    def __call__(self, name: str, inputs: dict[str, Any], dist: Any) -> dict[str, Any]:
        """Calls its predict function `name`."""
        return self.predict(name, self.variables, inputs, dist)


def no_adaptation(name: str, array: Any, shape: tuple[int, ...]) -> None:
    """Adapts no parameter: a task whose parameters have a meaning at one shape only uses this as its `adapt`."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """One picture of the report: the metrics that are drawn together against the training step.

    Attributes:
      title: the heading of the picture.
      metrics: the names of its metrics; a name that ends in an underscore is a prefix and stands for every metric that
        begins with it.
      y_label: the label of the vertical axis, the metrics' unit where they have one; "" for none.
      logarithmic: whether the vertical axis is logarithmic where all its values are positive.
    """

    title: str
    metrics: tuple[str, ...]
    y_label: str = ""
    logarithmic: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """A generative method, or a classifier.

    Attributes:
      init: (rng, batch) to TrainState; `batch` is a normalised batch, of which only the shapes matter.
      train_step: (state, frozen, batch, rng, dist) to (TrainState, metrics) or to (TrainState, metrics, Update). It
        never names a device axis; everything that enters the state comes from `dist.mean` or `dist.all_gather`. `rng`
        is already folded with the step. Metrics are scalars or `Average`s; a metric that is not finite marks the whole
        step as bad. `Update` is the last update of the step, not applied yet: the guard applies it or refuses the step.
      optimizers: the optimizers, under the names of their networks in `params` and `opt_state`.
      predict: the predict functions by name.
      watch: (averages of a logging interval, with its last "step") to one line for each problem that they show. A line
        begins with one or two words that do not change while the problem lasts, and a colon: "collapse: ...".
      row_multiple: the number of rows of a batch on one device must be a multiple of this.
      pretrained: the trained networks that it needs; train_step and the predict functions receive them as
        FrozenNetworks in `frozen`, under the same names.
      heads: regular expressions of parameter names, "network/module/leaf"; such a parameter keeps its fresh values if
        its shape differs in the run that `config.init_from` names.
      adapt: (name, array, shape) to the array of another run brought to that shape, or None where that is impossible.
      curves: the pictures that the report draws of this task's own metrics.
    """

    init: Callable[[Any, Any], TrainState]
    train_step: Callable[..., tuple[TrainState, dict[str, Any]] | tuple[TrainState, dict[str, Any], Update]]
    optimizers: dict[str, optax.GradientTransformation]
    predict: dict[str, Predict]
    watch: Callable[[Mapping[str, float]], Iterable[str]] = lambda values: ()
    row_multiple: int = 1
    pretrained: Mapping[str, Pretrained] = dataclasses.field(default_factory=dict)
    heads: tuple[str, ...] = ()
    adapt: Callable[[str, Any, tuple[int, ...]], Any] = no_adaptation
    curves: tuple[Curve, ...] = ()
