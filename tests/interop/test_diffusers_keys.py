"""The mapping to diffusers' `UNet2DModel`, tested without diffusers; tests/parity compares with the library itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.interop import diffusers_keys
from genmodels.interop.diffusers import config_of
from genmodels.models.unet import UNet
from genmodels.runs.inference import abstract_state
from genmodels.tasks import DataSpec, make_task
from tests.helpers import digest, experiment

WIDE = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "norm_groups": 2}
MODELS = {
    "plain": UNet(1, **WIDE, attention_resolutions=(4,)),
    "classes": UNet(1, **WIDE, attention_resolutions=(8,), num_classes=3, scale_shift=True, frequency_shift=0.0),
    "heads": UNet(2, **WIDE, attention_resolutions=(8, 4), head_channels=4, downsample_padding="symmetric"),
    "odd blocks": UNet(3, channels=8, multipliers=(1, 1, 2), blocks=3, norm_groups=1, attention_resolutions=()),
}


def params_of(model):
    x, t = jnp.zeros((1, 8, 8, 1)), jnp.zeros(1, jnp.int32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, t, t if model.num_classes else None))["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("name", MODELS)
def test_weights_and_settings_survive_export_and_import(name):
    model = MODELS[name]
    params = params_of(model)
    tensors = diffusers_keys.tensors_of(params, model)
    assert sum(x.size for x in tensors.values()) == sum(x.size for x in jax.tree.leaves(params))
    again = diffusers_keys.params_of(tensors, model, params, flip_sin_to_cos=False)
    assert digest(again) == digest(params)
    settings = diffusers_keys.settings_of(diffusers_keys.config_of(model, 8, 1), null_label=True)
    assert digest(params_of(UNet(**settings))) == digest(params)
    assert UNet(**settings) == model.clone(heads=1)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda x: np.where(np.arange(8)[:, None, None, None] == 3, np.nan, x), "not finite"),
        (lambda x: np.round(x).astype(np.int32), "has the dtype int32"),
        (lambda x: x[:, :, :2], r"has shape \[8, 1, 2, 3\], not \[8, 1, 3, 3\]"),
    ],
)
def test_invalid_tensors_are_refused_by_name(harm, words):
    params = params_of(MODELS["plain"])
    tensors = diffusers_keys.tensors_of(params, MODELS["plain"])
    tensors["conv_in.weight"] = harm(tensors["conv_in.weight"])
    with pytest.raises(ValueError, match=f"'conv_in.weight' .*{words}"):
        diffusers_keys.params_of(tensors, MODELS["plain"], params, flip_sin_to_cos=False)


def test_swapped_halves_of_the_time_embedding_change_one_layer_by_its_rows():
    model = MODELS["plain"]
    params = params_of(model)
    flipped = diffusers_keys.params_of(diffusers_keys.tensors_of(params, model), model, params, flip_sin_to_cos=True)
    kernel = params["time_0"]["kernel"]
    np.testing.assert_array_equal(flipped["time_0"]["kernel"], np.concatenate([kernel[4:], kernel[:4]]))
    flipped["time_0"]["kernel"] = kernel
    assert digest(flipped) == digest(params)


def test_the_network_of_improved_ddpm_has_heads_that_diffusers_knows():
    config = experiment("ddpm_cifar10", "cosine")
    spec = DataSpec((32, 32, 3), 0)
    state = abstract_state(make_task(config, spec, 1), spec)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) > 50e6
    settings = {key: value for key, value in config.model.items() if key not in ("attention", "dtype")}
    found = diffusers_keys.config_of(UNet(6, **settings), 32, 3)
    assert found["attention_head_dim"] == 64


NARROW = ["ddpm_digits", "ddpm_mnist", "ddpm_mnist:small", "ddpm_mnist:fashion", "ddpm_folder", "ddpm_folder:small"]


@pytest.mark.parametrize("name", NARROW)
def test_the_narrow_experiments_can_be_exported_to_diffusers_with_four_groups_as_the_readme_says(name):
    name, _, variant = name.partition(":")
    config = experiment(name, variant, **{"model.norm_groups": 4})
    settings = {key: value for key, value in config.model.items() if key not in ("attention", "dtype")}
    size = {"ddpm_digits": 8, "ddpm_folder": 64}.get(name, 28)
    assert diffusers_keys.config_of(UNet(1, **settings), size, 1)["norm_num_groups"] == 4
    with pytest.raises(ValueError, match="norm_groups"):
        diffusers_keys.config_of(UNet(1, **(settings | {"norm_groups": 0})), size, 1)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (UNet(1, channels=24, multipliers=(1, 3), blocks=1), "config.model.norm_groups=6"),
        (
            UNet(1, channels=32, multipliers=(1, 2), norm_groups=8, heads=2, attention_resolutions=(8, 4)),
            "head_channels",
        ),
        (UNet(1, **WIDE, frequency_shift=0.5), "frequency_shift"),
        (UNet(1, **(WIDE | {"multipliers": (1, 1, 1, 1, 1)})), "feature maps of odd size"),
    ],
)
def test_networks_without_an_equivalent_in_diffusers_are_refused(model, words):
    with pytest.raises(ValueError, match=words):
        diffusers_keys.config_of(model, 8, 1)


SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}


def read(unet=None, **scheduler):
    plain = diffusers_keys.config_of(MODELS["plain"], 8, 1)
    return config_of(plain | (unet or {}), SCHEDULER | scheduler, null_label=False)[0]


def test_schedulers_are_translated_and_clip_only_if_diffusers_clips_by_default():
    assert read().sampler.clip == 1.0
    assert read(_class_name="EulerDiscreteScheduler").sampler.clip == 0.0
    assert read(clip_sample=False).sampler.clip == 0.0
    assert read(clip_sample_range=2.0).likelihood.clip == 2.0
    assert read(timestep_spacing="leading").sampler.spacing == "leading"
    found = read(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", variance_type=None).diffusion
    assert (found.schedule, found.parameterization, found.variance) == ("cosine", "velocity", "fixed_small")


@pytest.mark.parametrize(
    ("unet", "scheduler", "words"),
    [
        ({}, {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatchEulerDiscreteScheduler' of the scheduler"),
        ({}, {"_class_name": "EDMEulerScheduler"}, "no equivalent in genmodels"),
        ({}, {"_class_name": "CMStochasticIterativeScheduler"}, "no equivalent in genmodels"),
        ({}, {"use_flow_sigmas": True}, "use_flow_sigmas"),
        ({}, {"clip_sample_range": 0}, "clip_sample_range"),
        ({"sample_size": True}, {}, "sample_size=True"),
        ({"_class_name": "UNet2DConditionModel"}, {}, "_class_name='UNet2DConditionModel'"),
        ({"block_out_channels": "abc"}, {}, "block_out_channels='abc'"),
        ({"layers_per_block": 1.5}, {}, "layers_per_block=1.5"),
        ({}, {"num_train_timesteps": "many"}, "num_train_timesteps='many'"),
        ({"block_out_channels": []}, {}, "block_out_channels"),
        ({"attn_norm_num_groups": 4}, {}, "attn_norm_num_groups"),
        ({"block_out_channels": [8, 12]}, {}, "multiple of the first"),
        ({"up_block_types": ["UpBlock2D", "AttnUpBlock2D"]}, {}, "same levels"),
    ],
)
def test_configs_that_describe_another_model_are_refused(unet, scheduler, words):
    with pytest.raises(ValueError, match=words):
        read(unet, **scheduler)
    for key in SCHEDULER:
        with pytest.raises(ValueError, match=key):
            config_of(
                diffusers_keys.config_of(MODELS["plain"], 8, 1),
                {k: v for k, v in SCHEDULER.items() if k != key},
                null_label=False,
            )
