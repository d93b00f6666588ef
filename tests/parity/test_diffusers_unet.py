"""Our U-Net against diffusers' `UNet2DModel`: outputs, a sampled trajectory, and folders that go both ways."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genmodels import scoring
from genmodels.diffusion import samplers
from genmodels.diffusion.parameterization import Output
from genmodels.errors import GenmodelsError
from genmodels.interop import diffusers as diffusers_folder
from genmodels.interop import diffusers_keys
from genmodels.models.unet import UNet
from genmodels.runs.inference import Run
from tests.diffusion.gaussian import ddpm, keys_for
from tests.helpers import command, finish

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[parity]')")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (pip install -e '.[parity]')")

pytestmark = pytest.mark.slow

CIFAR10 = {  # the config.json of google/ddpm-cifar10-32
    "sample_size": 32,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [128, 256, 256, 256],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 0,
    "act_fn": "silu",
    "attention_head_dim": None,
    "norm_num_groups": 32,
    "norm_eps": 1e-6,
}
SMALL = {
    "sample_size": 16,
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
OTHERS = {  # the library's defaults where they differ from DDPM's, and its options
    "defaults": SMALL,
    "classes and scale-shift": SMALL
    | {"num_class_embeds": 5, "resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 8},
    "learned variance": SMALL | {"out_channels": 2},
}


def made(config):
    """Their network with random weights, none of them zero."""
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(**config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


def ours(network):
    """Our network and parameters with their weights."""
    config = dict(network.config)
    model = UNet(**diffusers_keys.settings_of(config))
    x = jnp.zeros((1, config["sample_size"], config["sample_size"], config["in_channels"]))
    t = jnp.zeros(1, jnp.int32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, t, t if model.num_classes else None))["params"]
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    return model, diffusers_keys.params_of(tensors, model, shapes, flip_sin_to_cos=config["flip_sin_to_cos"])


def run_theirs(network, x, t, labels=None):
    with torch.no_grad():
        x, t = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), torch.from_numpy(t)
        labels = None if labels is None else torch.from_numpy(labels)
        return network(x, t, class_labels=labels).sample.numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize("config", [CIFAR10, *OTHERS.values()], ids=["ddpm-cifar10-32", *OTHERS])
def test_outputs_are_equal_both_ways(config):
    network = made(config)
    model, params = ours(network)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) - (
        params["label"]["embedding"].shape[-1] if model.num_classes else 0  # the null label that theirs has not
    ) == sum(p.numel() for p in network.parameters())
    x = (
        np.random.default_rng(0)
        .standard_normal((2, *[config["sample_size"]] * 2, config["in_channels"]))
        .astype(np.float32)
    )
    t, labels = np.array([3, 977]), np.array([1, 4]) if model.num_classes else None
    theirs = run_theirs(network, x, t, labels)
    assert np.abs(theirs).max() > 0.5
    found = model.apply(
        {"params": params}, jnp.asarray(x), jnp.asarray(t), None if labels is None else jnp.asarray(labels)
    )
    np.testing.assert_allclose(found, theirs, atol=1e-4)
    config_back = diffusers_keys.config_of(model, config["sample_size"], config["in_channels"])
    back = diffusers.UNet2DModel.from_config(config_back).eval()
    tensors = diffusers_keys.tensors_of(params, model)
    back.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    np.testing.assert_allclose(run_theirs(back, x, t, labels), theirs, atol=1e-5)


def test_twenty_ddim_steps_from_the_same_noise_end_at_the_same_images():
    network = made(CIFAR10)
    model, params = ours(network)
    scheduler = diffusers.DDIMScheduler(1000, beta_start=1e-4, beta_end=0.02, timestep_spacing="leading")
    scheduler.set_timesteps(20)
    noise = np.random.default_rng(1).standard_normal((2, 32, 32, 3)).astype(np.float32)
    x = noise
    for t in scheduler.timesteps:
        output = run_theirs(network, x, np.full(2, int(t)))
        step = scheduler.step(torch.from_numpy(output), t, torch.from_numpy(x), use_clipped_model_output=True)
        x = step.prev_sample.numpy()
    found, path = jax.jit(
        lambda start: samplers.integrate(
            lambda image, time: Output(model.apply({"params": params}, image, time)),
            samplers.DDIMStep(),
            ddpm("linear").grid(20, "leading"),
            start,
            keys_for(2),
        )
    )(jnp.asarray(noise))
    assert x.std() > 0.1
    np.testing.assert_allclose(found, x, atol=1e-3)
    assert len(path.x0) == 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model as diffusers saves it, with its scheduler."""
    path = tmp_path_factory.mktemp("diffusers") / "model"
    made(SMALL | {"sample_size": 8}).save_pretrained(path)
    diffusers.DDPMScheduler(1000, variance_type="fixed_large").save_pretrained(path)
    return path


