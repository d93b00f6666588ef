"""Denoising diffusion and flow matching as a Task, for any process of genmodels.diffusion.

    time ~ the process's training distribution, epsilon ~ N(0, I), x_t = alpha x_0 + sigma epsilon
    loss = E weight(time) |network(x_t, time, label) - target|^2, plus the variational bound where a variance is learned

DDPM (Ho et al. 2020), Improved DDPM (Nichol & Dhariwal 2021), EDM (Karras et al. 2022), rectified flow (Liu et al.
2023), classifier-free guidance (Ho & Salimans 2022). Every example's time, noise, label dropout and dropout masks come
from that example's own key. What a trained network can do is in `diffusion_predict`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from genmodels.config import build
from genmodels.core import optim
from genmodels.core.state import Average, PerRow, TrainState
from genmodels.diffusion import guidance, parameterization, process, time_sampling
from genmodels.diffusion.bound import Bound
from genmodels.errors import ConfigError, choose
from genmodels.models.unet import UNet
from genmodels.tasks import diffusion_settings
from genmodels.tasks.base import DataSpec, Task
from genmodels.tasks.diffusion_predict import NETWORK, Denoiser, predict_functions

HISTORY = "time_sampling"  # losses that importance sampling remembers, in the state's `extra`


SWITCHES = {"process": "diffusion.process"}


def sections(config: Mapping[str, Any]) -> dict[str, type]:
    """The dataclass that reads each section of a diffusion model's config; the process decides on two of them."""
    return {"model": UNet} | diffusion_settings.sections(config)


def make(config: Any, data: DataSpec, num_steps: int) -> Task:
    """The diffusion task of a config with the sections `model`, `diffusion`, `sampler` and, if any, `likelihood`.

    Raises:
      ConfigError: an unknown key, or a value that the process, network or sampler refuses.
    """
    data.require("diffusion", "image")
    settings, way, sampling, likelihood_config = diffusion_settings.read(config)
    num_classes = data.num_classes if settings.conditional else 0
    channels = data.image_shape[-1] * (2 if settings.learns_variance else 1)
    model = build(UNet, config.model, "model", out_channels=channels, num_classes=num_classes)
    choose("config.model.dtype", config.model.get("dtype", "float32"), ("float32", "bfloat16"))
    for timestep in config.eval.timesteps:
        if not 0 <= timestep < way.num_steps:
            raise ConfigError(f"config.eval.timesteps: {timestep} is not within [0, {way.num_steps})")
    frozen_parts = optim.Frozen.of(config, NETWORK)
    tx = optim.make_optimizers(config, {NETWORK: 1}, num_steps)[NETWORK]
    decay = optim.ema_decay(config.ema, num_steps)
    kind = settings.parameterization
    denoiser = Denoiser(model, way, settings.learns_variance, num_classes)
    importance = time_sampling.ImportanceSampler(way.num_steps) if settings.time_sampling == "importance" else None
    bound = None if settings.loss == "simple" else Bound(way.schedule, settings.variance, kind)

    def init(rng, batch) -> TrainState:
        x, t = batch["image"][:1], jnp.zeros((1,), jnp.int32)
        params = {NETWORK: model.init(rng, x, t, t if num_classes else None)["params"]}
        extra = {HISTORY: importance.init()} if importance else {}
        return TrainState.create(params, {NETWORK: tx}, ema=decay is not None, extra=extra)

    def draw_times(extra, keys):
        """Each row's time and the weight of its loss."""
        if importance is not None:
            steps, weights = importance.draw(extra[HISTORY], keys)
            return steps.astype(jnp.float32), weights
        if settings.time_sampling == "logit_normal":
            u = time_sampling.logit_normal(keys, settings.logit_mean, settings.logit_std)
        else:
            u = time_sampling.uniform(keys)
        return way.time(u), jnp.ones_like(u)

    def losses_of(output, x0, xt, epsilon, time):
        """Each row's loss, and its share of the bound in bits per dimension where the bound is trained."""
        losses = jnp.zeros_like(time)
        if settings.loss != "vlb":
            target = parameterization.target(kind, x0, epsilon, *way.alpha_sigma(time))
            losses = settings.loss_weight(way, time) * process.simple_loss(output.prediction, target)
        if bound is None:
            return losses, None
        if settings.loss == "hybrid":  # the bound trains the variance alone (Nichol & Dhariwal 2021, section 3.1)
            output = output._replace(prediction=jax.lax.stop_gradient(output.prediction))
        bits = way.num_steps * bound.step(output, x0, xt, time.astype(jnp.int32))  # on average the bound without L_T
        return losses + (bits if settings.loss == "vlb" else settings.vlb_weight * bits), bits

    def loss_fn(params, rows):
        x0, time = rows["image"], rows["time"]
        noise_key, label_key, dropout_key = (
            jax.vmap(jax.random.fold_in, (0, None))(rows["key"], salt) for salt in range(1, 4)
        )
        epsilon = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(noise_key)
        xt = process.add_noise(way, x0, epsilon, time)
        labels = rows.get("label")
        if num_classes and settings.label_dropout:
            labels = guidance.drop_labels(label_key, labels, settings.label_dropout, num_classes)
        output = denoiser({NETWORK: params}, xt, time, labels, dropout_key)
        losses, bits = losses_of(output, x0, xt, epsilon, time)
        weighted = rows["weight"] * losses
        quartile = jnp.floor(4 * way.quantile(time))
        metrics: dict[str, Any] = {
            f"loss_quartile_{q}": Average(jnp.mean(weighted * (quartile == q)), jnp.mean(1.0 * (quartile == q)))
            for q in range(4)
        }
        if bits is not None:
            metrics["bits_per_dim"] = jnp.mean(rows["weight"] * bits)
        if importance is not None:
            metrics[HISTORY] = PerRow(losses)
        return jnp.mean(weighted), metrics

    def train_step(state, frozen, batch, rng, dist):
        keys = dist.example_keys(rng)
        time, weights = draw_times(state.extra, jax.vmap(jax.random.fold_in, (0, None))(keys, 0))
        rows = batch | {"key": keys, "time": time, "weight": weights}
        grads, metrics = optim.gradients(
            loss_fn, state.params[NETWORK], rows, dist, config.train.accumulate, frozen_parts
        )
        state, norms = optim.apply_gradients(state, NETWORK, tx, grads, decay)
        if importance is not None:
            seen = dist.all_gather((time.astype(jnp.int32), metrics.pop(HISTORY).values))
            state = state.replace(extra={HISTORY: importance.update(state.extra[HISTORY], *seen)})
        return state, metrics | norms

    return Task(
        init=init,
        train_step=train_step,
        optimizers={NETWORK: tx},
        predict=predict_functions(denoiser, settings, sampling, likelihood_config, data.image_shape),
    )
