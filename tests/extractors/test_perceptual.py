"""LPIPS is refused without its published weights; with any weights it has the properties of a distance."""

import dataclasses
import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.errors import DataError
from genmodels.extractors import perceptual
from genmodels.extractors.weights import digest
from genmodels.models.lpips_trunks import TRUNKS, Trunk
from tests.extractors import torch_writer

CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
SIDES = {"alex": (55, 27, 13, 13, 13), "vgg": (224, 112, 56, 28, 14)}
PARAMETERS = {"alex": 2_469_696, "vgg": 14_714_688}  # of the convolutions, as torchvision and Keras count them


def shapes(kind, side=224):
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(Trunk(kind).init_with_output, jax.random.key(0), images)


@functools.cache
def random_states(kind):
    """State dicts of a trunk and of the linear layers."""
    rng = np.random.default_rng(0)
    trunk = {}
    for name, leaves in shapes(kind)[1]["params"].items():
        height, width, inner, outer = leaves["kernel"].shape
        kernel = rng.normal(0, np.sqrt(2 / (height * width * inner)), (outer, inner, height, width))
        trunk[f"{name.replace('_', '.')}.weight"] = kernel.astype(np.float32)
        trunk[f"{name.replace('_', '.')}.bias"] = rng.normal(0, 0.1, outer).astype(np.float32)
    linear = {
        f"lin{tap}.model.1.weight": rng.uniform(0, 1, (1, width, 1, 1)).astype(np.float32)
        for tap, width in enumerate(CHANNELS[kind])
    }
    return trunk, linear


@pytest.fixture(scope="module")
def lpips():
    return perceptual.assembled("alex", *random_states("alex"), ("t", "l"))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("kind", TRUNKS)
def test_trunks_have_the_published_numbers_of_parameters(kind):
    maps, variables = shapes(kind)
    assert [m.shape[1:] for m in maps] == [(n, n, c) for n, c in zip(SIDES[kind], CHANNELS[kind], strict=True)]
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == PARAMETERS[kind]


@pytest.mark.parametrize("kind", TRUNKS)
def test_the_smallest_images_leave_no_feature_map_empty(kind):
    assert min(min(m.shape) for m in shapes(kind, perceptual.MIN_SIDE)[0]) > 0


def test_identical_images_have_distance_zero_and_different_ones_a_positive_distance(lpips):
    a, b = noise(3, 40, 36, 3), noise(3, 40, 36, 3, seed=1)
    np.testing.assert_array_equal(lpips(a, a), 0)
    assert lpips(a, b).shape == (3,)
    assert lpips(a, b).min() > 1e-3
    np.testing.assert_allclose(lpips(a, b), lpips(b, a), rtol=1e-5)
    near = np.clip(a.astype(int) + noise(3, 40, 36, 3, seed=2) % 9, 0, 255).astype(np.uint8)
    assert (lpips(a, near) < lpips(a, b) / 4).all()


def test_a_grey_image_equals_three_equal_channels(lpips):
    a, b = noise(2, 40, 36, 1), noise(2, 40, 36, 1, seed=1)
    np.testing.assert_array_equal(lpips(a, b), lpips(a.repeat(3, axis=3), b.repeat(3, axis=3)))


def test_distances_do_not_depend_on_the_batch(lpips, monkeypatch):
    a, b = noise(5, 40, 36, 3), noise(5, 40, 36, 3, seed=1)
    whole = lpips(a, b)
    monkeypatch.setattr(perceptual, "BATCH_SIZE", 2)
    np.testing.assert_allclose(lpips(a, b), whole, rtol=1e-5)


