"""The sections `config.diffusion`, `config.sampler` and `config.likelihood`, and the objects that they describe.

`config.diffusion.process` (ddpm, edm or flow) decides which other keys its section has.
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from genmodels.config import Effect, build, when
from genmodels.diffusion import likelihood, samplers, time_sampling, weighting
from genmodels.diffusion.bound import Bound
from genmodels.diffusion.ddpm import DDPM
from genmodels.diffusion.edm import EDM
from genmodels.diffusion.flow import RectifiedFlow
from genmodels.diffusion.process import Process
from genmodels.diffusion.schedules import Schedule
from genmodels.errors import ConfigError, choose

MAX_TIMESTEPS = 100_000
LOSSES = ("simple", "hybrid", "vlb")
TIMES_OF_NETWORK = 1000  # the range of times that a network sees under rescale_timesteps


def _check_common(settings: Any) -> None:
    if not 0 <= settings.label_dropout <= 1:
        raise ValueError(f"label_dropout must be within [0, 1], got {settings.label_dropout}")


def _check_steps(name: str, value: int) -> None:
    if not 1 <= value <= MAX_TIMESTEPS:
        raise ValueError(f"{name}={value} must be from 1 to {MAX_TIMESTEPS:,}")


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value} must be positive and finite")


@dataclasses.dataclass(frozen=True)
class DDPMConfig:
    """Discrete-time diffusion (Ho et al. 2020; Nichol & Dhariwal 2021).

    Attributes:
      process: ddpm, edm or flow; it decides which other keys the section has.
      schedule: how the noise grows: linear (in the betas) or cosine.
      timesteps: number of steps of the forward process.
      rescale_timesteps: the network sees the step t as 1000 t / timesteps, as in Improved DDPM.
      zero_terminal_snr: rescales the schedule so that the last step is pure noise.
      parameterization: what the network predicts: epsilon, x0 or velocity.
      variance: variance of the reverse process: fixed_small, fixed_large or learned_range.
      loss: simple, hybrid (simple + vlb_weight vlb) or vlb.
      vlb_weight: weight of the variational bound in the hybrid loss.
      weighting: weight of the simple loss at each time: uniform, snr, min_snr or truncated_snr.
      snr_gamma: largest weight of min_snr.
      time_sampling: distribution of the times in training: uniform, logit_normal or importance.
      logit_mean: mean of the logit of the time, of logit_normal.
      logit_std: standard deviation of the logit of the time, of logit_normal.
      conditional: trains on the labels, where the data has labels.
      label_dropout: share of examples that are trained without their label, which guidance needs.
    """

    process: str = "ddpm"
    schedule: str = "cosine"
    timesteps: int = 1000
    rescale_timesteps: bool = False
    zero_terminal_snr: bool = False
    parameterization: str = "epsilon"
    variance: str = "fixed_small"
    loss: str = "simple"
    vlb_weight: float = 0.001
    weighting: str = "uniform"
    snr_gamma: float = 5.0
    time_sampling: str = "uniform"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    conditional: bool = True
    label_dropout: float = 0.1

    def __post_init__(self):
        _check_common(self)
        _check_steps("timesteps", self.timesteps)
        choose("config.diffusion.parameterization", self.parameterization, ("epsilon", "x0", "velocity"))
        choose("config.diffusion.variance", self.variance, samplers.VARIANCES)
        choose("config.diffusion.loss", self.loss, LOSSES)
        choose("config.diffusion.weighting", self.weighting, weighting.WEIGHTINGS)
        choose("config.diffusion.time_sampling", self.time_sampling, time_sampling.TIME_SAMPLINGS)
        if self.zero_terminal_snr and self.parameterization == "epsilon":
            raise ValueError(
                "zero_terminal_snr needs parameterization=velocity or x0: epsilon does not determine x0 in pure noise"
            )
        if self.rescale_timesteps and self.timesteps == TIMES_OF_NETWORK:
            raise ValueError(f"rescale_timesteps changes nothing at timesteps={self.timesteps}; set it to False")
        if self.learns_variance and self.loss == "simple":
            raise ValueError("variance=learned_range is trained by loss=hybrid or loss=vlb, not by loss=simple")
        if self.loss == "hybrid" and not self.learns_variance:
            raise ValueError("loss=hybrid trains the variance: set variance=learned_range")
        if self.loss != "simple" and self.time_sampling == "logit_normal":
            raise ValueError(
                "time_sampling=logit_normal gives no estimate of the bound; with loss=hybrid or loss=vlb use uniform"
            )
        if self.weighting == "truncated_snr" and self.parameterization == "epsilon":
            raise ValueError("weighting=truncated_snr is unbounded for epsilon; use parameterization=velocity or x0")
        if self.loss == "vlb" and self.weighting != "uniform":
            raise ValueError("weighting applies to the simple loss only; with loss=vlb set weighting=uniform")
        if self.loss != "simple" and self.timesteps < 2:
            raise ValueError(f"loss={self.loss} needs two or more timesteps")
        for name in ("snr_gamma", "logit_std", "vlb_weight"):
            _check_positive(name, getattr(self, name))

    @property
    def learns_variance(self) -> bool:
        """Whether the network predicts the variance of the reverse process."""
        return self.variance == "learned_range"

    def loss_weight(self, process: Process, time: Array) -> Array:
        """The weight of each example's simple loss."""
        alpha, sigma = (x[:, 0, 0, 0] for x in process.alpha_sigma(time))
        return weighting.weight(self.weighting, self.parameterization, alpha, sigma, self.snr_gamma)

    def make(self) -> DDPM:
        """The process that these settings describe."""
        scale = TIMES_OF_NETWORK / self.timesteps if self.rescale_timesteps else 1.0
        return DDPM(Schedule.named(self.schedule, self.timesteps, self.zero_terminal_snr), scale)

    def bound(self, clip: float | None = None) -> Bound:
        """The variational bound of this process, with predictions of x_0 clipped to [-clip, clip]."""
        return Bound(self.make().schedule, self.variance, self.parameterization, clip)


