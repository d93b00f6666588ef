"""`config.diffusion`, `config.sampler` and `config.likelihood`: what they may hold, and the objects they stand for.

`config.diffusion.process` decides which other keys that section has: ddpm, edm or flow.
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from genmodels.config import build
from genmodels.diffusion import likelihood, samplers, time_sampling, weighting
from genmodels.diffusion.ddpm import DDPM
from genmodels.diffusion.edm import EDM
from genmodels.diffusion.flow import RectifiedFlow
from genmodels.diffusion.process import Process
from genmodels.diffusion.schedules import Schedule
from genmodels.errors import ConfigError, choose

LOSSES = ("simple", "hybrid", "vlb")


def _check_common(settings: Any) -> None:
    if not 0 <= settings.label_dropout <= 1:
        raise ValueError(f"label_dropout must be within [0, 1], got {settings.label_dropout}")


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value} must be positive and finite")


@dataclasses.dataclass(frozen=True)
class DDPMConfig:
    """Discrete-time diffusion (Ho et al. 2020; Nichol & Dhariwal 2021)."""

    process: str = "ddpm"
    schedule: str = "cosine"  # linear, cosine
    timesteps: int = 1000
    zero_terminal_snr: bool = False  # rescale the schedule so that the last step is pure noise
    parameterization: str = "epsilon"  # epsilon, x0, velocity
    variance: str = "fixed_small"  # of the reverse process: fixed_small, fixed_large, learned_range
    loss: str = "simple"  # simple, hybrid (simple + vlb_weight vlb), vlb
    vlb_weight: float = 0.001
    weighting: str = "uniform"  # of the simple loss: uniform, snr, min_snr, truncated_snr
    snr_gamma: float = 5.0  # of min_snr
    time_sampling: str = "uniform"  # uniform, logit_normal, importance
    logit_mean: float = 0.0  # of logit_normal
    logit_std: float = 1.0
    conditional: bool = True  # on the label, where the data has labels
    label_dropout: float = 0.1  # share of examples trained without their label, for guidance

    def __post_init__(self):
        _check_common(self)
        choose("config.diffusion.parameterization", self.parameterization, ("epsilon", "x0", "velocity"))
        choose("config.diffusion.variance", self.variance, samplers.VARIANCES)
        choose("config.diffusion.loss", self.loss, LOSSES)
        choose("config.diffusion.weighting", self.weighting, weighting.WEIGHTINGS)
        choose("config.diffusion.time_sampling", self.time_sampling, time_sampling.TIME_SAMPLINGS)
        if self.zero_terminal_snr and self.parameterization == "epsilon":
            raise ValueError("zero_terminal_snr needs parameterization=velocity or x0: pure noise tells nothing of x0")
        if self.learns_variance and self.loss == "simple":
            raise ValueError("variance=learned_range is trained by loss=hybrid or vlb, not by loss=simple")
        if self.loss == "hybrid" and not self.learns_variance:
            raise ValueError("loss=hybrid trains the variance: set variance=learned_range")
        if self.loss != "simple" and self.time_sampling == "logit_normal":
            raise ValueError(
                "time_sampling=logit_normal draws no estimate of the bound; with loss=hybrid or vlb use uniform"
            )
        if self.weighting == "truncated_snr" and self.parameterization == "epsilon":
            raise ValueError(
                "weighting=truncated_snr grows without end for epsilon; use parameterization=velocity or x0"
            )
        if self.loss == "vlb" and self.weighting != "uniform":
            raise ValueError("weighting belongs to the simple loss; loss=vlb has none")
        if self.loss != "simple" and self.timesteps < 2:
            raise ValueError("the variational bound needs two or more timesteps")
        for name in ("snr_gamma", "logit_std", "vlb_weight"):
            _check_positive(name, getattr(self, name))

    @property
    def learns_variance(self) -> bool:
        """Whether the network has outputs for its variance."""
        return self.variance == "learned_range"

    def loss_weight(self, process: DDPM, time: Array) -> Array:
        """Of the simple loss, per example."""
        alpha, sigma = (x[:, 0, 0, 0] for x in process.alpha_sigma(time))
        return weighting.weight(self.weighting, self.parameterization, alpha, sigma, self.snr_gamma)

    def make(self) -> DDPM:
        """The process."""
        return DDPM(Schedule.named(self.schedule, self.timesteps, self.zero_terminal_snr))


@dataclasses.dataclass(frozen=True)
class EDMConfig:
    """Karras et al. 2022; the network predicts x0 through its preconditioning."""

    process: str = "edm"
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5  # standard deviation of the pixels in [-1, 1]
    p_mean: float = -1.2  # of log sigma in training
    p_std: float = 1.2
    conditional: bool = True
    label_dropout: float = 0.1

    parameterization = "x0"
    time_sampling = "uniform"  # of the quantile; p_mean and p_std give the distribution
    learns_variance = False
    loss = "simple"

    def __post_init__(self):
        _check_common(self)
        self.make()

    def loss_weight(self, process: EDM, time: Array) -> Array:
        """lambda(sigma)."""
        return process.weight(time)

    def make(self) -> EDM:
        """The process."""
        return EDM(self.sigma_min, self.sigma_max, self.sigma_data, self.p_mean, self.p_std)


@dataclasses.dataclass(frozen=True)
class FlowConfig:
    """Rectified flow (Liu et al. 2023; logit-normal times: Esser et al. 2024)."""

    process: str = "flow"
    time_sampling: str = "uniform"  # uniform, logit_normal
    logit_mean: float = 0.0
    logit_std: float = 1.0
    conditional: bool = True
    label_dropout: float = 0.1

    parameterization = "flow"
    learns_variance = False
    loss = "simple"

    def __post_init__(self):
        _check_common(self)
        choose("config.diffusion.time_sampling", self.time_sampling, ("uniform", "logit_normal"))
        _check_positive("logit_std", self.logit_std)

    def loss_weight(self, process: RectifiedFlow, time: Array) -> Array:
        """1."""
        return jnp.ones_like(time)

    def make(self) -> RectifiedFlow:
        """The process."""
        return RectifiedFlow()


PROCESSES = {"ddpm": DDPMConfig, "edm": EDMConfig, "flow": FlowConfig}
Settings = DDPMConfig | EDMConfig | FlowConfig


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """`config.sampler`: the defaults of `sample`, each an option of the command too."""

    sampler: str = "ddim"  # ancestral, ddim, euler, heun, heun_ratio, dpmpp_2m
    steps: int = 50
    spacing: str = "trailing"
    eta: float = 0.0  # of ddim
    variance: str = "fixed_small"  # of ancestral
    clip: float = 1.0  # x0 to [-clip, clip] at each step; 0 is off

    def __post_init__(self):
        if not 0 <= self.clip < math.inf:
            raise ValueError(f"clip must be finite and not negative, got {self.clip}")
        if self.eta and self.sampler != "ddim":
            raise ValueError(f"eta={self.eta} is of sampler=ddim, {self.sampler} has none: set eta=0")

    def step(self) -> samplers.Step:
        """The step object these settings describe."""
        choose("sampler", self.sampler, samplers.STEPS)
        options = {"ddim": {"eta": self.eta}, "ancestral": {"variance": self.variance}}
        return samplers.STEPS[self.sampler](**options.get(self.sampler, {}))


@dataclasses.dataclass(frozen=True)
class LikelihoodConfig:
    """`config.likelihood`: how `nll` is measured."""

    strata: int = 0  # of the variational bound: 0 is every timestep, else one random timestep in each of so many parts
    clip: float = 1.0  # x0 to [-clip, clip] in the bound; 0 is off
    trace: str = "hutchinson"  # of the ODE's divergence: hutchinson, exact
    rtol: float = 1e-4
    atol: float = 1e-4

    def __post_init__(self):
        choose("config.likelihood.trace", self.trace, likelihood.TRACES)
        if not (0 < self.rtol < 1 and 0 < self.atol < 1):
            raise ValueError(f"rtol={self.rtol} and atol={self.atol} must be within (0, 1)")
        if not 0 <= self.clip < math.inf:
            raise ValueError(f"clip must be finite and not negative, got {self.clip}")


def read(config: Any) -> tuple[Settings, Process, SamplerConfig, LikelihoodConfig]:
    """The three sections, checked, and the process they describe.

    Raises:
      ConfigError: an unknown key, or a value that the process, sampler or likelihood refuses.
    """
    name = choose("config.diffusion.process", config.diffusion.get("process", "ddpm"), PROCESSES)
    try:
        settings = build(PROCESSES[name], config.diffusion, "diffusion")
        process = settings.make()
    except ConfigError as error:
        raise ConfigError(f"{error} (with config.diffusion.process={name})") from error
    except ValueError as error:
        raise ConfigError(f"config.diffusion: {error}") from error
    sampling = build(SamplerConfig, config.sampler, "sampler")
    likelihood_config = build(LikelihoodConfig, config.get("likelihood", {}), "likelihood")
    try:
        step = sampling.step()
        process.grid(sampling.steps, sampling.spacing)
    except ValueError as error:
        raise ConfigError(f"config.sampler: {error}") from error
    if getattr(step, "variance", "") == "learned_range" and not settings.learns_variance:
        raise ConfigError("config.sampler.variance=learned_range needs config.diffusion.variance=learned_range")
    if name == "ddpm" and not 0 <= likelihood_config.strata < settings.timesteps:
        raise ConfigError(
            f"config.likelihood.strata={likelihood_config.strata}: must be from 0 to {settings.timesteps - 1}"
        )
    return settings, process, sampling, likelihood_config
