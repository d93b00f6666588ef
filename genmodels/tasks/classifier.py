"""Supervised classification as a Task: cross-entropy on labels. Its networks also serve as feature extractors.

Labels may be smoothed (Szegedy et al. 2016), mixed (Zhang et al. 2018), and joined by the predictions of a teacher for
the same image (Hinton et al. 2015). `config.model.name` chooses the network.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Integer, Key

from genmodels.config import Effect, build
from genmodels.core.guard import Update
from genmodels.core.parallel import Dist
from genmodels.core.rng import fold
from genmodels.core.state import TrainState
from genmodels.errors import ConfigError, choose
from genmodels.losses import distillation
from genmodels.models import vit
from genmodels.models.convnet import ConvNet
from genmodels.nn.mixup import mix
from genmodels.tasks.base import Curve, DataSpec, Predict, Pretrained, Task, no_adaptation
from genmodels.tasks.network_optimizer import NetworkOptimizer, network_optimizers

NETWORK = "classifier"
TEACHER = "teacher"
NETWORKS = {"convnet": ConvNet, "vit": vit.ViT}  # (images, keys) to (logits, features), the last layer called logits
ADAPT: dict[str, Callable[[Any], Callable]] = {  # the network to `Task.adapt`
    "convnet": lambda network: no_adaptation,
    "vit": lambda network: functools.partial(vit.adapt, method=network.resize_positions),
}
MIXUP_SALT = 0x6D6978  # an example's key is folded with it for mixup; the network uses the key itself

CURVES = (Curve("Accuracy", ("accuracy",), "share"),)

Rows = dict[str, Array]
Metrics = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """The switch of `config.model`; the network's class reads the other keys.

    Attributes:
      name: the network: convnet or vit. It decides which other keys the section has.
    """

    name: str = "convnet"


@dataclasses.dataclass(frozen=True)
class Loss:
    """`config.loss`.

    Attributes:
      label_smoothing: share of the target that goes to all classes alike.
      mixup: alpha of the Beta distribution that two images are mixed by; 0 is off.
    """

    label_smoothing: float = 0.0
    mixup: float = 0.0

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be within [0, 1), got {self.label_smoothing}")
        if not 0 <= self.mixup < float("inf"):
            raise ValueError(f"mixup must be finite and not negative, got {self.mixup}")


@dataclasses.dataclass(frozen=True)
class Distill:
    """`config.distill`: loss = (1 - alpha) cross-entropy with the labels + alpha loss with the teacher.

    Attributes:
      teacher: work directory of a trained classifier, or an experiment to train first; "" is no distillation.
      temperature: temperature of the teacher's soft labels.
      alpha: share of the teacher's loss.
      hard: the teacher gives its decision (DeiT) in place of its probabilities.
    """

    teacher: str = ""
    temperature: float = 1.0
    alpha: float = 0.5
    hard: bool = False

    def __post_init__(self):
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be within [0, 1], got {self.alpha}")


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """The training of a classifier, and its one predict function.

    Attributes:
      model: the network.
      num_classes: the number of classes.
      loss_settings: `config.loss`.
      distill: `config.distill`.
      optimizer: of the network.
    """

    model: nn.Module
    num_classes: int
    loss_settings: Loss
    distill: Distill
    optimizer: NetworkOptimizer

    def init(self, rng: Key[Array, ""], batch: Rows) -> TrainState:
        """The state of step 0."""
        params = {NETWORK: self.model.init(rng, batch["image"][:1])["params"]}
        transformations = {NETWORK: self.optimizer.transformation}
        return TrainState.create(params, transformations, ema=self.optimizer.ema_decay is not None)

    def targets(self, labels: Integer[Array, " batch"]) -> Float[Array, "batch classes"]:
        """One-hot labels after smoothing."""
        return optax.smooth_labels(jax.nn.one_hot(labels, self.num_classes), self.loss_settings.label_smoothing)

    def teacher_losses(
        self, logits: Float[Array, "batch classes"], teacher_logits: Float[Array, "batch classes"]
    ) -> Float[Array, " batch"]:
        """The loss of each example with the teacher's decision or with its probabilities."""
        if self.distill.hard:
            return distillation.hard_loss(logits, teacher_logits)
        return distillation.soft_loss(logits, teacher_logits, self.distill.temperature)

    def loss(self, params: Any, rows: Rows) -> tuple[Float[Array, ""], Metrics]:
        """The mean loss of `rows`, and its metrics.

        Args:
          params: the parameters of the network.
          rows: "image", "target" (probabilities of the classes), "key" and, for a distilled network, "teacher" (the
            teacher's logits).
        """
        logits, _ = self.model.apply({"params": params}, rows["image"], rows["key"])
        losses = optax.softmax_cross_entropy(logits, rows["target"])
        metrics = {"accuracy": jnp.mean(1.0 * (jnp.argmax(logits, -1) == jnp.argmax(rows["target"], -1)))}
        if self.distill.teacher:
            teacher_losses = self.teacher_losses(logits, rows[TEACHER])
            metrics |= {"loss_labels": jnp.mean(losses), "loss_teacher": jnp.mean(teacher_losses)}
            losses = (1 - self.distill.alpha) * losses + self.distill.alpha * teacher_losses
        return jnp.mean(losses), metrics

    def train_step(
        self, state: TrainState, frozen: Any, batch: Rows, rng: Key[Array, ""], dist: Dist
    ) -> tuple[TrainState, Metrics, Update]:
        """See `Task.train_step`."""
        keys, images, targets = dist.example_keys(rng), batch["image"], self.targets(batch["label"])
        if self.loss_settings.mixup:
            images, targets = mix(images, targets, fold(keys, MIXUP_SALT), self.loss_settings.mixup, dist)
        rows = {"image": images, "target": targets, "key": keys}
        if self.distill.teacher:
            rows[TEACHER] = frozen[TEACHER]("classify", {"image": images}, dist)["logits"]
        update, metrics = self.optimizer.update(state, self.loss, rows, dist)
        return state, metrics, update

    def classify(self, variables: Any, frozen: Any, inputs: Mapping[str, Array], dist: Any) -> dict[str, Array]:
        """The logits and the features of each image."""
        logits, features = self.model.apply({"params": variables["params"][NETWORK]}, inputs["image"])
        return {"logits": logits, "features": features}