@dataclasses.dataclass(frozen=True)
class EDMConfig:
    """Karras et al. 2022; the network predicts x0 through its preconditioning.

    Attributes:
      process: ddpm, edm or flow; it decides which other keys the section has.
      sigma_min: least noise that sampling goes down to.
      sigma_max: noise that sampling starts from.
      sigma_data: standard deviation of the pixels in [-1, 1].
      p_mean: mean of log sigma in training.
      p_std: standard deviation of log sigma in training.
      conditional: trains on the labels, where the data has labels.
      label_dropout: share of examples that are trained without their label, which guidance needs.
    """

    process: str = "edm"
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    p_mean: float = -1.2
    p_std: float = 1.2
    conditional: bool = True
    label_dropout: float = 0.1

    parameterization = "x0"
    time_sampling = "uniform"  # of the quantile; p_mean and p_std give the distribution
    logit_mean, logit_std = 0.0, 1.0
    learns_variance = False
    loss, vlb_weight = "simple", 0.0

    def __post_init__(self):
        _check_common(self)
        self.make()

    def loss_weight(self, process: Any, time: Array) -> Array:
        """The weight lambda(sigma) of each example's loss."""
        return process.weight(time)

    def make(self) -> EDM:
        """The process that these settings describe."""
        return EDM(self.sigma_min, self.sigma_max, self.sigma_data, self.p_mean, self.p_std)


@dataclasses.dataclass(frozen=True)
class FlowConfig:
    """Rectified flow (Liu et al. 2023; logit-normal times: Esser et al. 2024).

    Attributes:
      process: ddpm, edm or flow; it decides which other keys the section has.
      time_sampling: distribution of the times in training: uniform or logit_normal.
      logit_mean: mean of the logit of the time, of logit_normal.
      logit_std: standard deviation of the logit of the time, of logit_normal.
      conditional: trains on the labels, where the data has labels.
      label_dropout: share of examples that are trained without their label, which guidance needs.
    """

    process: str = "flow"
    time_sampling: str = "uniform"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    conditional: bool = True
    label_dropout: float = 0.1

    parameterization = "flow"
    learns_variance = False
    loss, vlb_weight = "simple", 0.0

    def __post_init__(self):
        _check_common(self)
        choose("config.diffusion.time_sampling", self.time_sampling, ("uniform", "logit_normal"))
        _check_positive("logit_std", self.logit_std)

    def loss_weight(self, process: Process, time: Array) -> Array:
        """The weight 1 of each example's loss."""
        return jnp.ones_like(time)

    def make(self) -> RectifiedFlow:
        """The process that these settings describe."""
        return RectifiedFlow()


