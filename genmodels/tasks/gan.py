"""Generative adversarial networks (Goodfellow et al. 2014) as a Task.

    a step   n updates of the discriminator D, each on its own n-th of the batch and as many fakes from fresh latents;
             then one update of the generator G on fresh latents

`config.train.batch_size` is therefore n times the batch of one discriminator update, which papers call the batch size.
Losses and penalties are listed in genmodels.losses, augmentations in genmodels.nn.diff_augment. The logged `loss` is
that of G: it compares G with D, and does not measure the quality of the images.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, Key

from genmodels.config import OptimOfNetwork, build, when
from genmodels.core.guard import Update
from genmodels.core.parallel import Dist
from genmodels.core.rng import INIT_STREAM, fold
from genmodels.core.state import Average, TrainState
from genmodels.errors import ConfigError, choose
from genmodels.losses.adversarial import LOSSES, Adversarial
from genmodels.losses.penalties import PENALTIES
from genmodels.models.gan import Networks
from genmodels.nn import spectral_norm
from genmodels.nn.batch_norm import COLLECTION
from genmodels.nn.diff_augment import AUGMENTATIONS, augment
from genmodels.tasks.base import Curve, DataSpec, Task
from genmodels.tasks.gan_diagnostics import sample_diversity, watch
from genmodels.tasks.gan_predict import (
    DISCRIMINATOR,
    GENERATOR,
    LATENT_SALT,
    SPECTRAL,
    BatchStatistics,
    GANFunctions,
    GANNetworks,
)
from genmodels.tasks.network_optimizer import NetworkOptimizer, network_optimizers

NO_PENALTY = "none"
FAKE_LABELS = ("data", "uniform")
MAX_STATISTICS_DECAY = 0.99  # of averaged batch statistics in each update, where no EMA sets their decay

# In training, an example's key is folded with LATENT_SALT, which is 0, or with one of these, for each of its draws.
REAL_AUGMENT_SALT, FAKE_AUGMENT_SALT, PENALTY_SALT, GENERATOR_SALT, GENERATOR_AUGMENT_SALT, PENALTY_AUGMENT_SALT = (
    range(1, 7)
)
FAKE_LABEL_SALT = 7

CURVES = (
    Curve("Share of images that the discriminator gets right", ("discriminator_accuracy_",), "share"),
    Curve("Differences among samples, relative to real images", ("sample_diversity",), "ratio", logarithmic=True),
    Curve("Discriminator's loss and penalty", ("discriminator_loss", "penalty"), "loss"),
)

Rows = dict[str, Array]
Metrics = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class GANConfig:
    """`config.gan`.

    Attributes:
      loss: the adversarial loss: non_saturating, least_squares, hinge or wasserstein.
      penalty: on the gradient of D: wgan_gp, r1 or none.
      penalty_weight: weight of the penalty: 10 is usual for wgan_gp; r1's is gamma, 0.1 to 10.
      penalty_interval: updates of D from one penalty to the next; its weight is multiplied by as many (Karras et al.
        2020, section 3.1).
      discriminator_steps: updates of D in a step, n.
      generator_multiple: latents in an update of G, as a multiple of the rows in one update of D.
      augment: differentiable augmentations of all images that D sees: colour, translation, cutout.
      conditional: generates images of a given label.
      fake_labels: labels of generated images in training: "data" takes those of the images in the batch, "uniform"
        draws them, all classes alike; for a conditional GAN.
      statistics_decay: decay of the averaged batch statistics at each update of their network; 0 is the decay of the
        averaged parameters or, without these, at most 0.99.
    Raises:
      ConfigError, ValueError: an unknown name, or a value out of range.
    """

    loss: str = "non_saturating"
    penalty: str = NO_PENALTY
    penalty_weight: float = 10.0
    penalty_interval: int = 1
    discriminator_steps: int = 1
    generator_multiple: int = 1
    augment: tuple[str, ...] = ()
    conditional: bool = False
    fake_labels: str = "data"
    statistics_decay: float = 0.0

    def __post_init__(self):
        choose("config.gan.loss", self.loss, LOSSES)
        choose("config.gan.penalty", self.penalty, (NO_PENALTY, *PENALTIES))
        choose("config.gan.fake_labels", self.fake_labels, FAKE_LABELS)
        if self.fake_labels == "uniform" and (not self.conditional or self.penalty == "wgan_gp"):
            raise ValueError(
                "fake_labels=uniform needs conditional=True and a penalty other than wgan_gp, whose images between a "
                "real and a fake one have the label of both"
            )
        if not 0 <= self.statistics_decay < 1:
            raise ValueError(f"statistics_decay={self.statistics_decay} must be within [0, 1)")
        for name in self.augment:
            choose("config.gan.augment", name, AUGMENTATIONS)
        if not 0 <= self.penalty_weight < float("inf"):
            raise ValueError(f"penalty_weight={self.penalty_weight} must be finite and not negative")
        for name in ("penalty_interval", "discriminator_steps", "generator_multiple"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


@dataclasses.dataclass(frozen=True, eq=False)
class GAN:
    """The training of a generator and a discriminator.

    Attributes:
      settings: `config.gan`.
      networks: both networks.
      optimizers: those of GENERATOR and DISCRIMINATOR.
    """

    settings: GANConfig
    networks: GANNetworks
    optimizers: Mapping[str, NetworkOptimizer]

    @property
    def adversarial(self) -> Adversarial:
        """The losses of both networks."""
        return LOSSES[self.settings.loss]

    @property
    def conditional(self) -> bool:
        """Whether the networks see labels."""
        return self.networks.settings.num_classes > 0

    def init(self, rng: Key[Array, ""], batch: Rows) -> TrainState:
        """The state of step 0."""
        settings = self.networks.settings
        g_key, d_key, u_key = jax.random.split(fold(rng, INIT_STREAM), 3)
        labels = jnp.zeros((1,), jnp.int32) if self.conditional else None
        extra: dict[str, Any] = {
            GENERATOR: settings.generator().init(g_key, jnp.zeros((1, settings.latent)), labels),
            DISCRIMINATOR: settings.discriminator().init(d_key, batch["image"][:1], labels),
        }
        params = {name: variables.pop("params") for name, variables in extra.items()}
        if settings.discriminator_norm == SPECTRAL:
            extra[DISCRIMINATOR][SPECTRAL] = spectral_norm.init(u_key, params[DISCRIMINATOR])
        transformations = {name: optimizer.transformation for name, optimizer in self.optimizers.items()}
        averaged = [name for name, optimizer in self.optimizers.items() if optimizer.ema_decay is not None]
        return TrainState.create(params, transformations, ema=averaged, extra=extra)

    def fake_labels(self, rows: Rows) -> Integer[Array, " batch"]:
        """The labels of the images to generate for `rows`, which have "key" and "label"."""
        if self.settings.fake_labels == "data":
            return rows["label"]
        classes = self.networks.settings.num_classes
        return jax.vmap(lambda key: jax.random.randint(key, (), 0, classes))(fold(rows["key"], FAKE_LABEL_SALT))

    def discriminator_loss(
        self, params: Any, rows: Rows, *, extra: Mapping[str, Any], penalize: Bool[Array, ""], dist: Dist
    ) -> tuple[Float[Array, ""], Metrics]:
        """The mean loss of D on `rows`, with its penalty, and its metrics.

        Args:
          params: the parameters of D.
          rows: "image", "fake" (the generator's images), "key" and, for a conditional GAN, "label" and "fake_label".
          extra: the state's `extra` of D.
          penalize: whether the penalty is taken in this update.
        """
        labels = rows.get("label")
        real = augment(self.settings.augment, rows["image"], fold(rows["key"], REAL_AUGMENT_SALT))
        fake = augment(self.settings.augment, rows["fake"], fold(rows["key"], FAKE_AUGMENT_SALT))
        real_scores, real_statistics = self.networks.score(params, extra, real, labels, dist.mean)
        fake_labels = rows.get("fake_label")
        fake_scores, fake_statistics = self.networks.score(params, extra, fake, fake_labels, dist.mean)
        loss = self.adversarial.discriminator(real_scores, fake_scores)
        statistics = jax.tree.map(lambda a, b: (a + b) / 2, dict(real_statistics), dict(fake_statistics))
        metrics = {"discriminator_loss": loss, "statistics": statistics}
        metrics |= self.accuracies(real_scores, fake_scores, dist)
        if self.settings.penalty == NO_PENALTY:
            return loss, metrics
        penalty = self.penalty(params, rows, extra=extra, penalize=penalize)
        metrics["penalty"] = Average(penalty, 1.0 * penalize)
        return loss + self.settings.penalty_weight * self.settings.penalty_interval * penalty, metrics

    def accuracies(self, real_scores: Array, fake_scores: Array, dist: Dist) -> Metrics:
        """The share of real and of fake images on the right side of the boundary, or of the mean score of a critic."""
        real_scores, fake_scores = jax.lax.stop_gradient((real_scores, fake_scores))
        boundary = self.adversarial.boundary
        if boundary is None:
            boundary = dist.mean(jnp.mean(jnp.stack((real_scores, fake_scores))))
        return {
            "discriminator_accuracy_real": jnp.mean(1.0 * (real_scores > boundary)),
            "discriminator_accuracy_fake": jnp.mean(1.0 * (fake_scores < boundary)),
        }

    def penalty(
        self, params: Any, rows: Rows, *, extra: Mapping[str, Any], penalize: Bool[Array, ""]
    ) -> Float[Array, ""]:
        """The gradient penalty of D; 0 in the updates that do not take it.

        The gradient is with respect to the images before augmentation, which is a part of the score, as in the code
        of StyleGAN2 with adaptive augmentation (Karras et al. 2020, arXiv:2006.06676).
        """

        def score(images):
            images = augment(self.settings.augment, images, fold(rows["key"], PENALTY_AUGMENT_SALT))
            return self.networks.score(params, extra, images, rows.get("label"))[0]

        def value():
            keys = fold(rows["key"], PENALTY_SALT)
            return PENALTIES[self.settings.penalty](score, rows["image"], rows["fake"], keys)

        return value() if self.settings.penalty_interval == 1 else jax.lax.cond(penalize, value, lambda: jnp.zeros(()))

    def discriminator_update(
        self, state: TrainState, rows: Rows, count: Integer[Array, ""], dist: Dist
    ) -> tuple[TrainState, Metrics]:
        """One update of D on real rows and as many fakes; `count` is the number of updates of D so far."""
        extra = state.extra[DISCRIMINATOR]
        if SPECTRAL in extra:
            extra = extra | {SPECTRAL: spectral_norm.update(state.params[DISCRIMINATOR], extra[SPECTRAL])}
        latents = self.networks.latents(fold(rows["key"], LATENT_SALT))
        if self.conditional:
            rows = rows | {"fake_label": self.fake_labels(rows)}
        fakes, _ = self.networks.generate_batch(
            state.params[GENERATOR], state.extra[GENERATOR], latents, rows.get("fake_label"), dist.mean
        )
        penalize = count % self.settings.penalty_interval == 0
        loss = functools.partial(self.discriminator_loss, extra=extra, penalize=penalize, dist=dist)
        update, metrics = self.optimizers[DISCRIMINATOR].update(state, loss, rows | {"fake": fakes}, dist)
        state, norms = update.apply(state)
        state = state.replace(extra=state.extra | {DISCRIMINATOR: extra})
        state = self.average_statistics(state, DISCRIMINATOR, metrics.pop("statistics"))
        del metrics["loss"]  # in the log, `loss` is the generator's
        diversity = sample_diversity(fakes, rows["image"], dist)
        return state, metrics | norms | {"sample_diversity": diversity}

    def generator_loss(
        self, params: Any, rows: Rows, *, state: TrainState, dist: Dist
    ) -> tuple[Float[Array, ""], Metrics]:
        """The mean loss of G with parameters `params` on the latents of the keys in `rows`, and its metrics."""
        labels, networks = rows.get("label"), self.networks
        latents = networks.latents(fold(rows["key"], LATENT_SALT))
        fakes, statistics = networks.generate_batch(params, state.extra[GENERATOR], latents, labels, dist.mean)
        fakes = augment(self.settings.augment, fakes, fold(rows["key"], GENERATOR_AUGMENT_SALT))
        scores, _ = networks.score(state.params[DISCRIMINATOR], state.extra[DISCRIMINATOR], fakes, labels, dist.mean)
        return self.adversarial.generator(scores), {"statistics": dict(statistics)}

    def generator_update(self, state: TrainState, rows: Rows, dist: Dist) -> tuple[TrainState, Metrics, Update]:
        """The state with G's new batch statistics, the metrics, and the update of G, which is not applied yet.

        G sees `generator_multiple` latents for each row.
        """
        multiple = self.settings.generator_multiple
        keys = fold(fold(rows["key"], GENERATOR_SALT)[:, None], jnp.arange(multiple)).reshape(-1)
        latent_rows = {"key": keys}
        if self.conditional:
            latent_rows["label"] = self.fake_labels({"key": keys, "label": jnp.repeat(rows["label"], multiple)})
        loss = functools.partial(self.generator_loss, state=state, dist=dist)
        update, metrics = self.optimizers[GENERATOR].update(state, loss, latent_rows, dist)
        return self.average_statistics(state, GENERATOR, metrics.pop("statistics")), metrics, update

    def average_statistics(self, state: TrainState, network: str, statistics: BatchStatistics) -> TrainState:
        """The state whose averaged batch statistics of `network` have moved towards those of a batch.

        Unless `statistics_decay` is set, they move as slowly as the averaged parameters that they are used with.
        """
        if COLLECTION not in statistics:
            return state
        ema_decay = self.optimizers[network].ema_decay
        if self.settings.statistics_decay:
            decay = jnp.float32(self.settings.statistics_decay)
        elif ema_decay is not None:
            decay = ema_decay(state.step)
        else:
            decay = jnp.minimum(MAX_STATISTICS_DECAY, (1.0 + state.step) / (10.0 + state.step))
        extra = state.extra[network]
        average = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, extra[COLLECTION], statistics[COLLECTION])
        return state.replace(extra=state.extra | {network: extra | {COLLECTION: average}})

    def train_step(
        self, state: TrainState, frozen: Any, batch: Rows, rng: Key[Array, ""], dist: Dist
    ) -> tuple[TrainState, Metrics, Update]:
        """See `Task.train_step`."""
        rows = {"image": batch["image"], "key": dist.example_keys(rng)}
        if self.conditional:
            rows["label"] = batch["label"]
        n = self.settings.discriminator_steps
        # Part i has every n-th row, so that the parts of a batch that is sharded over devices are sharded as well.
        parts = jax.tree.map(lambda x: x.reshape(-1, n, *x.shape[1:]).swapaxes(0, 1), rows)

        def update_discriminator(state, part):
            rows, index = part
            return self.discriminator_update(state, rows, n * state.step + index, dist)

        first = jax.tree.map(lambda x: x[0], parts)
        if n == 1:
            state, metrics = update_discriminator(state, (first, 0))
        else:
            # Unrolled, because XLA's CPU backend takes twice as long for gradients of gradients inside a loop.
            state, every = jax.lax.scan(update_discriminator, state, (parts, jnp.arange(n)), unroll=True)
            metrics = jax.tree.map(lambda x: jnp.mean(x, axis=0), every)
        state, generator_metrics, update = self.generator_update(state, first, dist)
        return state, metrics | generator_metrics, update


EFFECTS = (
    when("gan.penalty", *PENALTIES, keys=["gan.penalty_weight", "gan.penalty_interval"]),
    when("model.architecture", "resnet", keys=["model.discriminator_halvings"]),
    when("model.architecture", "dcgan", keys=["model.kernel"]),
)


def sections(config: Any) -> dict[str, type]:
    """The dataclass that reads each section of a GAN's config."""
    networks = {f"optim.{network}": OptimOfNetwork for network in (GENERATOR, DISCRIMINATOR)}
    return {"gan": GANConfig, "model": Networks, **networks}


def make(config: Any, data: DataSpec, num_steps: int) -> Task:
    """The GAN of a config with the sections `model` (models.gan.Networks) and `gan` (GANConfig).

    The sections `config.optim.generator` and `config.optim.discriminator` override `config.optim` for one network.

    Raises:
      ConfigError: the config has an unknown key or a value that is refused, or asks for accumulation or for a
        conditional model of data without labels.
    """
    data.require("gan", "image")
    settings = build(GANConfig, config.gan, "gan")
    if settings.conditional and not data.num_classes:
        raise ConfigError(
            f"config.data.source={config.data.source} has no labels, which config.gan.conditional=True needs"
        )
    if config.train.accumulate != 1:
        raise ConfigError(
            f"config.train.accumulate={config.train.accumulate}: a GAN does not accumulate gradients, because the "
            "batch norms would see a part of the batch only; set it to 1, or lower config.train.batch_size"
        )
    num_classes = data.num_classes if settings.conditional else 0
    model = build(Networks, config.model, "model", image_shape=data.image_shape, num_classes=num_classes)
    if settings.penalty != NO_PENALTY and model.discriminator_norm == "batch":
        raise ConfigError(
            f"config.gan.penalty={settings.penalty} needs the gradient of each example alone, which "
            "config.model.discriminator_norm=batch mixes with others; set it to spectral or none"
        )
    updates = {GENERATOR: 1, DISCRIMINATOR: settings.discriminator_steps}
    method = GAN(settings, GANNetworks(model), network_optimizers(config, updates, (GENERATOR,), num_steps))
    return Task(
        init=method.init,
        train_step=method.train_step,
        optimizers={name: optimizer.transformation for name, optimizer in method.optimizers.items()},
        predict=GANFunctions(method.networks).by_name(),
        watch=functools.partial(watch, boundary=method.adversarial.boundary),
        row_multiple=settings.discriminator_steps * max(1, model.norm_rows),
        curves=CURVES,
    )
