"""Generative adversarial networks (Goodfellow et al. 2014) as a Task.

    a step   n updates of the discriminator D, each on its own n-th of the batch and as many fakes from fresh latents;
             then one of the generator G on fresh latents

So `config.train.batch_size` is n times what papers call the batch of a discriminator update. Losses, penalties and
augmentations are lists of their own in genmodels.losses. `loss` in the log is what G minimises: it tells how the game
stands, not how good the images are.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from genmodels import config as config_lib
from genmodels.config import build
from genmodels.core import optim
from genmodels.core.state import Average, TrainState
from genmodels.errors import ConfigError, choose
from genmodels.losses.adversarial import LOSSES
from genmodels.losses.penalties import PENALTIES
from genmodels.models.gan import Networks
from genmodels.nn import spectral_norm
from genmodels.nn.batch_norm import COLLECTION
from genmodels.nn.diff_augment import AUGMENTATIONS, augment
from genmodels.tasks.base import DataSpec, Task
from genmodels.tasks.gan_predict import DISCRIMINATOR, GENERATOR, SPECTRAL, GANNetworks, predict_functions

NO_PENALTY = "none"
STATISTICS = 0.99  # a step: the average of batch statistics where no EMA says it
GRACE = 500  # steps before anything is wrong
COLLAPSED, CERTAIN = 0.25, 0.98  # of sample_diversity; of an accuracy

LATENT, REAL, FAKE, PENALTY, GENERATED, SHOWN = range(6)  # what an example's keys are for


@dataclasses.dataclass(frozen=True)
class GANConfig:
    """`config.gan`.

    Attributes:
      loss: of losses.adversarial: non_saturating, least_squares, hinge, wasserstein.
      penalty: of losses.penalties: wgan_gp, r1; or none.
      penalty_weight: 10 is usual for wgan_gp; r1's is gamma, 0.1 to 10.
      penalty_interval: taken every so many updates of D, so many times heavier (Karras et al. 2020, section 3.1).
      discriminator_steps: n.
      generator_multiple: latents in G's update, in batches of one update of D.
      augment: of losses.diff_augment: colour, translation, cutout; applied to what D sees.
      conditional: on the label.
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

    def __post_init__(self):
        choose("config.gan.loss", self.loss, LOSSES)
        choose("config.gan.penalty", self.penalty, (NO_PENALTY, *PENALTIES))
        for name in self.augment:
            choose("config.gan.augment", name, AUGMENTATIONS)
        if not 0 <= self.penalty_weight < float("inf"):
            raise ValueError(f"penalty_weight={self.penalty_weight} must be finite and not negative")
        for name in ("penalty_interval", "discriminator_steps", "generator_multiple"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


def watch(values: Mapping[str, float], boundary: float | None) -> Iterator[str]:
    """Lines on what is going wrong, from `Task.watch`'s averages; a critic without a boundary may well be certain."""
    if values.get("step", GRACE) < GRACE:
        return
    diversity = values.get("sample_diversity", 1.0)
    if diversity < COLLAPSED:
        yield (
            f"collapse: samples differ among themselves {diversity:.2g} times as much as real images do "
            "(sample_diversity); a penalty, config.gan.augment or lower learning rates may help"
        )
    if boundary is None:
        return
    real, fake = (values.get(f"discriminator_accuracy_{kind}", 0.5) for kind in ("real", "fake"))
    said = f"right on {real:.0%} of real and {fake:.0%} of fake images"
    if min(real, fake) > CERTAIN:
        yield f"discriminator: {said}: it teaches little; a penalty, augmentation or a lower learning rate may help"
    if max(real, fake) > CERTAIN and min(real, fake) < 1 - CERTAIN:
        yield f"discriminator: {said}: it tells nothing apart; more discriminator_steps or a higher rate may help"


def make(config: Any, data: DataSpec, num_steps: int) -> Task:
    """The GAN of a config with the sections `model` (models.gan.Networks) and `gan` (GANConfig).

    Either network's optimizer may differ from `config.optim` in `config.optim.generator` and
    `config.optim.discriminator`.

    Raises:
      ConfigError: an unknown key or a value that is refused; labels missing for a conditional model; accumulation.
    """
    data.require("gan", "image")
    settings = build(GANConfig, config.gan, "gan")
    if settings.conditional and not data.num_classes:
        raise ConfigError(
            f"config.data.source={config.data.source} has no labels, which config.gan.conditional=True needs"
        )
    if config.train.accumulate != 1:
        raise ConfigError(
            f"config.train.accumulate={config.train.accumulate}: batch norm over a part of the batch would be another "
            "method, so a GAN takes 1; lower config.train.batch_size"
        )
    num_classes = data.num_classes if settings.conditional else 0
    networks = build(Networks, config.model, "model", image_shape=data.image_shape, num_classes=num_classes)
    if settings.penalty != NO_PENALTY and networks.discriminator_norm == "batch":
        raise ConfigError(
            f"config.gan.penalty={settings.penalty} needs each example's own gradient, which "
            "config.model.discriminator_norm=batch couples to others; set it to spectral or none"
        )
    gan, n = GANNetworks(networks), settings.discriminator_steps
    tx = optim.make_optimizers(config, {GENERATOR: 1, DISCRIMINATOR: n}, num_steps)
    frozen_parts = {network: optim.Frozen.of(config, network) for network in tx}
    decay = optim.ema_decay(config.ema, num_steps)
    loss = LOSSES[settings.loss]

    def init(rng, batch) -> TrainState:
        g_key, d_key, u_key = jax.random.split(rng, 3)
        labels = jnp.zeros((1,), jnp.int32) if num_classes else None
        made = {
            GENERATOR: networks.generator().init(g_key, jnp.zeros((1, networks.latent)), labels),
            DISCRIMINATOR: networks.discriminator().init(d_key, batch["image"][:1], labels),
        }
        params = {name: variables.pop("params") for name, variables in made.items()}
        if networks.discriminator_norm == SPECTRAL:
            made[DISCRIMINATOR][SPECTRAL] = spectral_norm.init(u_key, params[DISCRIMINATOR])
        averaged = (GENERATOR,) if decay is not None else ()
        return TrainState.create(params, tx, ema=averaged, extra=made)

    def averaged_statistics(state, network, seen):
        """`extra` with the network's batch statistics moved towards those seen; as slowly as the EMA it serves."""
        if COLLECTION not in seen:
            return state
        if network == GENERATOR and decay is not None:
            d = decay(state.step)
        else:
            d = jnp.minimum(STATISTICS, (1.0 + state.step) / (10.0 + state.step))
        own = state.extra[network]
        moved = jax.tree.map(lambda a, b: d * a + (1 - d) * b, own[COLLECTION], seen[COLLECTION])
        return state.replace(extra=state.extra | {network: own | {COLLECTION: moved}})

    def seen_by_discriminator(images, keys, purpose):
        return augment(settings.augment, images, _keys(keys, purpose))

    def discriminator_update(state, rows, count, dist):
        """One update of D on real rows and as many fakes."""
        own, labels = state.extra[DISCRIMINATOR], rows.get("label")
        if SPECTRAL in own:
            own = own | {SPECTRAL: spectral_norm.update(state.params[DISCRIMINATOR], own[SPECTRAL])}
        latents = gan.latents(_keys(rows["key"], LATENT))
        fakes, _ = gan.generate_batch(state.params[GENERATOR], state.extra[GENERATOR], latents, labels, dist.mean)
        due = count % settings.penalty_interval == 0

        def penalty(params, real, fake, rows):
            keys = _keys(rows["key"], PENALTY)

            def score(images):
                return gan.score(params, own, images, rows.get("label"))[0]

            def value():
                return PENALTIES[settings.penalty](score, real, fake, keys)

            return value() if settings.penalty_interval == 1 else jax.lax.cond(due, value, lambda: jnp.zeros(()))

        def loss_fn(params, rows):
            real = seen_by_discriminator(rows["image"], rows["key"], REAL)
            fake = seen_by_discriminator(rows["fake"], rows["key"], FAKE)
            on_real, seen_real = gan.score(params, own, real, rows.get("label"), dist.mean)
            on_fake, seen_fake = gan.score(params, own, fake, rows.get("label"), dist.mean)
            game = loss.discriminator(on_real, on_fake)
            scores = jax.lax.stop_gradient((on_real, on_fake))
            middle = loss.boundary
            if middle is None:
                middle = dist.mean(jnp.mean(jnp.stack(scores)))
            metrics = {
                "discriminator_loss": game,
                "discriminator_accuracy_real": jnp.mean(1.0 * (scores[0] > middle)),
                "discriminator_accuracy_fake": jnp.mean(1.0 * (scores[1] < middle)),
                "seen": jax.tree.map(lambda a, b: (a + b) / 2, dict(seen_real), dict(seen_fake)),
            }
            if settings.penalty == NO_PENALTY:
                return game, metrics
            extra = penalty(params, real, fake, rows)
            metrics["penalty"] = Average(extra, 1.0 * due)
            return game + settings.penalty_weight * settings.penalty_interval * extra, metrics

        grads, metrics = optim.gradients(
            loss_fn, state.params[DISCRIMINATOR], rows | {"fake": fakes}, dist, frozen=frozen_parts[DISCRIMINATOR]
        )
        state = state.replace(extra=state.extra | {DISCRIMINATOR: own})
        state = averaged_statistics(state, DISCRIMINATOR, metrics.pop("seen"))
        state, norms = optim.apply_gradients(state, DISCRIMINATOR, tx[DISCRIMINATOR], grads, None)
        metrics.pop("loss")
        diversity = spread(fakes, dist) / jnp.maximum(spread(rows["image"], dist), 1e-12)
        return state, metrics | _named(norms, DISCRIMINATOR) | {"sample_diversity": diversity}

    def generator_update(state, rows, dist):
        """One update of G, on `generator_multiple` latents a row."""
        keys = _keys(rows["key"], GENERATED)
        keys = jax.vmap(_keys, (None, 0), 1)(keys, jnp.arange(settings.generator_multiple)).reshape(-1)
        latent_rows = {"key": keys}
        if num_classes:
            latent_rows["label"] = jnp.repeat(rows["label"], settings.generator_multiple)

        def loss_fn(params, rows):
            labels = rows.get("label")
            fakes, seen = gan.generate_batch(
                params, state.extra[GENERATOR], gan.latents(rows["key"]), labels, dist.mean
            )
            shown = seen_by_discriminator(fakes, rows["key"], SHOWN)
            scores, _ = gan.score(state.params[DISCRIMINATOR], state.extra[DISCRIMINATOR], shown, labels, dist.mean)
            return loss.generator(scores), {"seen": dict(seen)}

        grads, metrics = optim.gradients(
            loss_fn, state.params[GENERATOR], latent_rows, dist, frozen=frozen_parts[GENERATOR]
        )
        state = averaged_statistics(state, GENERATOR, metrics.pop("seen"))
        state, norms = optim.apply_gradients(state, GENERATOR, tx[GENERATOR], grads, decay)
        return state, metrics | _named(norms, GENERATOR)

    def train_step(state, frozen, batch, rng, dist):
        rows = {"image": batch["image"], "key": dist.example_keys(rng)}
        if num_classes:
            rows["label"] = batch["label"]
        # Every n-th row, so that the parts of a batch sharded over devices stay so.
        parts = jax.tree.map(lambda x: x.reshape(-1, n, *x.shape[1:]).swapaxes(0, 1), rows)

        def one(state, part):
            rows, place = part
            return discriminator_update(state, rows, n * state.step + place, dist)

        first = jax.tree.map(lambda x: x[0], parts)
        if n == 1:
            state, metrics = one(state, (first, 0))
        else:
            # Unrolled, as XLA's CPU backend takes twice as long for gradients of gradients inside a loop.
            state, each = jax.lax.scan(one, state, (parts, jnp.arange(n)), unroll=True)
            metrics = jax.tree.map(lambda x: jnp.mean(x, axis=0), each)
        state, more = generator_update(state, first, dist)
        return state, metrics | more

    return Task(
        init=init,
        train_step=train_step,
        optimizers=tx,
        predict=predict_functions(gan),
        watch=functools.partial(watch, boundary=loss.boundary),
        defaults=config_lib.defaults_of(gan=GANConfig, model=Networks),
        row_multiple=n * max(1, networks.norm_rows),
    )


def spread(images: jax.Array, dist: Any) -> jax.Array:
    """Half of the mean squared distance of two images of the global batch: E |x|^2 - |E x|^2."""
    square, centre = dist.mean((jnp.mean(jnp.sum(jnp.square(images), (1, 2, 3))), jnp.mean(images, 0)))
    return square - jnp.sum(jnp.square(centre))


def _keys(keys: jax.Array, purpose: int | jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (0, None))(keys, purpose)


def _named(norms: dict[str, jax.Array], network: str) -> dict[str, jax.Array]:
    return {f"{name}_{network}": value for name, value in norms.items()}
