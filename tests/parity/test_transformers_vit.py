"""Our Vision Transformer against transformers' `ViTForImageClassification`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.interop import transformers_keys
from genmodels.models.vit import ViT
from genmodels.runs.inference import Run
from tests.helpers import command, finish

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[parity]')")
transformers = pytest.importorskip("transformers", reason="transformers is not installed (pip install -e '.[parity]')")

pytestmark = pytest.mark.slow

CONFIGS = {
    "B/16": {"num_labels": 1000},
    "small, grey": {
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 80,
        "image_size": 32,
        "patch_size": 8,
        "num_channels": 1,
        "num_labels": 7,
        "layer_norm_eps": 1e-6,
    },
}


def made(**config):
    """Their network with random weights, none of them zero."""
    torch.manual_seed(0)
    network = transformers.ViTForImageClassification(transformers.ViTConfig(**config)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


def ours(config, tensors):
    settings = transformers_keys.settings_of(config.to_dict())
    return ViT(config.num_labels, **settings), transformers_keys.params_of(tensors, settings["depth"])


def images_for(config):
    shape = (2, config.image_size, config.image_size, config.num_channels)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def logits_of(network, images):
    with torch.no_grad():
        return network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).logits.numpy()


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_equal(name):
    network = made(**CONFIGS[name])
    config = network.config
    model, params = ours(config, {key: value.numpy() for key, value in network.state_dict().items()})
    images = images_for(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(images))["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sum(p.numel() for p in network.parameters())
    theirs = logits_of(network, images)
    assert theirs.std() > 0.1
    found, _ = jax.jit(model.apply)({"params": params}, jnp.asarray(images))
    np.testing.assert_allclose(found, theirs, atol=1e-4)


def test_a_saved_model_has_older_names_and_gives_the_same(tmp_path):
    from safetensors.numpy import load_file

    network = made(**CONFIGS["small, grey"])
    network.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "vit.encoder.layer.0.attention.attention.query.weight" in tensors
    images = images_for(network.config)
    model, params = ours(network.config, tensors)
    found, _ = model.apply({"params": params}, jnp.asarray(images))
    np.testing.assert_allclose(found, logits_of(network, images), atol=1e-4)


def test_a_folder_becomes_a_work_directory_that_classifies_as_theirs_and_can_be_begun_with(tmp_path):
    network = made(**CONFIGS["small, grey"] | {"image_size": 16})
    network.save_pretrained(tmp_path / "theirs")
    code, _, err = finish(command("convert", f"--transformers={tmp_path}/theirs", f"--workdir={tmp_path}/ours"))
    assert code == 0, err
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1)).astype(np.uint8)
    found = Run.load(tmp_path / "ours").predict("classify", 4, {"image": pixels})["logits"]
    np.testing.assert_allclose(found, logits_of(network, pixels / np.float32(127.5) - 1), atol=1e-4)
    sizes = {"patch_size": 8, "width": 48, "depth": 3, "heads": 4, "hidden": 80}
    settings = [f"--config.model.{key}={value}" for key, value in sizes.items()]
    settings += [f"--config.init_from={tmp_path}/ours", "--config.init_fresh=('classifier/trunk/class_.*',)"]
    args = ["--config=experiments/vit_digits.py:tiny", f"--workdir={tmp_path}/run", *settings]  # 1 patch of 4 remains
    code, out, err = finish(command("train", *args))
    assert code == 0, err
    assert "resized: classifier/trunk/position_embedding" in out