EFFECTS = (
    when("diffusion.loss", "hybrid", keys=["diffusion.vlb_weight"]),
    when("diffusion.weighting", "min_snr", keys=["diffusion.snr_gamma"]),
    when("diffusion.time_sampling", "logit_normal", keys=["diffusion.logit_mean", "diffusion.logit_std"]),
    when("diffusion.conditional", True, keys=["diffusion.label_dropout"]),
    when("diffusion.process", "ddpm", keys=["likelihood.strata", "likelihood.clip"]),
    when("model.head_channels", 0, keys=["model.heads"]),
    Effect(
        ("model.downsample_padding",),
        lambda flat: len(flat.get("model.multipliers", ())) > 1,
        "two levels or more in config.model.multipliers",
    ),
)
PROCESSES = {"ddpm": DDPMConfig, "edm": EDMConfig, "flow": FlowConfig}
Settings = DDPMConfig | EDMConfig | FlowConfig


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """`config.sampler`: the defaults of `sample`, each an option of the command too.

    Attributes:
      sampler: the method: ancestral, ddim, euler, heun, heun_ratio or dpmpp_2m.
      steps: number of sampling steps; heun takes two network evaluations in each.
      spacing: places of the steps in time: trailing, leading, linspace (ddpm), uniform (flow), karras, logsnr (all).
      eta: noise of ddim: 0 is deterministic, 1 as much as ancestral sampling.
      variance: variance of ancestral sampling: fixed_small, fixed_large or learned_range.
      clip: keeps x0 within [-clip, clip] at each step; 0 does not.
    """

    sampler: str = "ddim"
    steps: int = 50
    spacing: str = "trailing"
    eta: float = 0.0
    variance: str = "fixed_small"
    clip: float = 1.0

    def __post_init__(self):
        _check_steps("steps", self.steps)
        if not 0 <= self.clip < math.inf:
            raise ValueError(f"clip must be finite and not negative, got {self.clip}")
        if self.eta and self.sampler != "ddim":
            raise ValueError(f"eta={self.eta} applies to sampler=ddim only; with sampler={self.sampler} set eta=0")

    def step(self) -> samplers.Step:
        """The step object that these settings describe.

        Raises:
          ConfigError: the sampler is unknown.
          ValueError: the step refuses its settings.
        """
        choose("sampler", self.sampler, samplers.STEPS)
        options: dict[str, dict[str, Any]] = {"ddim": {"eta": self.eta}, "ancestral": {"variance": self.variance}}
        return samplers.STEPS[self.sampler](**options.get(self.sampler, {}))


@dataclasses.dataclass(frozen=True)
class EDMSampler(SamplerConfig):
    """`config.sampler` of edm, which has no timesteps that `trailing` could take a part of."""

    spacing: str = "karras"


@dataclasses.dataclass(frozen=True)
class FlowSampler(SamplerConfig):
    """`config.sampler` of flow, which has no timesteps that `trailing` could take a part of."""

    spacing: str = "uniform"


SAMPLERS = {"ddpm": SamplerConfig, "edm": EDMSampler, "flow": FlowSampler}


@dataclasses.dataclass(frozen=True)
class LikelihoodConfig:
    """`config.likelihood`: how `nll` is measured.

    Attributes:
      strata: parts of the timesteps, in each of which the variational bound takes one at random; 0 takes all timesteps.
      clip: keeps x0 within [-clip, clip] in the variational bound; 0 does not.
      trace: how the divergence of the ODE is computed: hutchinson (an estimate) or exact.
      rtol: relative tolerance of the ODE's solver.
      atol: absolute tolerance of the ODE's solver.
    """

    strata: int = 0
    clip: float = 1.0
    trace: str = "hutchinson"
    rtol: float = 1e-4
    atol: float = 1e-4

    def __post_init__(self):
        choose("config.likelihood.trace", self.trace, likelihood.TRACES)
        if not (0 < self.rtol < 1 and 0 < self.atol < 1):
            raise ValueError(f"rtol={self.rtol} and atol={self.atol} must be within (0, 1)")
        if not 0 <= self.clip < math.inf:
            raise ValueError(f"clip must be finite and not negative, got {self.clip}")


def _process_name(config: Any) -> str:
    return choose("config.diffusion.process", config.get("diffusion", {}).get("process", "ddpm"), PROCESSES)


def sections(config: Any) -> dict[str, type]:
    """The dataclasses that read the three sections, for `config.diffusion.process`.

    Raises:
      ConfigError: an unknown process.
    """
    name = _process_name(config)
    return {"diffusion": PROCESSES[name], "sampler": SAMPLERS[name], "likelihood": LikelihoodConfig}


def read(config: Any) -> tuple[Settings, Process, SamplerConfig, LikelihoodConfig]:
    """The three sections after all checks, and the process that they describe.

    Raises:
      ConfigError: there is an unknown key, or a value that the process, the sampler or the likelihood refuses.
    """
    name = _process_name(config)
    try:
        settings = build(PROCESSES[name], config.diffusion, "diffusion")
        process = settings.make()
    except ConfigError as error:
        raise ConfigError(f"{error} (with config.diffusion.process={name})") from error
    except ValueError as error:
        raise ConfigError(f"config.diffusion: {error}") from error
    sampling = build(SAMPLERS[name], config.sampler, "sampler")
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
            f"config.likelihood.strata={likelihood_config.strata} must be within [0, {settings.timesteps - 1}]"
        )
    return settings, process, sampling, likelihood_config
