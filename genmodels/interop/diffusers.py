"""A diffusers model folder (a `UNet2DModel` and its scheduler) as a work directory, and back.

google/ddpm-cifar10-32, downloaded, is such a folder: config.json, scheduler_config.json and
diffusion_pytorch_model.safetensors side by side; pipelines keep them in the sub-folders unet/ and scheduler/.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import safetensors.numpy
from ml_collections import ConfigDict

from genmodels import config as config_lib
from genmodels.core.files import atomic_path, write_text
from genmodels.diffusion.spacing import TIMESTEPS
from genmodels.errors import ConfigError, DataError, StorageError
from genmodels.interop import diffusers_keys, model_folder
from genmodels.models.unet import UNet
from genmodels.runs import workdir as workdir_lib
from genmodels.runs.inference import Run
from genmodels.tasks import DataSpec
from genmodels.tasks.diffusion_predict import NETWORK

WEIGHTS = "diffusion_pytorch_model.safetensors"
OURS = "genmodels.json"  # what diffusers has no place for: whether the last class is the null label

# Schedulers of the variance-preserving family, whose betas and predictions mean the same; how each samples is left
# behind. Those of flow matching, EDM or consistency models are other processes. Only the first two clip by default.
CLIPPING = ("DDPMScheduler", "DDIMScheduler")
SCHEDULERS = (
    *CLIPPING,
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
SCHEDULES = {"linear": "linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "velocity"}
VARIANCES = {name: name.removesuffix("_log") for name in ("fixed_small", "fixed_small_log", "fixed_large")} | {
    "fixed_large_log": "fixed_large",
    "learned_range": "learned_range",
}


def _translate(scheduler: Mapping[str, Any], key: str, known: Mapping[str, str]) -> str:
    value = scheduler.get(key) or next(iter(known))
    if value not in known:
        raise ValueError(f"{key}={value!r} has no equivalent here; there are {', '.join(known)}")
    return known[value]


def _diffusion_of(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """`config.diffusion` for a scheduler_config.json."""
    name = scheduler.get("_class_name")
    if name not in SCHEDULERS:
        raise ValueError(
            f"_class_name={name!r} of the scheduler has no equivalent here; there are {', '.join(SCHEDULERS)}"
        )
    for key in ("beta_schedule", "num_train_timesteps", "prediction_type"):
        if key not in scheduler:
            raise ValueError(f"the scheduler's config has no {key!r}")
    timesteps = scheduler["num_train_timesteps"]
    if isinstance(timesteps, bool) or not isinstance(timesteps, int):
        raise ValueError(f"num_train_timesteps={timesteps!r}: must be a whole number")
    schedule = _translate(scheduler, "beta_schedule", SCHEDULES)
    ends = scheduler.get("beta_start", 1e-4), scheduler.get("beta_end", 0.02)
    if schedule == "linear" and ends != (1e-4, 0.02):
        raise ValueError(f"beta_start and beta_end of {ends} have no equivalent here; they must be (0.0001, 0.02)")
    for key in ("trained_betas", "thresholding", "use_flow_sigmas"):
        if scheduler.get(key):
            raise ValueError(f"{key} has no equivalent here")
    variance = _translate(scheduler, "variance_type", VARIANCES)
    return {
        "process": "ddpm",
        "schedule": schedule,
        "timesteps": timesteps,
        "zero_terminal_snr": bool(scheduler.get("rescale_betas_zero_snr", False)),
        "parameterization": _translate(scheduler, "prediction_type", PREDICTIONS),
        "variance": variance,
        "loss": "hybrid" if variance == "learned_range" else "simple",
    }


def config_of(
    unet: Mapping[str, Any], scheduler: Mapping[str, Any], *, null_label: bool
) -> tuple[ConfigDict, DataSpec]:
    """The config and the data of a run that such a model could have come from.

    Raises:
      ValueError: names the key that has no equivalent.
    """
    settings = diffusers_keys.settings_of(unet, null_label=null_label)
    num_classes, out_channels = settings.pop("num_classes"), settings.pop("out_channels")
    config = config_lib.defaults("diffusion", process="ddpm")
    config.data.source = ""
    config.model.update(settings)
    config.diffusion.update(_diffusion_of(scheduler))
    config.diffusion.update(conditional=num_classes > 0, label_dropout=0.1 if null_label else 0.0)
    variance = config.diffusion.variance
    channels, size = unet["in_channels"], unet.get("sample_size")
    if out_channels != channels * (2 if variance == "learned_range" else 1):
        raise ValueError(f"out_channels={out_channels} does not go with in_channels={channels} and variance {variance}")
    if isinstance(size, bool) or not isinstance(size, int):
        raise ValueError(f"sample_size={size!r}: must be one number")
    clips = scheduler.get("clip_sample", scheduler["_class_name"] in CLIPPING)
    clip = float(scheduler.get("clip_sample_range", 1.0)) if clips else 0.0
    if clips and clip <= 0:
        raise ValueError(f"clip_sample_range={clip} must be positive")
    spacing = scheduler.get("timestep_spacing", "trailing")
    config.sampler.update(steps=min(50, config.diffusion.timesteps), variance=variance, clip=clip)
    if spacing in TIMESTEPS:
        config.sampler.spacing = spacing
    config.likelihood.clip = clip
    config.train.steps = 1
    config.ema.decay = 0.9999
    config.eval.metrics = ("nll",)
    return config, DataSpec((size, size, channels), num_classes)


def read(folder: pathlib.Path, workdir: pathlib.Path, source: str = "", *, null_label: bool | None = None) -> None:
    """Makes a work directory of a diffusers folder, so that sample, evaluate and report take it; step 0, no training.

    How its scheduler samples is left behind but for the spacing: ours begin with 50 DDIM steps.

    Args:
      null_label: the last class stands for no label, as in training for guidance; None asks the folder.
      source: the data it was trained on, as in config.data.source; needed only by metrics that compare with data.
    Raises:
      StorageError: a file is missing or damaged, or the work directory is taken.
      ConfigError: the model or its scheduler is something that genmodels has no equivalent for; or has other images.
    """
    unet = workdir_lib.read_json(model_folder.existing(folder, "config.json", "unet"))
    scheduler = workdir_lib.read_json(model_folder.existing(folder, "scheduler_config.json", "scheduler"))
    ours = workdir_lib.read_json(folder / OURS) if (folder / OURS).exists() else {}
    if not all(isinstance(content, dict) for content in (unet, scheduler, ours)):
        raise StorageError(f"{folder}: its configs must be JSON objects")
    null_label = bool(ours.get("null_label", False)) if null_label is None else null_label
    tensors = model_folder.read_tensors(folder, WEIGHTS, "unet")
    try:
        config, data = config_of(unet, scheduler, null_label=null_label)
    except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        raise ConfigError(f"{folder}: the configs cannot be understood: {error}") from error
    described = model_folder.describe(folder, config, data, source)
    shapes = model_folder.shapes_of(config, data)
    model = config_lib.build(
        UNet, config.model, "model", out_channels=unet["out_channels"], num_classes=data.num_classes
    )
    try:
        params = diffusers_keys.params_of(
            tensors, model, shapes.params[NETWORK], flip_sin_to_cos=unet.get("flip_sin_to_cos", True)
        )
    except ValueError as error:
        raise DataError(f"{folder}: {error}") from error
    model_folder.write_run(workdir, config, described, shapes, {NETWORK: params})


def write(run: Run, folder: pathlib.Path) -> None:
    """Writes a run's averaged weights as a folder that diffusers' `UNet2DModel` and `DDPMScheduler` load.

    Raises:
      ConfigError: the run is no DDPM, or something of its network has no equivalent there.
    """
    config = run.config
    if config.task != "diffusion" or config.diffusion.get("process", "ddpm") != "ddpm":
        raise ConfigError(f"{run.workdir}: only a run of config.diffusion.process=ddpm can be written for diffusers")
    height, width, channels = run.data.image_shape
    params = run.variables["params"][NETWORK]
    conditional = "label" in params
    learned = config.diffusion.get("variance") == "learned_range"
    model = config_lib.build(
        UNet,
        config.model,
        "model",
        out_channels=channels * (2 if learned else 1),
        num_classes=run.data.num_classes if conditional else 0,
    )
    try:
        if height != width:
            raise ValueError(f"images of {height}x{width} are not square")
        unet = diffusers_keys.config_of(model, height, channels)
    except ValueError as error:
        raise ConfigError(f"{run.workdir}: {error}") from error
    named = {ours: theirs for theirs, ours in SCHEDULES.items()}
    predicted = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    clip = config.sampler.get("clip", 1.0)
    scheduler = {
        "_class_name": "DDPMScheduler",
        "beta_schedule": named[config.diffusion.get("schedule", "cosine")],
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "num_train_timesteps": config.diffusion.get("timesteps", 1000),
        "prediction_type": predicted[config.diffusion.get("parameterization", "epsilon")],
        "variance_type": config.diffusion.get("variance", "fixed_small"),
        "rescale_betas_zero_snr": config.diffusion.get("zero_terminal_snr", False),
        "clip_sample": clip > 0,
        "clip_sample_range": clip or 1.0,
        "timestep_spacing": "trailing",
    }
    files = {"config.json": unet, "scheduler_config.json": scheduler, OURS: {"null_label": conditional}}
    for name, content in files.items():
        write_text(folder / name, json.dumps(content, indent=2, sort_keys=True) + "\n")
    with atomic_path(folder / WEIGHTS) as temporary:
        safetensors.numpy.save_file(diffusers_keys.tensors_of(params, model), temporary, {"format": "pt"})