def test_the_distance_is_linear_in_the_channel_weights(lpips):
    a, b = noise(2, 40, 36, 3), noise(2, 40, 36, 3, seed=1)
    each = [
        dataclasses.replace(lpips, linear=tuple(w * (tap == n) for n, w in enumerate(lpips.linear))) for tap in range(5)
    ]
    parts = [part(a, b) for part in each]
    assert min(part.min() for part in parts) > 0
    np.testing.assert_allclose(sum(parts), lpips(a, b), rtol=1e-5)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 31, 40, 3), (2, 31, 40, 3)),
        ((2, 40, 31, 1), (2, 40, 31, 1)),
        ((2, 40, 40, 4), (2, 40, 40, 4)),
        ((2, 40, 40, 3), (2, 40, 40, 1)),
        ((2, 40, 40, 3), (3, 40, 40, 3)),
        ((2, 40, 40, 3), (2, 40, 44, 3)),
    ],
)
def test_images_that_do_not_form_pairs_or_are_too_small_are_refused(lpips, a, b):
    with pytest.raises(ValueError, match=r"equal shapes|32 pixels") as caught:
        lpips(noise(*a), noise(*b))
    assert all(str(number) in str(caught.value) for number in a[1:])


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("kind", TRUNKS)
def test_an_entry_that_is_missing_is_named(kind, place):
    for key in random_states(kind)[place]:
        states = [dict(state) for state in random_states(kind)]
        del states[place][key]
        with pytest.raises(ValueError, match=re.escape(key)):
            perceptual.assembled(kind, *states, ("", ""))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights of random numbers, and the hashes that they are to be known by."""
    folder = tmp_path_factory.mktemp("lpips")
    trunk, linear = random_states("alex")
    contents = {"alex": trunk, "alex_linear": linear, "vgg": {"a": np.zeros(1)}, "vgg_linear": {"b": np.zeros(1)}}
    paths = {name: torch_writer.save(folder / f"{name}.pth", "legacy", state) for name, state in contents.items()}
    known = {kind: (digest(paths[kind])[:8], digest(paths[f"{kind}_linear"])) for kind in TRUNKS}
    return {name: str(path) for name, path in paths.items()}, known


@pytest.fixture
def known(files, monkeypatch):
    monkeypatch.setattr(perceptual, "KNOWN", files[1])
    perceptual.load.cache_clear()
    yield files[0]
    perceptual.load.cache_clear()


def test_files_of_known_hashes_are_loaded(known, lpips):
    loaded = perceptual.load(known["alex"], known["alex_linear"])
    a, b = noise(1, 40, 36, 3), noise(1, 40, 36, 3, seed=1)
    np.testing.assert_array_equal(loaded(a, b), lpips(a, b))
    assert loaded.protocol["lpips"] == "v0.1, alex"
    assert loaded.protocol["lpips_trunk_sha256"] == digest(pathlib.Path(known["alex"]))
    assert loaded.protocol["lpips_linear_sha256"] == digest(pathlib.Path(known["alex_linear"]))


@pytest.mark.parametrize(
    ("trunk", "linear", "said"),
    [
        ("", "", ["--lpips_trunk", "--lpips_linear", "alexnet-owt-7be5be79.pth"]),
        ("alex", "", ["--lpips_linear"]),
        ("", "alex_linear", ["--lpips_trunk"]),
        ("/no/such.pth", "alex_linear", ["/no/such.pth"]),
        ("alex", "/no/such.pth", ["/no/such.pth"]),
        ("alex_linear", "alex", ["alex_linear.pth", "trunk", "--lpips_trunk"]),
        ("alex", "alex", ["alex.pth", "linear layers", "--lpips_linear"]),
        ("alex", "vgg_linear", ["alex.pth is for alex", "vgg_linear.pth is for vgg"]),
        ("vgg", "vgg_linear", ["features.0.weight"]),
    ],
)
def test_wrong_weights_files_are_refused_and_named(known, trunk, linear, said):
    with pytest.raises(DataError) as caught:
        perceptual.load(known.get(trunk, trunk), known.get(linear, linear))
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in said)


def test_other_weights_are_not_lpips(files):
    with pytest.raises(DataError, match=r"alex\.pth: sha256 is [0-9a-f]{64}, which is none"):
        perceptual.load(files[0]["alex"], files[0]["alex_linear"])
