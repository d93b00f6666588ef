"""Autoencoders as a Task: variational, plain, denoising and vector-quantised.

    loss = E_q(z|x)[-log p(x | z)] + beta KL(q(z | x) || N(0, I))      in nats per image; at beta = 1 the ELBO is -loss

Kingma & Welling 2014; beta: Higgins et al. 2017; free bits: Kingma et al. 2016; denoising: Vincent et al. 2008. With
latent="vq" the second term is commitment |z - sg[e]|^2, and the codebook, in the state's `extra`, follows the latents
of the global batch (van den Oord et al. 2017). The predict functions of a trained model are in `vae_predict`.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key

from genmodels.config import build, when
from genmodels.core.guard import Update
from genmodels.core.parallel import Dist
from genmodels.core.rng import CODEBOOK_STREAM, fold
from genmodels.core.state import PerRow, TrainState
from genmodels.diffusion.samplers import per_example_normal
from genmodels.errors import ConfigError, choose
from genmodels.losses import variational
from genmodels.models.vae import Autoencoder
from genmodels.nn import quantize
from genmodels.tasks.base import Curve, DataSpec, Task
from genmodels.tasks.network_optimizer import NetworkOptimizer, network_optimizers
from genmodels.tasks.vae_predict import CODEBOOK, VAEFunctions
from genmodels.tasks.vae_settings import LATENT_SALT, NETWORK, NOISE_SALT, Images, Keys, Model, VAEConfig

MIN_ACTIVE_NATS = 0.01  # a latent dimension is in use if its mean KL is above this
MIN_PERPLEXITY = 2.0  # of the codes in use

CURVES = (
    Curve("Evidence lower bound, nats", ("elbo",), "nats"),
    Curve("KL and reconstruction, nats", ("kl", "reconstruction"), "nats", logarithmic=True),
    Curve("Latent dimensions in use", ("active_units",), "dimensions"),
    Curve("Codebook", ("perplexity", "revived"), "codes"),
)

Rows = dict[str, Array]
Metrics = dict[str, Any]


def watch(values: Mapping[str, float | int]) -> Iterable[str]:
    """Warns of latents that carry no information about the image, and of a codebook that is hardly used."""
    if values.get("active_units", 1) < 0.5:
        yield (
            f"posterior collapse: no latent dimension carries {MIN_ACTIVE_NATS} nats; lower config.vae.beta, or raise "
            "config.vae.kl_warmup or config.vae.free_bits"
        )
    if values.get("perplexity", math.inf) < MIN_PERPLEXITY:
        yield (
            f"codebook: only {values['perplexity']:.2f} codes are in use; raise config.vae.revive_below or lower "
            "config.optim.learning_rate"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class VAE:
    """The training of an autoencoder.

    Attributes:
      model: the network and the settings of `config.vae`.
      optimizer: of the network.
    """

    model: Model
    optimizer: NetworkOptimizer

    @property
    def settings(self) -> VAEConfig:
        """The section `config.vae`."""
        return self.model.settings

    @property
    def quantized(self) -> bool:
        """Whether the latents are codes of a codebook."""
        return self.settings.latent == "vq"

    def init(self, rng: Key[Array, ""], batch: Rows) -> TrainState:
        """The state of step 0."""
        network = self.model.network
        params = {NETWORK: network.init(rng, batch["image"][:1])["params"]}
        extra = {}
        if self.quantized:
            key, codes = fold(rng, CODEBOOK_STREAM), self.settings.codebook_size
            extra[CODEBOOK] = quantize.Codebook.init(key, codes, network.latent_dim)
        transformations = {NETWORK: self.optimizer.transformation}
        return TrainState.create(params, transformations, ema=self.optimizer.ema_decay is not None, extra=extra)

    def beta(self, step: Integer[Array, ""]) -> Float[Array, ""]:
        """The weight of the KL, which rises linearly over the warm-up."""
        beta = jnp.float32(self.settings.beta)
        if self.settings.kl_warmup:
            beta *= jnp.minimum(1.0, (step + 1) / self.settings.kl_warmup)
        return beta

    def corrupt(self, target: Images, keys: Keys) -> Images:
        """The encoder's input: the target plus noise, where `settings.noise` asks for it."""
        if not self.settings.noise:
            return target
        unit = 1 if self.settings.likelihood == "gaussian" else 2  # targets are in [-1, 1] or in [0, 1]
        scale = self.settings.noise / unit
        return target + scale * per_example_normal(keys, NOISE_SALT, target.shape[1:])

    def kl_cost(
        self, kl: Float[Array, "batch ..."], beta: Float[Array, ""], dist: Dist
    ) -> tuple[Float[Array, ""], Metrics]:
        """The KL's part of the loss, and its metrics; means over this view's rows.

        Args:
          kl: nats of each latent dimension of each image.
          beta: the weight of the KL.
        """
        per_dimension = jnp.mean(kl.reshape(len(kl), -1), axis=0)
        of_batch = dist.mean(per_dimension)
        active = jnp.sum(1.0 * (of_batch > MIN_ACTIVE_NATS))
        metrics = {"kl": jnp.sum(per_dimension), "active_units": active, "beta": beta}
        free = self.settings.free_bits
        return beta * (variational.free_bits(of_batch, free) if free else metrics["kl"]), metrics

    def sample_latent(
        self, encoded: tuple[Array, ...], keys: Keys, *, beta: Float[Array, ""], codebook: Any, dist: Dist
    ) -> tuple[Array, Float[Array, ""], Metrics]:
        """The latents that are decoded, their part of the loss, and its metrics.

        Args:
          encoded: the result of `Model.encode`.
          codebook: the codebook of a quantised model, else None.
        """
        if self.settings.latent == "gaussian":
            mean, log_variance = encoded
            latent = mean + jnp.exp(0.5 * log_variance) * per_example_normal(keys, LATENT_SALT, mean.shape[1:])
            return latent, *self.kl_cost(variational.kl_to_standard_normal(mean, log_variance), beta, dist)
        (latent,) = encoded
        if not self.quantized:
            return latent, jnp.float32(0), {}
        codes = quantize.nearest(codebook.vectors, latent.reshape(-1, latent.shape[-1]))
        nearest = codebook.vectors[codes].reshape(latent.shape)
        distance = jnp.sum(jnp.square(latent - nearest)) / len(nearest)
        metrics = {"commitment": distance, CODEBOOK: PerRow(latent)}
        return quantize.straight_through(latent, nearest), self.settings.commitment * distance, metrics

    def loss(
        self, params: Any, rows: Rows, *, beta: Float[Array, ""], codebook: Any, dist: Dist
    ) -> tuple[Float[Array, ""], Metrics]:
        """The mean loss of `rows`, in nats per image, and its metrics.

        Args:
          params: the parameters of the network.
          rows: "image" and "key".
          beta, codebook: see `sample_latent`.
        """
        target = self.model.target(rows["image"], rows["key"])
        encoded = self.model.encode(params, self.corrupt(target, rows["key"]))
        latent, cost, metrics = self.sample_latent(encoded, rows["key"], beta=beta, codebook=codebook, dist=dist)
        decoded = self.model.decode(params, latent)
        nll = jnp.mean(self.model.nll(target, decoded))
        metrics["reconstruction"] = nll
        if decoded.log_std is not None:
            metrics["pixel_std"] = jnp.exp(decoded.log_std)
        if self.settings.latent == "gaussian":
            metrics["elbo"] = -nll - metrics["kl"]
            metrics["bits_per_dim"] = -metrics["elbo"] / (self.model.dims * math.log(2))
        return nll + cost, metrics

    def update_codebook(
        self, codebook: quantize.Codebook, latents: Array, key: Key[Array, ""], dist: Dist
    ) -> tuple[quantize.Codebook, Metrics]:
        """The codebook after the latents of this view's rows, and its metrics."""
        settings, latents = self.settings, latents.reshape(-1, self.model.network.latent_dim)
        codes = quantize.nearest(codebook.vectors, latents)
        usage = dist.mean(quantize.shares_and_sums(latents, codes, settings.codebook_size))
        options = {"decay": settings.codebook_decay, "revive_below": settings.revive_below}
        codebook, revived = quantize.update(codebook, usage, dist.all_gather(latents), key, **options)
        return codebook, {"perplexity": variational.perplexity(usage.share), "revived": revived}

    def train_step(
        self, state: TrainState, frozen: Any, batch: Rows, rng: Key[Array, ""], dist: Dist
    ) -> tuple[TrainState, Metrics, Update]:
        """See `Task.train_step`."""
        codebook, rows = state.extra.get(CODEBOOK), batch | {"key": dist.example_keys(rng)}
        loss = functools.partial(self.loss, beta=self.beta(state.step), codebook=codebook, dist=dist)
        update, metrics = self.optimizer.update(state, loss, rows, dist)
        if codebook is not None:
            latents = metrics.pop(CODEBOOK).values
            codebook, usage = self.update_codebook(codebook, latents, fold(rng, CODEBOOK_STREAM), dist)
            state = state.replace(extra={CODEBOOK: codebook})
            metrics |= usage
        return state, metrics, update


