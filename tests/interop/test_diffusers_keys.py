"""The mapping to diffusers' `UNet2DModel`, tested without diffusers; tests/parity compares with the library itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.interop import diffusers_keys
from genmodels.interop.diffusers import config_of, obstacle
from genmodels.models.unet import UNet
from genmodels.runs.inference import abstract_state
from genmodels.tasks import DataSpec, make_task
from tests.helpers import digest, experiment, finish, started

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


NARROW = ["ddpm_digits", "ddpm_mnist", "ddpm_mnist:small", "ddpm_mnist:fashion"]


@pytest.mark.parametrize("name", NARROW)
def test_the_narrow_experiments_can_be_exported_to_diffusers_with_four_groups_as_the_readme_says(name):
    name, _, variant = name.partition(":")
    size = 8 if name == "ddpm_digits" else 28
    data = DataSpec((size, size, 1), 10)
    assert obstacle(experiment(name, variant, **{"model.norm_groups": 4}), data) == ""
    assert "config.model.norm_groups=" in obstacle(experiment(name, variant), data)


@pytest.mark.parametrize("name", ["ddpm_folder", "ddpm_folder:small", "ddpm_folder:tiny", "ddpm_cifar10"])
def test_the_template_and_the_published_network_go_to_diffusers_as_they_are(name):
    name, _, variant = name.partition(":")
    config = experiment(name, variant)
    size = config.data.size or 32
    assert obstacle(config, DataSpec((size, size, 3), 0)) == ""


@pytest.mark.parametrize(
    ("name", "changes", "shape", "key"),
    [
        ("flow_matching_mnist", {}, (28, 28, 1), "config.diffusion.process=flow"),
        ("edm_cifar10", {}, (32, 32, 3), "config.diffusion.process=edm"),
        ("ddpm_cifar10:cosine", {}, (32, 32, 3), "config.diffusion.rescale_timesteps"),
        ("ddpm_folder", {}, (64, 48, 3), "config.data.size"),
        ("ddpm_folder", {}, (36, 36, 3), "config.data.size to a multiple of 8"),
        ("ddpm_folder", {"model.norm_groups": 0}, (64, 64, 3), "config.model.norm_groups=16"),
        ("ddpm_folder", {"model.head_channels": 0, "model.heads": 2}, (64, 64, 3), "config.model.head_channels"),
        ("ddpm_folder", {"model.frequency_shift": 0.5}, (64, 64, 3), "config.model.frequency_shift"),
        ("vae_folder", {}, (64, 64, 3), ""),
        ("gan_folder", {}, (64, 64, 3), ""),
    ],
)
def test_what_keeps_a_model_from_diffusers_is_named_by_its_key(name, changes, shape, key):
    name, _, variant = name.partition(":")
    found = obstacle(experiment(name, variant, **changes), DataSpec(shape, 10))
    assert key in found
    assert bool(found) == bool(key)


def test_train_says_before_the_first_step_that_a_model_will_not_go_to_diffusers():
    code = (
        "import types; from genmodels import config, tasks, train;"
        "made = config.defaults('diffusion', process='flow');"
        "print(*train.notes(types.SimpleNamespace(config=made, data=tasks.DataSpec((8, 8, 1), 0))))"
    )
    _, out, err = finish(started("-c", code))
    assert out.startswith("this model will not go to diffusers"), err
    assert "config.diffusion.process=flow" in out


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
        ({}, {"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}, "use_flow_sigmas"),
        ({}, {"clip_sample_range": 0}, "clip_sample_range"),
        ({"sample_size": True}, {}, "sample_size=True"),
        ({"_class_name": "UNet2DConditionModel"}, {}, "_class_name='UNet2DConditionModel'"),
        ({"block_out_channels": "abc"}, {}, "block_out_channels='abc'"),
        ({"layers_per_block": 1.5}, {}, "layers_per_block=1.5"),
        ({}, {"num_train_timesteps": "many"}, "num_train_timesteps='many'"),
        ({}, {"clip_sample": "yes"}, "clip_sample='yes': must be true or false"),
        ({}, {"clip_sample_range": "1"}, "clip_sample_range='1': must be a number"),
        ({}, {"trained_betas": [0.1, 0.2]}, "trained_betas"),
        ({}, {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type"),
        ({}, {"_class_name": None}, "_class_name=None"),
        ({"down_block_types": ["DownBlock2D"]}, {}, "down_block_types: must name as many blocks"),
        ({"block_out_channels": []}, {}, "block_out_channels"),
        ({"attn_norm_num_groups": 4}, {}, "attn_norm_num_groups"),
        ({"block_out_channels": [8, 12]}, {}, "multiple of the first"),
        ({"up_block_types": ["UpBlock2D", "AttnUpBlock2D"]}, {}, "same levels"),
    ],
)
def test_configs_that_describe_another_model_are_refused(unet, scheduler, words):
    with pytest.raises(ValueError, match=words):
        read(unet, **scheduler)


# The signatures of diffusers' constructors, which its documentation lists; older versions had fewer keys.
DEFAULTS = [
    ("DDPMScheduler", "leading", 1.0, []),
    ("DDIMScheduler", "leading", 1.0, []),
    ("PNDMScheduler", "leading", 0.0, ["set_alpha_to_one=False is left out"]),
    ("DPMSolverMultistepScheduler", "linspace", 0.0, []),
    ("DPMSolverSinglestepScheduler", "linspace", 0.0, []),
    ("DEISMultistepScheduler", "linspace", 0.0, []),
    ("EulerDiscreteScheduler", "linspace", 0.0, []),
    ("EulerAncestralDiscreteScheduler", "linspace", 0.0, []),
    ("LMSDiscreteScheduler", "linspace", 0.0, []),
    ("UniPCMultistepScheduler", "linspace", 0.0, []),
]


@pytest.mark.parametrize(("name", "spacing", "clip", "dropped"), DEFAULTS)
def test_keys_that_a_scheduler_lacks_are_read_as_diffusers_reads_them(name, spacing, clip, dropped):
    plain = diffusers_keys.config_of(MODELS["plain"], 8, 1)
    config, _, notes = config_of(plain, {"_class_name": name, "_diffusers_version": "0.1.1"}, null_label=False)
    found = config.diffusion
    assert (found.parameterization, found.schedule, found.timesteps) == ("epsilon", "linear", 1000)
    assert (found.variance, found.zero_terminal_snr) == ("fixed_small", False)
    assert (config.sampler.spacing, config.sampler.clip, config.likelihood.clip) == (spacing, clip, clip)
    assert f"the sampling method of {name} is not converted" in notes[0]
    assert [note.split(":")[0] for note in notes[1:]] == dropped


def test_the_default_betas_of_heun_are_another_schedule():
    with pytest.raises(ValueError, match=r"beta_start=0\.00085"):
        read(_class_name="HeunDiscreteScheduler")
    assert read(_class_name="HeunDiscreteScheduler", beta_start=1e-4, beta_end=0.02).diffusion.schedule == "linear"


def test_keys_of_older_versions_keep_their_meaning():
    old = {"_class_name": "DDPMScheduler", "timesteps": 500, "clip_predicted_image": False, "tensor_format": "pt"}
    plain = diffusers_keys.config_of(MODELS["plain"], 8, 1)
    config, _, notes = config_of(plain, old, null_label=False)
    assert (config.diffusion.timesteps, config.sampler.clip, len(notes)) == (500, 0.0, 1)
    without = {key: value for key, value in SCHEDULER.items() if key != "prediction_type"}
    for predict_epsilon, meaning in ((True, "epsilon"), (False, "x0")):  # v0.8
        config, *_ = config_of(plain, without | {"predict_epsilon": predict_epsilon}, null_label=False)
        assert config.diffusion.parameterization == meaning


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("DDIMScheduler", {"steps_offset": 1}, "steps_offset=1 is left out"),
        ("DDIMScheduler", {"set_alpha_to_one": False}, "set_alpha_to_one=False is left out"),
        ("DDPMScheduler", {"thresholding": True}, "thresholding=True is left out"),
        ("UniPCMultistepScheduler", {"sigma_min": 0.1}, "sigma_min=0.1 is left out"),
        ("EulerDiscreteScheduler", {"final_sigmas_type": "sigma_min"}, "final_sigmas_type='sigma_min' is left out"),
        ("LMSDiscreteScheduler", {"use_beta_sigmas": True}, "use_beta_sigmas=True is left out"),
        ("PNDMScheduler", {"clip_sample": True}, "clip_sample=True is ignored: PNDMScheduler has no such setting"),
        ("DDPMScheduler", {"colour": 3}, "colour=3 is ignored"),
    ],
)
def test_what_is_left_out_is_said_in_one_line(name, options, line):
    plain = diffusers_keys.config_of(MODELS["plain"], 8, 1)
    config, _, notes = config_of(plain, SCHEDULER | {"_class_name": name} | options, null_label=False)
    assert sum(note.startswith(line) for note in notes) == 1
    assert name != "PNDMScheduler" or config.sampler.clip == 0


def test_spacings_by_noise_level_are_translated():
    assert read(_class_name="EulerDiscreteScheduler", use_karras_sigmas=True).sampler.spacing == "karras"
    assert read(_class_name="DPMSolverMultistepScheduler", use_lu_lambdas=True).sampler.spacing == "logsnr"
    with pytest.raises(ValueError, match="timestep_spacing='uneven'"):
        read(timestep_spacing="uneven")


def test_an_empty_unet_config_is_that_of_no_unet_and_absent_keys_are_the_defaults_of_unet2dmodel():
    with pytest.raises(ValueError, match="no setting of a UNet2DModel"):
        diffusers_keys.settings_of({"_class_name": "UNet2DModel"})
    found = diffusers_keys.settings_of({"sample_size": 64})
    assert (found["channels"], found["multipliers"], found["attention_resolutions"]) == (224, (1, 2, 3, 4), (32, 16, 8))
    assert (found["head_channels"], found["norm_groups"], found["norm_epsilon"]) == (8, 32, 1e-5)
    assert (found["downsample_padding"], found["frequency_shift"], found["blocks"]) == ("symmetric", 0.0, 2)
