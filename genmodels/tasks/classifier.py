"""Supervised classification as a Task: cross-entropy on labels. Its networks serve as feature extractors too.

Labels may be smoothed (Szegedy et al. 2016), mixed (Zhang et al. 2018) and joined by what a teacher says of the same
image (Hinton et al. 2015). `config.model.name` chooses the network.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from genmodels.config import build
from genmodels.core import optim
from genmodels.core.state import TrainState
from genmodels.errors import ConfigError, choose
from genmodels.losses import distillation
from genmodels.models import vit
from genmodels.models.convnet import ConvNet
from genmodels.nn.mixup import mix
from genmodels.tasks.base import DataSpec, Predict, Pretrained, Task, no_adaptation

NETWORK = "classifier"
TEACHER = "teacher"
NETWORKS = {"convnet": ConvNet, "vit": vit.ViT}  # (images, keys) to (logits, features), the last layer called logits
ADAPT = {"convnet": no_adaptation, "vit": vit.adapt}
MIXUP = 0x6D6978  # tells its keys from the network's


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


SWITCHES = {"network": "model.name"}


def sections(config: Mapping[str, Any]) -> dict[str, type | tuple[type, ...]]:
    """The dataclasses that read each section of a classifier's config.

    Raises:
      ConfigError: an unknown network.
    """
    network = NETWORKS[choose("config.model.name", config.get("model", {}).get("name", "convnet"), NETWORKS)]
    return {"model": (Network, network), "loss": Loss, "distill": Distill}


def make(config: Any, data: DataSpec, num_steps: int) -> Task:
    """The classification task of a config with the section `model` and, if any, `loss` and `distill`.

    Raises:
      ConfigError: an unknown key, a value that is refused, or data without labels.
    """
    data.require("classifier", "image")
    if not data.num_classes:
        raise ConfigError(f"config.data.source={config.data.source} has no labels, which config.task=classifier needs")
    settings = dict(config.model)
    name = choose("config.model.name", settings.pop("name", "convnet"), NETWORKS)
    model = build(NETWORKS[name], settings, "model", num_classes=data.num_classes)
    choose("config.model.dtype", settings.get("dtype", "float32"), ("float32", "bfloat16"))
    loss = build(Loss, config.get("loss", {}), "loss")
    distill = build(Distill, config.get("distill", {}), "distill")
    frozen_parts = optim.Frozen.of(config, NETWORK)
    tx = optim.make_optimizers(config, {NETWORK: 1}, num_steps)[NETWORK]
    decay = optim.ema_decay(config.ema, num_steps)

    def init(rng, batch) -> TrainState:
        params = {NETWORK: model.init(rng, batch["image"][:1])["params"]}
        return TrainState.create(params, {NETWORK: tx}, ema=decay is not None)

    def loss_fn(params, rows):
        logits, _ = model.apply({"params": params}, rows["image"], rows["key"])
        losses = optax.softmax_cross_entropy(logits, rows["target"])
        metrics = {"accuracy": jnp.mean(1.0 * (jnp.argmax(logits, -1) == jnp.argmax(rows["target"], -1)))}
        if distill.teacher:
            says = rows[TEACHER]
            theirs = (
                distillation.hard_loss(logits, says)
                if distill.hard
                else distillation.soft_loss(logits, says, distill.temperature)
            )
            metrics |= {"loss_labels": jnp.mean(losses), "loss_teacher": jnp.mean(theirs)}
            losses = (1 - distill.alpha) * losses + distill.alpha * theirs
        return jnp.mean(losses), metrics

    def train_step(state, frozen, batch, rng, dist):
        keys = dist.example_keys(rng)
        images = batch["image"]
        targets = optax.smooth_labels(jax.nn.one_hot(batch["label"], data.num_classes), loss.label_smoothing)
        if loss.mixup:
            mixing = jax.vmap(jax.random.fold_in, (0, None))(keys, MIXUP)
            images, targets = mix(images, targets, mixing, loss.mixup, dist)
        rows = {"image": images, "target": targets, "key": keys}
        if distill.teacher:
            rows[TEACHER] = frozen[TEACHER]("classify", {"image": images}, dist)["logits"]
        grads, metrics = optim.gradients(
            loss_fn, state.params[NETWORK], rows, dist, config.train.accumulate, frozen_parts
        )
        state, norms = optim.apply_gradients(state, NETWORK, tx, grads, decay)
        return state, metrics | norms

    def classify(variables, frozen, inputs, dist):
        logits, features = model.apply({"params": variables["params"][NETWORK]}, inputs["image"])
        return {"logits": logits, "features": features}

    teachers = {TEACHER: Pretrained("config.distill.teacher", distill.teacher, "classify")} if distill.teacher else {}
    return Task(
        init=init,
        train_step=train_step,
        optimizers={NETWORK: tx},
        predict={"classify": Predict(classify, ("image",), "logits")},
        pretrained=teachers,
        heads=(f"{NETWORK}/logits/.*",),
        adapt=ADAPT[name],
    )
