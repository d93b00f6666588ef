"""Denoising diffusion and flow matching as a Task, for every process of genmodels.diffusion.

    time ~ the process's training distribution, epsilon ~ N(0, I), x_t = alpha x_0 + sigma epsilon
    loss = E weight(time) |network(x_t, time, label) - target|^2, plus the variational bound where a variance is learned

DDPM (Ho et al. 2020), Improved DDPM (Nichol & Dhariwal 2021), EDM (Karras et al. 2022), rectified flow (Liu et al.
2023), classifier-free guidance (Ho & Salimans 2022). Each example's time, noise, label dropout and dropout masks come
from the example's own key. The predict functions of a trained network are in `diffusion_predict`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from genmodels.config import build
from genmodels.core.guard import Update
from genmodels.core.parallel import Dist
from genmodels.core.rng import fold
from genmodels.core.state import Average, PerRow, TrainState
from genmodels.diffusion import guidance, parameterization, time_sampling
from genmodels.diffusion.bound import Bound
from genmodels.diffusion.parameterization import Output
from genmodels.diffusion.process import Process, add_noise, simple_loss
from genmodels.errors import ConfigError, choose
from genmodels.models.unet import UNet
from genmodels.tasks import diffusion_settings
from genmodels.tasks.base import Curve, DataSpec, Task
from genmodels.tasks.diffusion_predict import NETWORK, Denoiser, DiffusionFunctions, Images, PerExample
from genmodels.tasks.diffusion_settings import DDPMConfig
from genmodels.tasks.network_optimizer import NetworkOptimizer, network_optimizers

LOSS_HISTORY = "time_sampling"  # the losses that importance sampling keeps, in the state's `extra`
# An example's key is folded with one of these for everything that is random about the example.
TIME_SALT, NOISE_SALT, LABEL_DROPOUT_SALT, DROPOUT_SALT = range(4)

CURVES = (Curve("Loss by quartile of the timestep", ("loss_quartile_",), "loss", logarithmic=True),)


@dataclasses.dataclass(frozen=True, eq=False)
class Diffusion:
    """The training of a denoiser.

    Attributes:
      settings: `config.diffusion`.
      denoiser: the network and its process.
      optimizer: of the network.
      importance: draws the times, where settings.time_sampling is "importance".
      bound: the variational bound, where settings.loss trains it.
    """

    settings: diffusion_settings.Settings
    denoiser: Denoiser
    optimizer: NetworkOptimizer
    importance: time_sampling.ImportanceSampler | None
    bound: Bound | None

    @property
    def process(self) -> Process:
        """The process that the network denoises."""
        return self.denoiser.process

    def init(self, rng: Key[Array, ""], batch: dict[str, Array]) -> TrainState:
        """The state of step 0."""
        x, t = batch["image"][:1], jnp.zeros((1,), jnp.int32)
        params = {NETWORK: self.denoiser.model.init(rng, x, t, t if self.denoiser.num_classes else None)["params"]}
        extra = {LOSS_HISTORY: self.importance.init()} if self.importance else {}
        transformations = {NETWORK: self.optimizer.transformation}
        return TrainState.create(params, transformations, ema=self.optimizer.ema_decay is not None, extra=extra)

    def draw_times(self, extra: dict[str, Any], keys: Key[Array, " batch"]) -> tuple[PerExample, PerExample]:
        """The time of each example, and the weight of its loss."""
        if self.importance is not None:
            steps, weights = self.importance.draw(extra[LOSS_HISTORY], keys)
            return steps.astype(jnp.float32), weights
        if self.settings.time_sampling == "logit_normal":
            u = time_sampling.logit_normal(keys, self.settings.logit_mean, self.settings.logit_std)
        else:
            u = time_sampling.uniform(keys)
        return self.process.time(u), jnp.ones_like(u)

    def losses(
        self, output: Output, x0: Images, xt: Images, epsilon: Images, time: PerExample
    ) -> tuple[PerExample, PerExample | None]:
        """The loss of each example, and its bound in bits per dimension where the bound is trained.

        On average over the times, the bound is the whole variational bound except its prior term L_T.
        """
        settings, losses = self.settings, jnp.zeros_like(time)
        if settings.loss != "vlb":
            target = parameterization.target(settings.parameterization, x0, epsilon, *self.process.alpha_sigma(time))
            losses = settings.loss_weight(self.process, time) * simple_loss(output.prediction, target)
        if self.bound is None:
            return losses, None
        if settings.loss == "hybrid":  # the bound trains the variance alone (Nichol & Dhariwal 2021, section 3.1)
            output = output._replace(prediction=jax.lax.stop_gradient(output.prediction))
        bits = self.process.num_steps * self.bound.step(output, x0, xt, time.astype(jnp.int32))
        return losses + (bits if settings.loss == "vlb" else settings.vlb_weight * bits), bits

    def loss(self, params: Any, rows: dict[str, Array]) -> tuple[Float[Array, ""], dict[str, Any]]:
        """The mean loss of `rows`, and its metrics.

        Args:
          params: the parameters of the network.
          rows: "image", "key", "time", "weight" (see `draw_times`) and, where the data has labels, "label".
        """
        x0, time, labels = rows["image"], rows["time"], rows.get("label")
        salts = NOISE_SALT, LABEL_DROPOUT_SALT, DROPOUT_SALT
        noise_keys, label_keys, dropout_keys = (fold(rows["key"], salt) for salt in salts)
        epsilon = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(noise_keys)
        xt = add_noise(self.process, x0, epsilon, time)
        if self.denoiser.num_classes and self.settings.label_dropout:
            rate, null_label = self.settings.label_dropout, self.denoiser.num_classes
            labels = guidance.drop_labels(label_keys, rows["label"], rate, null_label)
        output = self.denoiser({NETWORK: params}, xt, time, labels, dropout_keys)
        losses, bits = self.losses(output, x0, xt, epsilon, time)
        weighted = rows["weight"] * losses
        metrics: dict[str, Any] = self.loss_quartiles(weighted, time)
        if bits is not None:
            metrics["bits_per_dim"] = jnp.mean(rows["weight"] * bits)
        if self.importance is not None:
            metrics[LOSS_HISTORY] = PerRow(losses)
        return jnp.mean(weighted), metrics

    def loss_quartiles(self, losses: PerExample, time: PerExample) -> dict[str, Average]:
        """The mean loss in each quarter of the times, from the cleanest to the noisiest."""
        quartile = jnp.floor(4 * self.process.quantile(time))
        return {
            f"loss_quartile_{q}": Average(jnp.mean(losses * (quartile == q)), jnp.mean(1.0 * (quartile == q)))
            for q in range(4)
        }

    def train_step(
        self, state: TrainState, frozen: Any, batch: dict[str, Array], rng: Key[Array, ""], dist: Dist
    ) -> tuple[TrainState, dict[str, Any], Update]:
        """See `Task.train_step`."""
        keys = dist.example_keys(rng)
        time, weights = self.draw_times(state.extra, fold(keys, TIME_SALT))
        rows = batch | {"key": keys, "time": time, "weight": weights}
        update, metrics = self.optimizer.update(state, self.loss, rows, dist)
        if self.importance is not None:
            steps, losses = dist.all_gather((time.astype(jnp.int32), metrics.pop(LOSS_HISTORY).values))
            history = self.importance.update(state.extra[LOSS_HISTORY], steps, losses)
            state = state.replace(extra={LOSS_HISTORY: history})
        return state, metrics, update


SWITCHES = {"process": "diffusion.process"}
EFFECTS = diffusion_settings.EFFECTS


def sections(config: Any) -> dict[str, type]:
    """The dataclass that reads each section of a diffusion model's config; the process decides on two of them."""
    return {"model": UNet} | diffusion_settings.sections(config)


