"""Autoencoders as a Task: variational, plain, denoising, vector-quantised.

    loss = E_q(z|x)[-log p(x | z)] + beta KL(q(z | x) || N(0, I))          in nats an image; the ELBO is -loss at beta 1

Kingma & Welling 2014; beta: Higgins et al. 2017; free bits: Kingma et al. 2016; denoising: Vincent et al. 2008. With
latent="vq" the second term is commitment |z - sg[e]|^2, and the codebook, in the state's `extra`, follows the latents
of the global batch (van den Oord et al. 2017). What a trained one can do is in `vae_predict`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from genmodels.config import build
from genmodels.core import optim
from genmodels.core.state import PerRow, TrainState
from genmodels.diffusion.samplers import per_example_normal
from genmodels.errors import ConfigError, choose
from genmodels.losses import variational
from genmodels.models.vae import Autoencoder
from genmodels.nn import quantize
from genmodels.tasks.base import DataSpec, Task
from genmodels.tasks.vae_predict import CODEBOOK, predict_functions
from genmodels.tasks.vae_settings import LATENT, NETWORK, NOISE, Model, VAEConfig

ACTIVE = 0.01  # nats: a latent dimension whose mean KL is below carries nothing


def watch(values: Mapping[str, float]) -> Iterable[str]:
    """Warns of latents that say nothing of the image, and of a codebook that is hardly used."""
    if values.get("active_units", 1) < 0.5:
        yield (
            f"posterior collapse: no latent dimension carries {ACTIVE} nats; lower config.vae.beta, raise "
            "config.vae.kl_warmup or config.vae.free_bits"
        )
    if values.get("perplexity", math.inf) < 2:
        yield (
            f"codebook: {values['perplexity']:.2f} codes are in use; raise config.vae.revive_below or lower "
            "config.optim.learning_rate"
        )


def sections(config: Mapping[str, Any]) -> dict[str, type]:
    """The dataclass that reads each section of an autoencoder's config."""
    return {"vae": VAEConfig, "model": Autoencoder}


def make(config: Any, data: DataSpec, num_steps: int) -> Task:
    """The task of a config with the sections `model` and `vae`.

    Raises:
      ConfigError: an unknown key, or a value that the network or the method refuses; averaged weights with latent=vq.
    """
    data.require("vae", "image")
    settings = build(VAEConfig, config.vae, "vae")
    network = build(
        Autoencoder,
        config.model,
        "model",
        image_shape=tuple(data.image_shape),
        moments=2 if settings.latent == "gaussian" else 1,
        learns_std=settings.likelihood == "gaussian",
    )
    choose("config.model.dtype", config.model.get("dtype", "float32"), ("float32", "bfloat16"))
    if settings.free_bits and config.train.accumulate > 1:
        raise ConfigError("config.vae.free_bits is of a whole batch's mean: set config.train.accumulate=1")
    model = Model(network, settings)
    frozen_parts = optim.Frozen.of(config, NETWORK)
    tx = optim.make_optimizers(config, {NETWORK: 1}, num_steps)[NETWORK]
    decay = optim.ema_decay(config.ema, num_steps)
    quantized = settings.latent == "vq"
    if quantized and decay is not None:
        raise ConfigError(
            "config.vae.latent=vq: the codebook follows the encoder as it is, and fits no average of it; set "
            "config.ema.horizon=0.0 and config.ema.decay=0.0"
        )

    def init(rng, batch) -> TrainState:
        params = {NETWORK: network.init(rng, batch["image"][:1])["params"]}
        book = quantize.Codebook.init(jax.random.fold_in(rng, 1), settings.codebook_size, network.latent_dim)
        extra = {CODEBOOK: book} if quantized else {}
        return TrainState.create(params, {NETWORK: tx}, ema=decay is not None, extra=extra)

    def kl_terms(kl, beta, dist):
        """(what the loss adds for `kl` [rows, ..., dim], metrics), as a mean over this view's rows."""
        per_dimension = jnp.mean(kl.reshape(len(kl), -1), axis=0)
        everywhere = dist.mean(per_dimension)
        metrics = {"kl": jnp.sum(per_dimension), "active_units": jnp.sum(1.0 * (everywhere > ACTIVE)), "beta": beta}
        cost = variational.free_bits(everywhere, settings.free_bits) if settings.free_bits else metrics["kl"]
        return beta * cost, metrics

    def train_step(state, frozen, batch, rng, dist):
        beta = jnp.float32(settings.beta)
        if settings.kl_warmup:
            beta *= jnp.minimum(1.0, (state.step + 1) / settings.kl_warmup)
        book = state.extra.get(CODEBOOK)

        def loss_fn(params, rows):
            target = model.target(rows["image"], rows["key"])
            seen = target
            if settings.noise:
                scale = settings.noise / (1 if settings.likelihood == "gaussian" else 2)  # of [0, 1] or of [-1, 1]
                seen += scale * per_example_normal(rows["key"], NOISE, target.shape[1:])
            found = model.encode(params, seen)
            added, metrics, latent = jnp.float32(0), {}, found[0]
            if settings.latent == "gaussian":
                mean, log_variance = found
                latent = mean + jnp.exp(0.5 * log_variance) * per_example_normal(rows["key"], LATENT, mean.shape[1:])
                added, metrics = kl_terms(variational.kl_to_standard_normal(mean, log_variance), beta, dist)
            elif quantized:
                flat = found[0].reshape(-1, network.latent_dim)
                nearest = book.vectors[quantize.nearest(book.vectors, flat)].reshape(found[0].shape)
                distance = jnp.sum(jnp.square(found[0] - nearest)) / len(nearest)
                added, latent = settings.commitment * distance, quantize.straight_through(found[0], nearest)
                metrics = {"commitment": distance, CODEBOOK: PerRow(found[0])}
            decoded = model.decode(params, latent)
            nll = jnp.mean(model.nll(target, decoded))
            metrics["reconstruction"] = nll
            if decoded.log_std is not None:
                metrics["pixel_std"] = jnp.exp(decoded.log_std)
            if settings.latent == "gaussian":
                metrics["elbo"] = -nll - metrics["kl"]
                metrics["bits_per_dim"] = -metrics["elbo"] / (model.dims * math.log(2))
            return nll + added, metrics

        rows = batch | {"key": dist.example_keys(rng)}
        grads, metrics = optim.gradients(
            loss_fn, state.params[NETWORK], rows, dist, config.train.accumulate, frozen_parts
        )
        state, norms = optim.apply_gradients(state, NETWORK, tx, grads, decay)
        if quantized:
            latents = metrics.pop(CODEBOOK).values.reshape(-1, network.latent_dim)
            codes = quantize.nearest(book.vectors, latents)
            used = dist.mean(quantize.shares_and_sums(latents, codes, settings.codebook_size))
            book, revived = quantize.update(
                book,
                used,
                dist.all_gather(latents),
                rng,
                decay=settings.codebook_decay,
                revive_below=settings.revive_below,
            )
            state = state.replace(extra={CODEBOOK: book})
            metrics |= {"perplexity": variational.perplexity(used.share), "revived": revived}
        return state, metrics | norms

    return Task(
        init=init,
        train_step=train_step,
        optimizers={NETWORK: tx},
        predict=predict_functions(model),
        watch=watch,
    )
