"""Denoising diffusion (DDPM, Ho et al. 2020; classifier-free guidance, Ho & Salimans 2022) as a Task.

    t ~ uniform(0 .. T-1), epsilon ~ N(0, I), x_t = alpha_t x_0 + sigma_t epsilon
    loss = E |network(x_t, t, label) - target|^2

Every example's t, noise, label dropout and dropout masks come from that example's own key.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genmodels import optim
from genmodels.config import build
from genmodels.diffusion import guidance, parameterization, process, samplers, schedules
from genmodels.errors import ConfigError, choose
from genmodels.models.unet import UNet
from genmodels.state import Average, TrainState
from genmodels.tasks.base import DataSpec, Predict, Task

NETWORK = "denoiser"


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """`config.diffusion`: the process and how it is trained."""

    schedule: str = "cosine"
    timesteps: int = 1000
    parameterization: str = "epsilon"
    conditional: bool = True  # on the label, where the data has labels
    label_dropout: float = 0.1  # share of examples trained without their label, for guidance

    def __post_init__(self):
        choose("config.diffusion.parameterization", self.parameterization, parameterization.PARAMETERIZATIONS)
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout must be within [0, 1], got {self.label_dropout}")


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """`config.sampler`: the defaults of `sample`, each an option of the command too."""

    sampler: str = "ddim"
    steps: int = 50
    spacing: str = "trailing"
    eta: float = 0.0  # of ddim
    variance: str = "fixed_small"  # of ancestral
    clip: float = 1.0  # x0 to [-clip, clip] at each step; 0 is off

    def __post_init__(self):
        if not 0 <= self.clip < math.inf:
            raise ValueError(f"clip must be finite and not negative, got {self.clip}")

    def step(self) -> samplers.AncestralStep | samplers.DDIMStep:
        """The step object these settings describe."""
        choose("sampler", self.sampler, samplers.STEPS)
        return samplers.DDIMStep(self.eta) if self.sampler == "ddim" else samplers.AncestralStep(self.variance)


def make(config: Any, data: DataSpec, num_steps: int) -> Task:
    """The diffusion task of a config with the sections `model`, `diffusion` and `sampler`.

    Raises:
      ConfigError: an unknown key, or a value that the schedule, network or sampler refuses.
    """
    data.require("diffusion", "image")
    settings = build(DiffusionConfig, config.diffusion, "diffusion")
    sampling = build(SamplerConfig, config.sampler, "sampler")
    num_classes = data.num_classes if settings.conditional else 0
    model = build(UNet, config.model, "model", out_channels=data.image_shape[-1], num_classes=num_classes)
    choose("config.model.dtype", config.model.get("dtype", "float32"), ("float32", "bfloat16"))
    try:
        schedule = schedules.Schedule.named(settings.schedule, settings.timesteps)
        sampling.step()
        schedules.sampling_timesteps(schedule.num_steps, sampling.steps, sampling.spacing)
    except ValueError as error:
        raise ConfigError(f"config.diffusion, config.sampler: {error}") from error
    for timestep in config.eval.timesteps:
        if not 0 <= timestep < schedule.num_steps:
            raise ConfigError(f"config.eval.timesteps: {timestep} is not within [0, {schedule.num_steps})")
    tx = optim.make_optimizer(config.optim, num_steps)
    decay = optim.ema_decay(config.ema, num_steps)
    kind = settings.parameterization

    def apply(params, xt, t, labels=None, keys=None):
        return model.apply({"params": params[NETWORK]}, xt, t, labels if num_classes else None, keys)

    def init(rng, batch) -> TrainState:
        x, t = batch["image"][:1], jnp.zeros((1,), jnp.int32)
        params = {NETWORK: model.init(rng, x, t, t if num_classes else None)["params"]}
        return TrainState.create(params, {NETWORK: tx}, ema=decay is not None)

    def loss_fn(params, rows):
        x0 = rows["image"]
        t_key, noise_key, label_key, dropout_key = (
            jax.vmap(jax.random.fold_in, (0, None))(rows["key"], salt) for salt in range(4)
        )
        t = jax.vmap(lambda key: jax.random.randint(key, (), 0, schedule.num_steps))(t_key)
        epsilon = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(noise_key)
        alpha, sigma = process.alpha_sigma(schedule, t)
        labels = rows.get("label")
        if num_classes and settings.label_dropout:
            labels = guidance.drop_labels(label_key, labels, settings.label_dropout, num_classes)
        prediction = apply({NETWORK: params}, process.add_noise(schedule, x0, epsilon, t), t, labels, dropout_key)
        losses = process.simple_loss(prediction, parameterization.target(kind, x0, epsilon, alpha, sigma))
        quartile = t * 4 // schedule.num_steps
        metrics = {
            f"loss_quartile_{q}": Average(jnp.mean(losses * (quartile == q)), jnp.mean(1.0 * (quartile == q)))
            for q in range(4)
        }
        return jnp.mean(losses), metrics

    def train_step(state, frozen, batch, rng, dist):
        rows = batch | {"key": dist.example_keys(rng)}
        grads, metrics = optim.gradients(loss_fn, state.params[NETWORK], rows, dist, config.train.accumulate)
        state, norms = optim.apply_gradients(state, NETWORK, tx, grads, decay)
        return state, metrics | norms

    def denoiser(variables, inputs):
        """The network at (x_t, t) for these labels, guided where a scale is given (which doubles its cost)."""
        labels, scale = inputs.get("label"), inputs.get("guidance_scale")

        def predict(xt, t):
            if scale is None or not num_classes:
                return apply(variables["params"], xt, t, labels)
            null = jnp.full_like(labels, num_classes)
            both = apply(
                variables["params"], jnp.tile(xt, (2, 1, 1, 1)), jnp.tile(t, 2), jnp.concatenate([labels, null])
            )
            return guidance.guided_prediction(*jnp.split(both, 2), scale)

        return predict

    def run_sampler(variables, inputs, options):
        chosen = SamplerConfig(**options)
        timesteps = schedules.sampling_timesteps(schedule.num_steps, chosen.steps, chosen.spacing)
        return samplers.sample(
            denoiser(variables, inputs),
            chosen.step(),
            schedule,
            timesteps,
            inputs["key"],
            data.image_shape,
            kind=kind,
            clip=chosen.clip or None,
        )

    def sample(variables, frozen, inputs, dist, **options):
        return {"image": run_sampler(variables, inputs, options)[0]}

    def trajectory(variables, frozen, inputs, dist, *, frames, **options):
        _, path = run_sampler(variables, inputs, options)
        steps = np.round(np.linspace(0, options["steps"] - 1, min(frames, options["steps"]))).astype(int)
        return {name: jnp.moveaxis(getattr(path, name)[steps], 0, 1) for name in path._fields}

    def denoise(variables, frozen, inputs, dist, *, timestep):
        if not 0 <= timestep < schedule.num_steps:
            raise ValueError(f"timestep must be within [0, {schedule.num_steps}), got {timestep}")
        x0 = inputs["image"]
        t = jnp.full(x0.shape[0], timestep)
        xt = process.add_noise(schedule, x0, samplers.per_example_normal(inputs["key"], timestep, x0.shape[1:]), t)
        prediction = denoiser(variables, inputs)(xt, t)
        return {"image": parameterization.to_x0(kind, prediction, xt, *process.alpha_sigma(schedule, t))}

    fields = ("label",) if num_classes else ()
    guided = ("guidance_scale",) if num_classes and settings.label_dropout else ()
    options = dataclasses.asdict(sampling)
    return Task(
        init=init,
        train_step=train_step,
        optimizers={NETWORK: tx},
        predict={
            "sample": Predict(sample, ("key", *fields), "image", guided, options),
            "trajectory": Predict(trajectory, ("key", *fields), "x0", guided, options | {"frames": 10}),
            "denoise": Predict(
                denoise, ("key", "image", *fields), "image", guided, {"timestep": settings.timesteps // 4}
            ),
        },
    )