def make(config: Any, data: DataSpec, num_steps: int) -> Task:
    """The diffusion task of a config with the sections `model`, `diffusion`, `sampler` and, if any, `likelihood`.

    Raises:
      ConfigError: the config has an unknown key, or a value that the process, the network or the sampler refuses.
    """
    data.require("diffusion", "image")
    settings, process, sampling, likelihood_config = diffusion_settings.read(config)
    num_classes = data.num_classes if settings.conditional else 0
    channels = data.image_shape[-1] * (2 if settings.learns_variance else 1)
    model = build(UNet, config.model, "model", out_channels=channels, num_classes=num_classes)
    choose("config.model.dtype", config.model.get("dtype", "float32"), ("float32", "bfloat16"))
    for timestep in config.eval.timesteps:
        if not 0 <= timestep < process.num_steps:
            raise ConfigError(f"config.eval.timesteps: {timestep} must be within [0, {process.num_steps})")
    importance = settings.time_sampling == "importance"
    method = Diffusion(
        settings,
        Denoiser(model, process, settings.learns_variance, num_classes),
        network_optimizers(config, {NETWORK: 1}, (NETWORK,), num_steps)[NETWORK],
        time_sampling.ImportanceSampler(process.num_steps) if importance else None,
        settings.bound() if isinstance(settings, DDPMConfig) and settings.loss != "simple" else None,
    )
    functions = DiffusionFunctions(method.denoiser, settings, sampling, likelihood_config, data.image_shape)
    return Task(
        init=method.init,
        train_step=method.train_step,
        optimizers={NETWORK: method.optimizer.transformation},
        predict=functions.by_name(),
        curves=CURVES,
    )
