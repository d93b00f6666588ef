"""The mapping of names and layouts. That the logits are equal is tested against the library itself in tests/parity."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from genmodels.core.files import write_text
from genmodels.errors import GenmodelsError
from genmodels.interop import transformers
from genmodels.interop.transformers_keys import params_of, settings_of
from genmodels.models.vit import ViT

CONFIG = {
    "model_type": "vit",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 1,
    "id2label": {"0": "a", "1": "b", "2": "c"},
}
OLD = (
    {  # names and shapes of a saved model, as published models have them
        "vit.embeddings.cls_token": (1, 1, 8),
        "vit.embeddings.position_embeddings": (1, 5, 8),
        "vit.embeddings.patch_embeddings.projection.weight": (8, 1, 4, 4),
        "vit.embeddings.patch_embeddings.projection.bias": (8,),
        "vit.layernorm.weight": (8,),
        "vit.layernorm.bias": (8,),
        "classifier.weight": (3, 8),
        "classifier.bias": (3,),
    }
    | {
        f"vit.encoder.layer.0.{name}.{leaf}": shape
        for name, wide in {
            "attention.attention.query": (8, 8),
            "attention.attention.key": (8, 8),
            "attention.attention.value": (8, 8),
            "attention.output.dense": (8, 8),
            "intermediate.dense": (12, 8),
            "output.dense": (8, 12),
            "layernorm_before": (8,),
            "layernorm_after": (8,),
        }.items()
        for leaf, shape in (("weight", wide), ("bias", wide[:1]))
    }
)


def tensors(**changed):
    rng = np.random.default_rng(0)
    made = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in OLD.items()}
    return {name: value for name, value in (made | changed).items() if value is not None}


def test_every_tensor_is_mapped_to_its_parameter():
    found = params_of(tensors(), 1)
    shapes = jax.eval_shape(ViT(3, **settings_of(CONFIG)).init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, shapes)
    given = tensors()
    assert sum(leaf.size for leaf in jax.tree.leaves(found)) == sum(value.size for value in given.values())
    places = given["vit.embeddings.position_embeddings"][0]
    np.testing.assert_array_equal(found["trunk"]["position_embedding"][1, 0], places[1 + 2])
    np.testing.assert_array_equal(
        found["trunk"]["block_0"]["mlp"]["in"]["kernel"], given["vit.encoder.layer.0.intermediate.dense.weight"].T
    )


@pytest.mark.parametrize(
    ("config", "changed", "words"),
    [
        ({"hidden_act": "gelu_new"}, {}, "hidden_act='gelu_new' has no equivalent in genmodels"),
        ({"model_type": "deit"}, {}, "model_type"),
        ({"patch_size": [4, 4]}, {}, "whole number"),
        ({"num_hidden_layers": 2}, {}, r"has no tensor layers\.1\."),
        ({}, {"vit.layernorm.bias": None}, r"has no tensor layernorm\.bias"),
        ({}, {"extra.weight": np.zeros(2, np.float32)}, r"extra\.weight does not belong"),
        ({}, {"vit.embeddings.position_embeddings": np.zeros((1, 6, 8), np.float32)}, "do not form a square grid"),
        ({"hidden_size": 16}, {}, "shapes"),
    ],
)
def test_models_that_cannot_be_converted_are_refused_by_name_and_leave_no_run(config, changed, words, tmp_path):
    write_text(tmp_path / "theirs" / "config.json", json.dumps(CONFIG | config))
    save_file(tensors(**changed), tmp_path / "theirs" / "model.safetensors")
    with pytest.raises(GenmodelsError, match=words):
        transformers.read(tmp_path / "theirs", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_without_a_head_gets_one_of_zeros(tmp_path):
    from genmodels.runs.inference import Run

    bare = {name.removeprefix("vit."): value for name, value in tensors().items() if name.startswith("vit.")}
    bare["pooler.dense.weight"] = np.zeros((8, 8), np.float32)
    (tmp_path / "theirs").mkdir()
    write_text(tmp_path / "theirs" / "config.json", json.dumps(CONFIG))
    save_file(bare, tmp_path / "theirs" / "model.safetensors")
    transformers.read(tmp_path / "theirs", tmp_path / "run")
    images = np.arange(2 * 64, dtype=np.uint8).reshape(2, 8, 8, 1)
    found = Run.load(tmp_path / "run").predict("classify", 2, {"image": images})
    assert not found["logits"].any()
    assert found["features"].std() > 0.1


COLOUR = CONFIG | {"num_channels": 3}
KERNEL = "vit.embeddings.patch_embeddings.projection.weight"


def converted(folder, preprocessor):
    """The work directory of a model of colour images with such a preprocessor."""
    (folder / "theirs").mkdir(parents=True)
    write_text(folder / "theirs" / "config.json", json.dumps(COLOUR))
    if preprocessor is not None:
        write_text(folder / "theirs" / "preprocessor_config.json", json.dumps(preprocessor))
    kernel = np.random.default_rng(1).standard_normal((8, 3, 4, 4)).astype(np.float32)
    save_file(tensors(**{KERNEL: kernel}), folder / "theirs" / "model.safetensors")
    transformers.read(folder / "theirs", folder / "run")
    return folder / "run"


IMAGENET = {
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "rescale_factor": 0.00392156862745098,
}


@pytest.mark.parametrize(
    "asked", [IMAGENET, {"do_normalize": False}, {"image_mean": 0.5, "image_std": [0.5, 0.5, 0.5]}]
)
def test_the_normalisation_of_the_preprocessor_becomes_part_of_the_model(asked, tmp_path):
    from genmodels.runs.inference import Run

    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    found = Run.load(converted(tmp_path / "asked", asked)).predict("classify", 4, {"image": pixels})["logits"]
    plain = Run.load(converted(tmp_path / "plain", None))
    mean, deviation = asked.get("image_mean", 0.0), asked.get("image_std", 1.0)
    seen = (pixels / 255 - np.asarray(mean)) / np.asarray(deviation)
    model, variables = ViT(3, **settings_of(COLOUR)), {"params": plain.variables["params"]["classifier"]}
    wanted, _ = model.apply(variables, jnp.asarray(seen, jnp.float32))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.std(found) > 0.01


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"image_std": [0.2, 0.0, 0.2]}, "image_std=.*positive"),
        ({"image_mean": ["a"]}, "preprocessor_config.json: cannot be converted"),
        ({"image_mean": [0.1, 0.2]}, "preprocessor_config.json: cannot be converted"),
        ({"do_rescale": False}, "other ranges"),
        ([1], "preprocessor_config.json: cannot be converted"),
    ],
)
def test_a_preprocessor_without_equivalent_is_refused(asked, words, tmp_path):
    with pytest.raises(GenmodelsError, match=words):
        converted(tmp_path, asked)
    assert not (tmp_path / "run").exists()
