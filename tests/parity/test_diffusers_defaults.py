"""Our tables of diffusers' defaults against its constructors, and folders without keys against what it reads there."""

import inspect
import json

import jax.numpy as jnp
import numpy as np
import pytest

from genmodels import config as config_lib
from genmodels.diffusion import spacing
from genmodels.interop import diffusers as diffusers_folder
from genmodels.interop import diffusers_defaults
from genmodels.models.unet import UNet
from genmodels.runs.inference import Run
from tests.parity.test_diffusers_unet import made, run_theirs

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[parity]')")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (pip install -e '.[parity]')")

pytestmark = pytest.mark.slow

OF_OLD_VERSIONS = {"tensor_format", "timestep_values"}


@pytest.mark.parametrize("name", ["UNet2DModel", *diffusers_defaults.SCHEDULERS])
def test_the_tables_are_the_signatures_of_the_library(name):
    table = diffusers_defaults.UNET if name == "UNet2DModel" else diffusers_defaults.SCHEDULERS[name]
    parameters = dict(inspect.signature(getattr(diffusers, name).__init__).parameters)
    theirs = {key: p.default for key, p in parameters.items() if p.kind is not p.VAR_KEYWORD and key != "self"}
    listed = {key: tuple(value) if isinstance(value, list) else value for key, value in theirs.items()}
    assert {key: value for key, value in table.items() if key not in OF_OLD_VERSIONS} == listed


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler"])
def test_a_folder_without_keys_is_read_as_the_library_reads_it(tmp_path, name):
    """Only what the weights need is in config.json: the rest are defaults, unlike those of the DDPM checkpoints."""
    shape = {"sample_size": 8, "block_out_channels": [32, 64], "layers_per_block": 1}
    blocks = {"down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]}
    folder = tmp_path / "model"
    made(shape | blocks).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(shape | blocks))
    scheduler = {"_class_name": name, "_diffusers_version": "0.1.1", "beta_schedule": "linear"}
    (folder / "scheduler_config.json").write_text(json.dumps(scheduler))
    diffusers_folder.read(folder, tmp_path / "run")
    run = Run.load(tmp_path / "run")

    network = diffusers.UNet2DModel.from_pretrained(folder).eval()
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
    t = np.array([3, 900])
    params = {"params": run.variables["params"]["denoiser"]}
    model = config_lib.build(UNet, run.config.model, "model", out_channels=3, num_classes=0)
    np.testing.assert_allclose(
        model.apply(params, jnp.asarray(x), jnp.asarray(t)), run_theirs(network, x, t), atol=1e-4
    )

    theirs = getattr(diffusers, name).from_pretrained(folder)
    theirs.set_timesteps(20)
    if name in ("DDPMScheduler", "DDIMScheduler"):
        found = spacing.sampling_timesteps(1000, 20, run.config.sampler.spacing)
        np.testing.assert_array_equal(found, theirs.timesteps)
    assert theirs.config.prediction_type == run.config.diffusion.parameterization == "epsilon"
    assert run.config.sampler.spacing == theirs.config.timestep_spacing
    assert run.config.sampler.clip == (theirs.config.clip_sample_range if theirs.config.get("clip_sample") else 0)
    assert run.config.sampler.variance == theirs.config.get("variance_type", "fixed_small")


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_the_parts_that_the_library_saves_are_read(tmp_path, variant):
    network = made(
        {"sample_size": 8, "block_out_channels": [32, 64], "layers_per_block": 1, "norm_num_groups": 8}
        | {"down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]}
    )
    folder = tmp_path / "model"
    network.save_pretrained(folder / "unet", max_shard_size="200KB", variant=variant)
    assert len(list((folder / "unet").glob("*-of-*.safetensors"))) > 1
    diffusers.DDPMScheduler().save_pretrained(folder / "scheduler")
    diffusers_folder.read(folder, tmp_path / "run")
    kernel = Run.load(tmp_path / "run").variables["params"]["denoiser"]["conv_in"]["kernel"]
    np.testing.assert_array_equal(kernel, network.conv_in.weight.detach().numpy().transpose(2, 3, 1, 0))
