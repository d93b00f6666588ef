"""The FID Inception's shape: parameters and grids as published (Szegedy et al. 2015, table 1)."""

import json
import math

import jax
import jax.numpy as jnp
import pytest

from genmodels.models.inception import Inception, Taps

GRIDS = {35: ("Mixed_5b", "Mixed_5c", "Mixed_5d"), 17: ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e")}
GRIDS |= {8: ("Mixed_7b", "Mixed_7c")}


def shapes(side=299):
    """Of the taps, of what the first convolution of each branch says, and of the parameters; nothing is computed."""

    def run(key, images):
        kept = {"mutable": ["params", "intermediates"], "capture_intermediates": True}
        taps, variables = Inception().init_with_output(key, images, **kept)
        maps = {name: seen["__call__"][0] for name, seen in variables["intermediates"].items() if name != "__call__"}
        return taps, maps, variables["params"]

    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    taps, maps, params = jax.eval_shape(run, jax.random.key(0), images)
    return taps, {name: m.shape[1:] for name, m in maps.items()}, params


@pytest.fixture(scope="module")
def whole():
    return shapes()


def test_the_convolutions_have_as_many_parameters_as_those_of_keras(whole):
    # InceptionV3(include_top=False), whose batch norms have no scale: one bias a channel, as when they are folded in
    count = sum(leaf.size for name, layer in whole[2].items() if name != "fc" for leaf in jax.tree.leaves(layer))
    assert count == 21_768_352
    assert sum(leaf.size for leaf in jax.tree.leaves(whole[2]["fc"])) == 2048 * 1008 + 1008


def test_layers_have_the_names_and_the_number_of_parameters_of_the_reference(whole, shared):
    keys = json.loads((shared / "golden" / "fid_inception_state_keys.json").read_text())
    stems = {key.removesuffix(".conv.weight") for key in keys if key.endswith(".conv.weight")}
    assert whole[2].keys() == {stem.replace(".", "_") for stem in stems} | {"fc"}
    kept = [shape for key, shape in keys.items() if key.endswith((".conv.weight", ".bn.bias")) or key[:3] == "fc."]
    assert sum(leaf.size for leaf in jax.tree.leaves(whole[2])) == sum(map(math.prod, kept))


def test_feature_maps_have_the_published_sizes(whole):
    assert whole[1]["Conv2d_1a_3x3"] == (149, 149, 32)
    assert whole[1]["Conv2d_2a_3x3"] == (147, 147, 32)
    assert whole[1]["Conv2d_4a_3x3"] == (71, 71, 192)
    for side, names in GRIDS.items():
        for name in names:
            assert whole[1][f"{name}_branch1x1"][:2] == whole[1][f"{name}_branch_pool"][:2] == (side, side)


def test_taps_have_the_widths_of_their_layers(whole):
    assert whole[0] == Taps(
        *(jax.ShapeDtypeStruct((2, n), jnp.float32) for n in (64, 192, 768, 2048, 2023, 1008, 1008))
    )


@pytest.mark.parametrize(("side", "last"), [(75, 1), (74, 0)])
def test_small_images_leave_at_least_one_position_in_the_last_feature_map(side, last):
    assert shapes(side)[1]["Mixed_7c_branch1x1"] == (last, last, 320)
