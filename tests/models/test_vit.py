import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.models.vit import ViT, adapt
from tests.helpers import random_variables

SMALL = {"patch_size": 4, "width": 16, "depth": 2, "heads": 2, "hidden": 32}
IMAGES = jax.random.normal(jax.random.key(0), (2, 8, 12, 1))


def size(model, *shape):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        ({"width": 192, "heads": 3}, 5_717_416),  # DeiT-Ti/16, as timm counts it
        ({"width": 384, "heads": 6}, 22_050_664),
        ({}, 86_567_656),
        ({"width": 1024, "depth": 24, "heads": 16}, 304_326_632),
    ],
    ids=["Ti", "S", "B", "L"],
)
def test_networks_have_the_published_numbers_of_parameters(settings, published):
    assert size(ViT(1000, **settings), 224, 224, 3) == published


def test_options_remove_the_parameters_that_they_make_superfluous():
    whole = size(ViT(10, **SMALL), 8, 12, 1)
    assert whole - size(ViT(10, **SMALL, pooling="mean"), 8, 12, 1) == 2 * 16  # the class token and its position
    assert whole - size(ViT(10, **SMALL, positions="sincos"), 8, 12, 1) == (2 * 3 + 1) * 16
    assert whole - size(ViT(0, **SMALL), 8, 12, 1) == 16 * 10 + 10


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_features_are_pooled_tokens_and_the_head_is_linear_in_them(pooling):
    model = ViT(10, **SMALL, pooling=pooling)
    variables = random_variables(model.init, IMAGES)
    variables["params"]["trunk"]["norm"]["norm"] = {"scale": jnp.ones(16), "bias": jnp.zeros(16)}
    logits, features = model.apply(variables, IMAGES)
    head = variables["params"]["logits"]
    np.testing.assert_allclose(logits, features @ head["kernel"] + head["bias"], atol=1e-5)
    trunk = {"params": {"trunk": variables["params"]["trunk"]}}
    bare = ViT(0, **SMALL, pooling=pooling).apply(trunk, IMAGES)
    np.testing.assert_array_equal(bare[0], features)
    # The last norm leaves each token with mean 0 and variance 1; an average of several has less.
    np.testing.assert_allclose(features.mean(-1), 0, atol=1e-5)
    assert (np.abs(features.std(-1) - 1) < 1e-3).all() == (pooling == "class")


def test_without_positions_the_order_of_patches_does_not_matter():
    """Without them, patches in another order are the same set of tokens."""
    swapped = jnp.concatenate([IMAGES[:, 4:], IMAGES[:, :4]], axis=1)
    model = ViT(10, **SMALL, pooling="mean")
    params = random_variables(model.init, IMAGES)["params"]
    for positions, same in ((params["trunk"]["position_embedding"], False), (jnp.zeros((2, 3, 16)), True)):
        params["trunk"]["position_embedding"] = positions
        features = [model.apply({"params": params}, x)[1] for x in (IMAGES, swapped)]
        assert (np.abs(features[0] - features[1]).max() < 1e-5) == same


def test_keys_turn_on_dropout_and_each_example_depends_on_its_own_key_only():
    model = ViT(10, **SMALL, dropout=0.2, stochastic_depth=0.5)
    variables = random_variables(model.init, IMAGES)
    keys = jax.random.split(jax.random.key(2), 2)
    plain, drawn = model.apply(variables, IMAGES)[1], model.apply(variables, IMAGES, keys)[1]
    assert np.abs(plain - drawn).max() > 1e-2
    np.testing.assert_allclose(model.apply(variables, IMAGES[1:], keys[1:])[1][0], drawn[1], atol=1e-5)


def test_bfloat16_rounds_the_computation_and_keeps_parameters_and_outputs_in_float32():
    model, coarse = (ViT(10, **SMALL, dtype=dtype) for dtype in ("float32", "bfloat16"))
    variables = random_variables(coarse.init, IMAGES)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    (logits, features), (_, exact) = coarse.apply(variables, IMAGES), model.apply(variables, IMAGES)
    assert logits.dtype == features.dtype == jnp.float32
    assert 1e-5 < np.abs(features - exact).max() < 0.1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"patch_size": 0}, "at least 1"),
        ({"pooling": "max"}, "unknown pooling 'max'; there are class, mean"),
        ({"positions": "rope"}, "unknown positions"),
        ({"stochastic_depth": 1.0}, "stochastic_depth must be within"),
        ({"heads": 3}, "3 attention heads do not divide 16"),
        ({"attention": "flash"}, "unknown attention"),
        ({"patch_size": 3}, "does not divide images of 8x12; these do: 1, 2, 4"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        size(ViT(10, **SMALL | settings), 8, 12, 1)


def test_positions_of_another_size_are_resized_and_nothing_else_is():
    grid = np.asarray(jax.random.normal(jax.random.key(0), (2, 3, 16)))
    assert adapt("position_embedding", grid, (4, 4, 16)).shape == (4, 4, 16)
    assert adapt("position_embedding", grid, (4, 4, 8)) is None
    assert adapt("kernel", grid, (4, 4, 16)) is None
