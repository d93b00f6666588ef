"""What a key means that a config of diffusers lacks: the defaults of the constructors that read it.

Source: `__init__` of UNet2DModel (src/diffusers/models/unets/unet_2d.py, models/unet_2d.py in older versions) and of
each scheduler (src/diffusers/schedulers/scheduling_*.py), in all 96 tags of huggingface/diffusers from 0.1.0 to
v0.40.0. Keys were added from version to version, with defaults that keep what the older versions did. Only one default
ever changed: `lower_order_final` of DPMSolverSinglestepScheduler in v0.26.3, which belongs to its solver and is not
converted. Keys that were renamed before 0.1.0 and in v0.9 keep their meaning.
"""

from collections.abc import Mapping
from typing import Any

UNET_CLASS = "UNet2DModel"
UNET: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,  # since v0.32
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2D",  # since v0.33
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "mid_block_scale_factor": 1.0,
    "downsample_padding": 1,
    "downsample_type": "conv",  # since v0.18
    "upsample_type": "conv",  # since v0.18
    "dropout": 0.0,  # since v0.21
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,  # since v0.22
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",  # since v0.11
    "add_attention": True,  # since v0.11
    "class_embed_type": None,  # since v0.13
    "num_class_embeds": None,  # since v0.13
    "num_train_timesteps": None,  # since v0.23
}

_ALL: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,  # since v0.0.3, PNDM's since v0.3
    "prediction_type": "epsilon",  # since v0.9 to v0.13
    "timestep_spacing": "linspace",  # since v0.17 or v0.18, as all below that name no version
    "steps_offset": 0,  # DDIM's and PNDM's since v0.4
}
_LEADING: dict[str, Any] = _ALL | {"timestep_spacing": "leading", "tensor_format": "pt"}  # the format until v0.3
_CLIP: dict[str, Any] = {"clip_sample": True, "clip_sample_range": 1.0}  # the range since v0.13, DDIM's since v0.15
_THRESHOLD: dict[str, Any] = {  # since v0.15, those of the solvers since their first version
    "thresholding": False,
    "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0,
}
_ZERO_SNR: dict[str, Any] = {"rescale_betas_zero_snr": False}  # DDIM's since v0.17, others' since v0.25 to v0.28
_SIGMAS: dict[str, Any] = {
    "use_karras_sigmas": False,  # since v0.15 to v0.18
    "use_exponential_sigmas": False,  # since v0.31
    "use_beta_sigmas": False,  # since v0.31
}
_FLOW: dict[str, Any] = {
    "use_flow_sigmas": False,  # since v0.32
    "flow_shift": 1.0,  # since v0.32
    "use_dynamic_shifting": False,  # since v0.35
    "time_shift_type": "exponential",  # since v0.35
}
_SOLVER: dict[str, Any] = (
    _ALL | _THRESHOLD | _SIGMAS | _FLOW | {"solver_order": 2, "solver_type": "midpoint", "lower_order_final": True}
)
_DPM: dict[str, Any] = _SOLVER | {
    "algorithm_type": "dpmsolver++",
    "lambda_min_clipped": float("-inf"),
    "variance_type": None,
    "final_sigmas_type": "zero",  # since v0.26
}

# Schedulers of the variance-preserving family: betas and predictions have the same meaning in all of them.
SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDPMScheduler": _LEADING | _CLIP | _THRESHOLD | _ZERO_SNR | {"variance_type": "fixed_small"},
    "DDIMScheduler": _LEADING | _CLIP | _THRESHOLD | _ZERO_SNR | {"set_alpha_to_one": True, "timestep_values": None},
    "PNDMScheduler": _LEADING | {"skip_prk_steps": False, "set_alpha_to_one": False},
    "DEISMultistepScheduler": _SOLVER | {"algorithm_type": "deis", "solver_type": "logrho"},
    "DPMSolverMultistepScheduler": _DPM | _ZERO_SNR | {"euler_at_final": False, "use_lu_lambdas": False},
    "DPMSolverSinglestepScheduler": {  # which always takes linspace
        key: value for key, value in _DPM.items() if key not in ("timestep_spacing", "steps_offset")
    }
    | {"lower_order_final": False},
    "EulerAncestralDiscreteScheduler": _ALL | _ZERO_SNR,
    "EulerDiscreteScheduler": _ALL
    | _SIGMAS
    | _ZERO_SNR
    | {
        "interpolation_type": "linear",
        "timestep_type": "discrete",  # since v0.24
        "sigma_min": None,
        "sigma_max": None,
        "final_sigmas_type": "zero",
    },
    "HeunDiscreteScheduler": _ALL
    | _SIGMAS
    | {"beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False, "clip_sample_range": 1.0},
    "LMSDiscreteScheduler": _ALL | _SIGMAS | {"timestep_values": None, "tensor_format": "pt"},
    "UniPCMultistepScheduler": _SOLVER
    | _ZERO_SNR
    | {
        "predict_x0": True,
        "solver_type": "bh2",
        "disable_corrector": (),
        "solver_p": None,
        "final_sigmas_type": "zero",
        "sigma_min": None,
        "sigma_max": None,
        "shift_terminal": None,
    },
}

RENAMED = {"timesteps": "num_train_timesteps", "clip_predicted_image": "clip_sample"}  # names before 0.1.0
NULLABLE = {"attention_head_dim", "variance_type", "mid_block_type"}  # may be null although the default is not
KINDS: dict[type, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("a string", (str,)),
    tuple: ("a list", (list, tuple)),
}


def _current_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the present name of each key that older versions wrote under another."""
    found = {RENAMED.get(key, key): value for key, value in config.items() if RENAMED.get(key) not in config}
    if found.pop("predict_epsilon", True) is False:  # v0.8, whose samples v0.9 called prediction_type="sample"
        found.setdefault("prediction_type", "sample")
    return found


def _check_kind(key: str, value: Any, default: Any) -> None:
    if default is None or (value is None and key in NULLABLE):
        return
    words, kinds = KINDS[type(default)]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{key}={value!r}: must be {words}")


def completed(
    config: Mapping[str, Any], class_name: str, defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """All settings of a class of diffusers as it reads them from a config, and a line for each key that it ignores.

    Args:
      config: contents of a config.json or scheduler_config.json; its keys that begin with "_" are no settings.
      class_name: of the class, for messages.
      defaults: of its constructor, from the tables above.
    Raises:
      ValueError: a value has not the type of its default; the message names the key.
    """
    defaulted = config.get("_use_default_values") or ()  # keys whose values the library replaces by its defaults
    given = {key: value for key, value in _current_names(config).items() if key[:1] != "_" and key not in defaulted}
    for key in given.keys() & defaults.keys():
        _check_kind(key, given[key], defaults[key])
    ignored = sorted(given.keys() - defaults.keys())
    settings = {key: given.get(key, default) for key, default in defaults.items()}
    return settings, [f"{key}={given[key]!r} is ignored: {class_name} has no such setting" for key in ignored]