EFFECTS = (
    when("model.network", "mlp", keys=["model.hidden", "model.activation"]),
    when("model.network", "conv", keys=["model.grid", "model.channels", "model.blocks"]),
    when("vae.latent", "gaussian", keys=["vae.beta", "vae.kl_warmup", "vae.free_bits"]),
    when(
        "vae.latent",
        "vq",
        keys=["vae.codebook_size", "vae.codebook_decay", "vae.commitment", "vae.revive_below"],
    ),
)


def sections(config: Any) -> dict[str, type]:
    """The dataclass that reads each section of an autoencoder's config."""
    return {"vae": VAEConfig, "model": Autoencoder}


def make(config: Any, data: DataSpec, num_steps: int) -> Task:
    """The task of a config with the sections `model` and `vae`.

    Raises:
      ConfigError: the config has an unknown key or a value that the network or the method refuses, or it averages
        the weights of a vector-quantised model.
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
        raise ConfigError("config.vae.free_bits needs the mean KL of the whole batch: set config.train.accumulate=1")
    method = VAE(Model(network, settings), network_optimizers(config, {NETWORK: 1}, (NETWORK,), num_steps)[NETWORK])
    if method.quantized and method.optimizer.ema_decay is not None:
        raise ConfigError(
            "config.vae.latent=vq: the codebook follows the encoder itself and does not fit averaged parameters; set "
            "config.ema.horizon=0.0 and config.ema.decay=0.0"
        )
    return Task(
        init=method.init,
        train_step=method.train_step,
        optimizers={NETWORK: method.optimizer.transformation},
        predict=VAEFunctions(method.model).by_name(),
        watch=watch,
        curves=CURVES,
    )
