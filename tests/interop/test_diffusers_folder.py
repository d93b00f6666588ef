"""Folders of diffusers as people have them: of the first versions, in variants, in parts, and pipelines."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from genmodels.errors import ConfigError, DataError, StorageError
from genmodels.interop import diffusers, diffusers_keys
from genmodels.models.unet import UNet
from genmodels.runs.inference import Run
from tests.helpers import digest

MODEL = UNet(3, channels=8, multipliers=(1, 2), blocks=1, norm_groups=2, attention_resolutions=(4,))
FIRST_SCHEDULER = {  # as version 0.1.1 wrote it
    "_class_name": "DDPMScheduler",
    "_diffusers_version": "0.1.1",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "trained_betas": None,
    "variance_type": "fixed_large",
}
NAME = "diffusion_pytorch_model"


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), jnp.zeros(1, jnp.int32)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32) / 8, shapes["params"])


@pytest.fixture(scope="module")
def tensors(params):
    return diffusers_keys.tensors_of(params, MODEL)


def folder_of(path, tensors=None, *, unet="", scheduler="", **settings):
    """A model folder; its configs lie in the sub-folders `unet` and `scheduler`."""
    for sub, name, content in (
        (unet, "config.json", diffusers_keys.config_of(MODEL, 8, 3)),
        (scheduler, "scheduler_config.json", FIRST_SCHEDULER | settings),
    ):
        (path / sub).mkdir(parents=True, exist_ok=True)
        (path / sub / name).write_text(json.dumps(content))
    if tensors is not None:
        save_file(tensors, path / unet / f"{NAME}.safetensors")
    return path


def read(folder, tmp_path):
    notes = diffusers.read(folder, tmp_path / "run")
    return Run.load(tmp_path / "run"), notes


def test_a_folder_of_the_first_versions_is_a_run_that_predicts_epsilon_at_leading_timesteps(tmp_path, params, tensors):
    run, notes = read(folder_of(tmp_path / "a", tensors), tmp_path)
    assert digest(jax.device_get(run.variables["params"]["denoiser"])) == digest(params)
    assert run.config.diffusion.parameterization == "epsilon"
    assert (run.config.sampler.spacing, run.config.sampler.variance) == ("leading", "fixed_large")
    assert len(notes) == 1
    assert "not converted" in notes[0]


def test_the_case_of_the_first_versions_converts_and_samples(shared, tmp_path):
    run, _ = read(shared / "cases" / "diffusers_ddpm_0.1.1", tmp_path)
    assert (run.config.diffusion.parameterization, run.config.sampler.spacing) == ("epsilon", "leading")


def parts(path, tensors, variant="", index=f"{NAME}.safetensors.index.json"):
    """Writes the tensors in two parts with their index, as save_pretrained does."""
    names = sorted(tensors)
    files = [f"{NAME}{variant}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    where = {name: files[position % 2] for position, name in enumerate(names)}
    for file in files:
        save_file({name: tensors[name] for name in names if where[name] == file}, path / file)
    (path / index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("variant", np.float16),
        ("variant", ml_dtypes.bfloat16),
        ("parts", np.float32),
        ("parts of a variant", np.float16),
        ("parts of a variant, as older versions wrote them", np.float16),
    ],
)
def test_variants_and_parts_are_read(tmp_path, params, tensors, kind, dtype):
    folder = folder_of(tmp_path / "a", unet="unet", scheduler="scheduler")
    rounded = {name: value.astype(dtype) for name, value in tensors.items()}
    if kind == "variant":
        save_file(rounded, folder / "unet" / f"{NAME}.fp16.safetensors")
    elif kind == "parts":
        parts(folder / "unet", rounded)
    else:
        index = f"{NAME}.safetensors.index.fp16.json" if kind == "parts of a variant" else None
        parts(folder / "unet", rounded, ".fp16", index or f"{NAME}.fp16.safetensors.index.json")
    run, _ = read(folder, tmp_path)
    expected = jax.tree.map(lambda leaf: leaf.astype(dtype).astype(np.float32), params)
    assert digest(jax.device_get(run.variables["params"]["denoiser"])) == digest(expected)


def test_full_precision_is_preferred_and_a_choice_of_variants_is_refused(tmp_path, params, tensors):
    folder = folder_of(tmp_path / "a", tensors)
    for variant in ("fp16", "non_ema"):
        save_file(
            {name: np.zeros_like(value) for name, value in tensors.items()}, folder / f"{NAME}.{variant}.safetensors"
        )
    (folder / f"{NAME}.bin").write_bytes(b"a pickle")
    run, _ = read(folder, tmp_path)
    assert digest(jax.device_get(run.variables["params"]["denoiser"])) == digest(params)
    (folder / f"{NAME}.safetensors").unlink()
    with pytest.raises(StorageError, match=r"2 variants .*fp16.safetensors, .*non_ema.safetensors"):
        diffusers.read(folder, tmp_path / "other")


def lost(folder):
    (folder / f"{NAME}-00002-of-00002.safetensors").unlink()


def edited(change):
    def harm(folder):
        path = folder / f"{NAME}.safetensors.index.json"
        index = json.loads(path.read_text())
        change(index["weight_map"])
        path.write_text(json.dumps(index))

    return harm


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lost, r"00002-of-00002.safetensors: no such file, although .*index.json names it"),
        (edited(lambda where: where.update(extra=where["conv_in.bias"])), "names the tensor 'extra' in"),
        (edited(lambda where: where.update(extra="../x.safetensors")), "not a .safetensors file beside it"),
        (edited(lambda where: where.update(extra="weights.bin")), "not a .safetensors file beside it"),
        (edited(lambda where: where.update(extra=3)), 'has no "weight_map"'),
        (lambda folder: (folder / f"{NAME}.safetensors.index.json").write_text("[]"), 'has no "weight_map"'),
        (lambda folder: (folder / f"{NAME}.safetensors.index.json").unlink(), "is a part of the weights; copy"),
    ],
)
def test_parts_that_do_not_make_a_whole_are_refused(tmp_path, tensors, harm, words):
    folder = folder_of(tmp_path / "a")
    parts(folder, tensors)
    harm(folder)
    with pytest.raises(StorageError, match=words):
        diffusers.read(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [f"{NAME}.bin", f"{NAME}.fp16.bin", f"{NAME}-00001-of-00002.bin"])
def test_pickles_are_never_read(tmp_path, name):
    folder = folder_of(tmp_path / "a")
    (folder / name).write_bytes(b"a pickle")
    with pytest.raises(StorageError, match="is a pickle and is never read"):
        diffusers.read(folder, tmp_path / "run")


@pytest.mark.parametrize("options", [{}, {"timestep_spacing": "trailing"}, {"clip_sample": False}])
def test_the_scheduler_goes_back_as_it_came(tmp_path, tensors, options):
    run, _ = read(folder_of(tmp_path / "a", tensors, **options), tmp_path)
    diffusers.write(run, tmp_path / "back")
    found = json.loads((tmp_path / "back" / "scheduler_config.json").read_text())
    wanted = {"timestep_spacing": "leading", "prediction_type": "epsilon"} | FIRST_SCHEDULER | options
    assert {key: found.get(key) for key in wanted} == wanted | {"_diffusers_version": None}


@pytest.mark.parametrize("sub", ["vae", "vqvae"])
@pytest.mark.parametrize("how", ["folder", "index"])
def test_latent_diffusion_is_refused_by_name(tmp_path, tensors, sub, how):
    folder = folder_of(tmp_path / "a", tensors, unet="unet", scheduler="scheduler")
    if how == "folder":
        (folder / sub).mkdir()
    index = {"_class_name": "LDMPipeline", "unet": ["diffusers", "UNet2DModel"], sub: ["diffusers", "VQModel"]}
    (folder / "model_index.json").write_text(json.dumps(index if how == "index" else {}))
    with pytest.raises(ConfigError, match=f"latent diffusion pipeline.* {sub}/"):
        diffusers.read(folder, tmp_path / "run")


def test_the_class_in_the_pipelines_index_decides_how_its_scheduler_is_read(tmp_path, tensors):
    folder = folder_of(tmp_path / "a", tensors, unet="unet", scheduler="scheduler")
    index = {
        "_class_name": "PNDMPipeline",
        "_diffusers_version": "0.1.1",
        "scheduler": ["diffusers", "PNDMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
        "safety_checker": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    run, notes = read(folder, tmp_path)
    assert run.config.sampler.clip == 0  # PNDMScheduler never clips
    assert any(note.startswith("clip_sample=True is ignored") for note in notes)
    (folder / "model_index.json").write_text(json.dumps(index | {"text_encoder": ["transformers", "CLIPTextModel"]}))
    with pytest.raises(ConfigError, match="its pipeline has text_encoder"):
        diffusers.read(folder, tmp_path / "other")


def test_a_folder_of_another_model_is_refused_by_its_first_missing_tensor(tmp_path, tensors):
    folder = folder_of(tmp_path / "a", {name: value for name, value in tensors.items() if name != "conv_in.weight"})
    with pytest.raises(DataError, match=r"no tensor 'conv_in\.weight'"):
        diffusers.read(folder, tmp_path / "run")
