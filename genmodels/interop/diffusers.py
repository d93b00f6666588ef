"""Converts a diffusers model folder (a `UNet2DModel` and its scheduler) to a work directory, and back.

A download of google/ddpm-cifar10-32 is such a folder. It has config.json, scheduler_config.json and
diffusion_pytorch_model.safetensors side by side; pipelines have them in the sub-folders unet/ and scheduler/.
"""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import safetensors.numpy
from ml_collections import ConfigDict

from genmodels import config as config_lib
from genmodels.core.files import atomic_path, write_text
from genmodels.diffusion.spacing import TIMESTEPS
from genmodels.errors import ConfigError, DataError, StorageError
from genmodels.interop import diffusers_defaults, diffusers_keys, model_folder
from genmodels.models.unet import UNet
from genmodels.runs import workdir as workdir_lib
from genmodels.runs.inference import Run
from genmodels.tasks import DataSpec
from genmodels.tasks.diffusion_predict import NETWORK

WEIGHTS = "diffusion_pytorch_model.safetensors"
OUR_CONFIG = "genmodels.json"  # what the configs of diffusers cannot state: whether the last class is the null label
AUTOENCODERS = ("vae", "vqvae", "movq", "vqgan")  # folders of a pipeline whose U-Net sees latents

SCHEDULES: dict[str | None, str] = {"linear": "linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS: dict[str | None, str] = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "velocity"}
VARIANCES: dict[str | None, str] = {
    None: "fixed_small",
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",
    "fixed_large": "fixed_large",
    "fixed_large_log": "fixed_large",
    "learned_range": "learned_range",
}
SPACINGS = {  # options that replace timestep_spacing
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "logsnr",
    "use_lu_lambdas": "logsnr",
}
# Options that make another process of the same weights, with their neutral values.
REFUSED = {"trained_betas": None, "use_flow_sigmas": False, "timestep_type": "discrete"}
# Options of sampling that the run does not have: the value that equals what it does, and what that is.
DROPPED = {
    "steps_offset": (0, "the timesteps are those of config.sampler.spacing without an offset"),
    "set_alpha_to_one": (True, "the last step ends at the clean image"),
    "final_sigmas_type": ("zero", "the last step ends at the clean image"),
    "thresholding": (False, "x0 is clipped as config.sampler.clip says"),
    "use_beta_sigmas": (False, "the steps are those of config.sampler.spacing"),
    "sigma_min": (None, "the noise levels are those of the schedule"),
    "sigma_max": (None, "the noise levels are those of the schedule"),
}


def _translate(scheduler: Mapping[str, Any], key: str, known: Mapping[str | None, str]) -> str:
    value = scheduler.get(key)
    if value not in known:
        names = ", ".join(str(name) for name in known if name)
        raise ValueError(f"{key}={value!r} has no equivalent in genmodels; these have: {names}")
    return known[value]


def _diffusion_of(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """The section `config.diffusion` that corresponds to a scheduler with all its settings."""
    schedule = _translate(scheduler, "beta_schedule", SCHEDULES)
    ends = scheduler["beta_start"], scheduler["beta_end"]
    if schedule == "linear" and ends != (1e-4, 0.02):
        raise ValueError(
            f"beta_start={ends[0]} and beta_end={ends[1]} have no equivalent in genmodels; they must be 0.0001 and 0.02"
        )
    for key, neutral in REFUSED.items():
        if scheduler.get(key, neutral) != neutral:
            raise ValueError(f"{key} of the scheduler has no equivalent in genmodels; it must be {json.dumps(neutral)}")
    variance = _translate(scheduler, "variance_type", VARIANCES)
    return {
        "process": "ddpm",
        "schedule": schedule,
        "timesteps": scheduler["num_train_timesteps"],
        "zero_terminal_snr": scheduler.get("rescale_betas_zero_snr", False),
        "parameterization": _translate(scheduler, "prediction_type", PREDICTIONS),
        "variance": variance,
        "loss": "hybrid" if variance == "learned_range" else "simple",
    }


def _sampler_of(scheduler: dict[str, Any], timesteps: int, variance: str) -> dict[str, Any]:
    """The section `config.sampler`: 50 DDIM steps with the scheduler's spacing and clipping."""
    clip = float(scheduler["clip_sample_range"]) if scheduler.get("clip_sample") else 0.0
    if scheduler.get("clip_sample") and not 0 < clip < math.inf:
        raise ValueError(f"clip_sample_range={clip} must be positive")
    chosen = [spacing for option, spacing in SPACINGS.items() if scheduler.get(option)]
    spacing = _translate({"timestep_spacing": "linspace"} | scheduler, "timestep_spacing", {s: s for s in TIMESTEPS})
    return {
        "steps": min(50, timesteps),
        "variance": variance,
        "clip": clip,
        "spacing": chosen[0] if chosen else spacing,
    }


def config_of(
    unet: Mapping[str, Any], scheduler: Mapping[str, Any], *, null_label: bool
) -> tuple[ConfigDict, DataSpec, list[str]]:
    """The config and the data of a run that could have produced such a model, and a line for each thing left out.

    Args:
      unet: contents of config.json.
      scheduler: contents of scheduler_config.json.
      null_label: see `read`.
    Raises:
      ValueError: a key has no equivalent; the message names it.
    """
    settings = diffusers_keys.settings_of(unet, null_label=null_label)
    unet, ignored = diffusers_defaults.completed(unet, "UNet2DModel", diffusers_defaults.UNET)
    name = scheduler.get("_class_name")
    if name not in diffusers_defaults.SCHEDULERS:
        raise ValueError(
            f"_class_name={name!r} of the scheduler has no equivalent in genmodels; these have: "
            f"{', '.join(diffusers_defaults.SCHEDULERS)}"
        )
    scheduler, more = diffusers_defaults.completed(scheduler, name, diffusers_defaults.SCHEDULERS[name])
    num_classes, out_channels = settings.pop("num_classes"), settings.pop("out_channels")
    config = config_lib.defaults("diffusion", process="ddpm")
    config.data.source = ""
    config.model.update(settings)
    config.diffusion.update(_diffusion_of(scheduler))
    config.diffusion.update(conditional=num_classes > 0, label_dropout=0.1 if null_label else 0.0)
    variance, channels, size = config.diffusion.variance, unet["in_channels"], unet["sample_size"]
    if out_channels != channels * (2 if variance == "learned_range" else 1):
        raise ValueError(
            f"out_channels={out_channels} does not fit in_channels={channels} and variance_type={variance}; with "
            "learned_range it must be twice in_channels, otherwise equal to it"
        )
    if isinstance(size, bool) or not isinstance(size, int):
        raise ValueError(f"sample_size={size!r}: must be one number")
    config.sampler.update(_sampler_of(scheduler, config.diffusion.timesteps, variance))
    config.likelihood.clip = config.sampler.clip
    config.train.steps = 1
    config.ema.decay = 0.9999
    config.eval.metrics = ("nll",)
    sampler = config.sampler
    notes = [
        f"the sampling method of {name} is not converted: unless its flags say otherwise, sample draws with "
        f"{sampler.steps} steps of {sampler.sampler}, spacing {sampler.spacing}",
        *(
            f"{key}={scheduler[key]!r} is left out: {instead}"
            for key, (neutral, instead) in DROPPED.items()
            if scheduler.get(key, neutral) != neutral
        ),
        *ignored,
        *more,
    ]
    return config, DataSpec((size, size, channels), num_classes), notes


def _check_pipeline(folder: pathlib.Path) -> dict[str, Any]:
    """The contents of model_index.json, {} without one.

    Raises:
      ConfigError: the pipeline has more than a U-Net and a scheduler, e.g. the autoencoder of latent diffusion.
    """
    path = folder / "model_index.json"
    index = workdir_lib.read_json(path) if path.exists() else {}
    if not isinstance(index, dict):
        raise StorageError(f"{path}: must be a JSON object")
    named = {name for name, value in index.items() if isinstance(value, list) and any(value)}
    there = {name for name in AUTOENCODERS if (folder / name).is_dir()}
    for name in sorted(there | (named & set(AUTOENCODERS))):
        raise ConfigError(
            f"{folder}: is a latent diffusion pipeline: its U-Net denoises what {name}/ encodes, not images; only "
            "models of images can be converted"
        )
    for name in sorted(named - {"unet", "scheduler"}):
        raise ConfigError(f"{folder}: its pipeline has {name}; only a U-Net with a scheduler can be converted")
    return index


def read(folder: pathlib.Path, workdir: pathlib.Path, source: str = "", *, null_label: bool | None = None) -> list[str]:
    """Creates a work directory at step 0 from a diffusers folder, for sample, evaluate and report.

    Keys that the configs lack are read as diffusers reads them. Of the scheduler's sampling method only the spacing is
    converted; the default of the run is 50 DDIM steps.

    Args:
      folder: the diffusers model folder.
      workdir: the work directory to create.
      source: the data on which the model was trained, as in config.data.source. It is needed only by metrics that
        compare with data.
      null_label: whether the last class means "no label", as in training for guidance; None takes the folder's answer.
    Returns:
      A line for each thing that was not converted.
    Raises:
      StorageError: a file is missing or damaged, or the work directory exists.
      ConfigError: something in the model or its scheduler has no equivalent, or `source` does not fit the model.
      DataError: a tensor of the weights is missing, left over or has another shape.
    """
    index = _check_pipeline(folder)
    unet = workdir_lib.read_json(model_folder.existing(folder, "config.json", "unet"))
    scheduler = workdir_lib.read_json(model_folder.existing(folder, "scheduler_config.json", "scheduler"))
    our_config = workdir_lib.read_json(folder / OUR_CONFIG) if (folder / OUR_CONFIG).exists() else {}
    if not all(isinstance(content, dict) for content in (unet, scheduler, our_config)):
        raise StorageError(f"{folder}: its configs must be JSON objects")
    loaded = index.get("scheduler")
    if isinstance(loaded, list) and any(loaded):  # the pipeline loads this class, whatever class wrote the config
        scheduler = scheduler | {"_class_name": loaded[-1]}
    null_label = bool(our_config.get("null_label", False)) if null_label is None else null_label
    tensors = model_folder.read_tensors(folder, WEIGHTS, "unet")
    try:
        config, data, notes = config_of(unet, scheduler, null_label=null_label)
    except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        raise ConfigError(f"{folder}: the configs cannot be converted: {error}") from error
    described = model_folder.describe(folder, config, data, source)
    shapes = model_folder.shapes_of(config, data)
    learned = config.diffusion.variance == "learned_range"
    channels = data.image_shape[-1] * (2 if learned else 1)
    model = config_lib.build(UNet, config.model, "model", out_channels=channels, num_classes=data.num_classes)
    flip = unet.get("flip_sin_to_cos", diffusers_defaults.UNET["flip_sin_to_cos"])
    try:
        params = diffusers_keys.params_of(tensors, model, shapes.params[NETWORK], flip_sin_to_cos=flip)
    except ValueError as error:
        raise DataError(f"{folder}: {error}") from error
    model_folder.write_run(workdir, config, described, shapes, {NETWORK: params})
    return notes


def _exported(config: ConfigDict, data: DataSpec) -> tuple[UNet, dict[str, Any], dict[str, Any]]:
    """The network of a DDPM's config, and the config.json and scheduler_config.json that are equivalent to the config.

    Raises:
      ValueError: something has no equivalent in diffusers; the message names the key.
    """
    process = config.diffusion.get("process", "ddpm")
    if process != "ddpm":
        raise ValueError(f"config.diffusion.process={process}: UNet2DModel and its schedulers are for ddpm")
    if config.diffusion.get("rescale_timesteps", False):
        raise ValueError("config.diffusion.rescale_timesteps=True: UNet2DModel sees the timesteps as they are")
    height, width, channels = data.image_shape
    if height != width:
        raise ValueError(f"images of {height}x{width} are not square, as diffusers requires; set config.data.size")
    model = config_lib.build(
        UNet,
        config.model,
        "model",
        out_channels=channels * (2 if config.diffusion.get("variance") == "learned_range" else 1),
        num_classes=data.num_classes if config.diffusion.get("conditional", True) else 0,
    )
    unet = diffusers_keys.config_of(model, height, channels)
    schedules = {ours: theirs for theirs, ours in SCHEDULES.items()}
    predictions = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    clip, spacing = config.sampler.get("clip", 1.0), config.sampler.get("spacing", "trailing")
    scheduler = {
        "_class_name": "DDPMScheduler",
        "beta_schedule": schedules[config.diffusion.get("schedule", "cosine")],
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "num_train_timesteps": config.diffusion.get("timesteps", 1000),
        "prediction_type": predictions[config.diffusion.get("parameterization", "epsilon")],
        "variance_type": config.diffusion.get("variance", "fixed_small"),
        "rescale_betas_zero_snr": config.diffusion.get("zero_terminal_snr", False),
        "clip_sample": clip > 0,
        "clip_sample_range": clip or 1.0,
        "timestep_spacing": spacing if spacing in TIMESTEPS else "trailing",
    }
    return model, unet, scheduler


def obstacle(config: ConfigDict, data: DataSpec) -> str:
    """Why a diffusion model of this config could not be written for diffusers, naming the key; "" if it could.

    Models of other tasks have no equivalent there, which is no news: the answer is "".
    """
    if config.task != "diffusion":
        return ""
    try:
        _exported(config, data)
    except ValueError as error:
        return str(error)
    return ""


def write(run: Run, folder: pathlib.Path) -> None:
    """Writes a run's weights as a folder that diffusers' `UNet2DModel` and `DDPMScheduler` can load.

    Args:
      run: of a DDPM; its averaged weights are written if it keeps them.
      folder: to write; existing files are replaced.
    Raises:
      ConfigError: the run is not a DDPM, or something in its network has no equivalent in diffusers.
    """
    if run.config.task != "diffusion":
        raise ConfigError(f"{run.workdir}: is a run of config.task={run.config.task}, which diffusers has no model for")
    try:
        model, unet, scheduler = _exported(run.config, run.data)
    except ValueError as error:
        raise ConfigError(f"{run.workdir}: cannot be written for diffusers: {error}") from error
    ours = {"null_label": model.num_classes > 0}
    for name, content in {"config.json": unet, "scheduler_config.json": scheduler, OUR_CONFIG: ours}.items():
        write_text(folder / name, json.dumps(content, indent=2, sort_keys=True) + "\n")
    tensors = diffusers_keys.tensors_of(run.variables["params"][NETWORK], model)
    with atomic_path(folder / WEIGHTS) as temporary:
        safetensors.numpy.save_file(tensors, temporary, {"format": "pt"})