def test_a_folder_becomes_a_run_that_samples_and_is_scored_and_goes_back(folder, tmp_path):
    run, out = tmp_path / "run", tmp_path / "samples.npz"
    for step in (
        ("convert", f"--diffusers={folder}", f"--workdir={run}", "--source=digits"),
        ("sample", f"--workdir={run}", "--num=3", f"--out={out}", "--steps=5"),
        ("evaluate", f"--workdir={run}", "--metrics=nn_distance_ratio", "--num=8", f"--out={run}/eval/r.json"),
        ("report", f"--runs={run}", f"--out={run}/report.html"),
        ("export", f"--workdir={run}", f"--out={tmp_path / 'back'}"),
    ):
        code, said, err = finish(command(*step))
        assert code == 0, (step, said, err)
    assert np.load(out)["images"].shape == (3, 8, 8, 1)
    before, after = (diffusers.UNet2DModel.from_pretrained(path).eval() for path in (folder, tmp_path / "back"))
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(*(run_theirs(n, x, np.array([3, 900])) for n in (before, after)), atol=1e-5)
    scheduler = diffusers.DDPMScheduler.from_pretrained(tmp_path / "back")
    assert scheduler.config.variance_type == "fixed_large"
    code, _, err = finish(command("convert", f"--diffusers={folder}", f"--workdir={run}"))
    assert code == 4
    assert "a work directory already" in err


def test_the_old_names_of_attention_are_read(folder, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    tensors = load_file(old / diffusers_folder.WEIGHTS)
    for new, before in diffusers_keys.OLD_ATTENTION.items():
        tensors = {name.replace(f".{new}.", f".{before}."): value for name, value in tensors.items()}
    assert any(".proj_attn." in name for name in tensors)
    save_file(tensors, old / diffusers_folder.WEIGHTS)
    for path in (folder, old):
        diffusers_folder.read(path, tmp_path / f"run_{path.name}")
    images = [Run.load(tmp_path / f"run_{path.name}").sample(2, steps=3) for path in (folder, old)]
    np.testing.assert_array_equal(*images)
    with pytest.raises(GenmodelsError, match="converted without its data"):
        scoring.of_run(str(tmp_path / "run_old"), None, None, "latest")


def edit(name, **changes):
    def change(path):
        content = json.loads((path / name).read_text()) | changes
        (path / name).write_text(json.dumps(content))

    return change


def cut(path):
    data = (path / diffusers_folder.WEIGHTS).read_bytes()
    (path / diffusers_folder.WEIGHTS).write_bytes(data[: len(data) // 2])


def pickled(path):
    (path / diffusers_folder.WEIGHTS).rename(path / "diffusion_pytorch_model.bin")


def drop(path):
    tensors = load_file(path / diffusers_folder.WEIGHTS)
    tensors["conv_extra.weight"] = tensors.pop("conv_in.weight")
    save_file(tensors, path / diffusers_folder.WEIGHTS)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (cut, "cannot be read"),
        (pickled, "is a pickle and is never read"),
        (drop, "no tensor 'conv_in.weight'"),
        (edit("config.json", block_out_channels=[32, 128]), "has shape"),
        (edit("config.json", layers_per_block=2), "no tensor 'down_blocks.0.resnets.1"),
        (edit("config.json", act_fn="gelu"), "act_fn='gelu' has no equivalent"),
        (edit("config.json", down_block_types=["DownBlock2D", "KDownBlock2D"]), "KDownBlock2D has no equivalent"),
        (edit("config.json", sample_size=None), "sample_size=None"),
        (edit("scheduler_config.json", beta_schedule="sigmoid"), "beta_schedule='sigmoid' has no equivalent"),
        (edit("scheduler_config.json", beta_end=0.012), "beta_end=0.012 have no equivalent"),
        (edit("scheduler_config.json", variance_type="learned_range"), "does not fit in_channels"),
        (lambda path: (path / "scheduler_config.json").unlink(), "neither scheduler_config.json"),
        (lambda path: (path / "config.json").write_text("{"), "cannot be read"),
        (lambda path: (path / "config.json").write_text("[]"), "must be JSON objects"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_what_cannot_be_converted_is_named_and_nothing_is_left(folder, tmp_path, harm, words):
    path = tmp_path / "model"
    shutil.copytree(folder, path)
    harm(path)
    with pytest.raises(GenmodelsError, match=words):
        diffusers_folder.read(path, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