SWITCHES = {"network": "model.name"}
EFFECTS = (
    Effect(("distill.alpha", "distill.hard"), lambda flat: bool(flat["distill.teacher"]), "config.distill.teacher"),
    Effect(
        ("distill.temperature",),
        lambda flat: bool(flat["distill.teacher"]) and not flat["distill.hard"],
        "config.distill.teacher, with config.distill.hard=False",
    ),
)


def sections(config: Any) -> dict[str, type | tuple[type, ...]]:
    """The dataclasses that read each section of a classifier's config.

    Raises:
      ConfigError: an unknown network.
    """
    network = NETWORKS[choose("config.model.name", config.get("model", {}).get("name", "convnet"), NETWORKS)]
    return {"model": (Network, network), "loss": Loss, "distill": Distill}


def make(config: Any, data: DataSpec, num_steps: int) -> Task:
    """The classification task of a config with the section `model` and, if any, `loss` and `distill`.

    Raises:
      ConfigError: the config has an unknown key or a value that is refused, or the data has no labels.
    """
    data.require("classifier", "image")
    if not data.num_classes:
        raise ConfigError(f"config.data.source={config.data.source} has no labels, which config.task=classifier needs")
    settings = dict(config.model)
    name = choose("config.model.name", settings.pop("name", "convnet"), NETWORKS)
    model = build(NETWORKS[name], settings, "model", num_classes=data.num_classes)
    choose("config.model.dtype", settings.get("dtype", "float32"), ("float32", "bfloat16"))
    if settings.get("resize_positions", vit.CUBIC) != vit.CUBIC and not config.get("init_from", ""):
        raise ConfigError(
            f"config.model.resize_positions={settings['resize_positions']} is about the positions that "
            f"config.init_from brings; set config.init_from, or resize_positions={vit.CUBIC}"
        )
    loss = build(Loss, config.get("loss", {}), "loss")
    distill = build(Distill, config.get("distill", {}), "distill")
    optimizer = network_optimizers(config, {NETWORK: 1}, (NETWORK,), num_steps)[NETWORK]
    method = Classifier(model, data.num_classes, loss, distill, optimizer)
    teachers = {TEACHER: Pretrained("config.distill.teacher", distill.teacher, "classify")} if distill.teacher else {}
    return Task(
        init=method.init,
        train_step=method.train_step,
        optimizers={NETWORK: optimizer.transformation},
        predict={"classify": Predict(method.classify, ("image",), "logits")},
        pretrained=teachers,
        heads=(f"{NETWORK}/logits/.*",),
        adapt=ADAPT[name](model),
        curves=CURVES,
    )
