"""The FID Inception equals the reference module in float64, with random weights made by a documented rule."""

import dataclasses
import json
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.errors import DataError
from genmodels.extractors import ExtractorSpec, NetworkExtractor, inception, is_published
from genmodels.metrics.resize import resize
from genmodels.models import inception as network
from tests.extractors import torch_writer

TAPS = {
    "pool1": "64",
    "pool2": "192",
    "mixed6": "768",
    "pool3": "2048",
    "logits": "logits",
    "unbiased": "logits_unbiased",
}
TOLERANCE = 1e-5


def random_weight(key, shape):
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("running_var"):
        return (1 + 0.3 * rng.uniform(size=shape)).astype(np.float32)
    normal = rng.standard_normal(shape)
    if key.endswith("conv.weight"):
        normal *= np.sqrt(2 / np.prod(shape[1:]))
    elif key.endswith("bn.weight"):
        normal = 1 + 0.1 * normal
    else:
        normal *= 0.02 if key == "fc.weight" else 0.1
    return normal.astype(np.float32)


@pytest.fixture(scope="module")
def state(shared):
    keys = json.loads((shared / "golden" / "fid_inception_state_keys.json").read_text())
    return {key: random_weight(key, shape) for key, shape in keys.items()}


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "fid_inception_random_golden.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def params(state):
    return inception.folded(state)


@pytest.fixture(scope="module")
def taps(params, golden):
    """Of each set of golden images: the taps, and the map that the spatial one is cut from."""
    sixth = "Mixed_6d_branch1x1"

    @jax.jit
    def run(params, images):
        model = network.Inception()
        chosen = {"capture_intermediates": lambda module, _: module.name == sixth, "mutable": ["intermediates"]}
        found, seen = model.apply({"params": params}, (images - 128) / 128, **chosen)
        return found, seen["intermediates"][sixth]["__call__"][0]

    return [jax.device_get(run(params, resize("tf1", jnp.asarray(golden[f"x{i}"]), network.SIZE))) for i in range(3)]


@pytest.fixture(scope="module")
def weights_file(state, tmp_path_factory):
    path = torch_writer.save(tmp_path_factory.mktemp("inception") / "random.pth", "zip", state)
    yield path
    path.unlink()  # 95 MB


@pytest.fixture(scope="module")
def extractor(weights_file):
    loaded = ExtractorSpec(f"inception_unverified:{weights_file}", "tf1").load()
    return dataclasses.replace(loaded, batch_size=8)  # one row for each virtual device


@pytest.mark.parametrize("index", range(3), ids=["32x32", "64x48", "299x299"])
@pytest.mark.parametrize("tap", TAPS)
def test_every_tap_equals_the_reference(taps, golden, index, tap):
    expected = golden[f"y{index}_{TAPS[tap]}"]
    np.testing.assert_allclose(getattr(taps[index][0], tap), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("pool", "wrong"),
    [("_average", lambda h: network.nn.avg_pool(h, (3, 3), padding="SAME")), ("_largest", network._average)],
    ids=["padding counts", "average in Mixed_7c"],
)
def test_the_pooling_of_other_inceptions_gives_different_features(monkeypatch, params, golden, pool, wrong):
    monkeypatch.setattr(network, pool, wrong)
    run = jax.jit(lambda params, x: network.Inception().apply({"params": params}, (x - 128) / 128).pool3)
    expected = golden["y2_2048"][:1]
    found = run(params, golden["x2"][:1].astype(np.float32))
    assert np.linalg.norm(found - expected) > 0.01 * np.linalg.norm(expected)


def test_the_spatial_tap_is_the_first_channels_of_a_map_row_by_row(taps):
    for found, maps in taps:
        assert maps.shape[1:] == (17, 17, 192)
        assert found.spatial.shape[1] == 2023
        for row, column, channel in np.ndindex(17, 17, 7):
            place = 7 * (17 * row + column) + channel
            np.testing.assert_array_equal(found.spatial[:, place], maps[:, row, column, channel])


def test_a_weights_file_and_uint8_images_give_the_features_of_the_reference(extractor, golden):
    found = extractor(golden["x0"])
    np.testing.assert_allclose(found.features, golden["y0_2048"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found.logits, golden["y0_logits_unbiased"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("layer", inception.LAYERS)
def test_each_layer_can_be_chosen_by_name(monkeypatch, weights_file, params, taps, layer):
    monkeypatch.setattr(inception, "read_tensors", lambda path: {})
    monkeypatch.setattr(inception, "folded", lambda state: params)
    monkeypatch.setattr(network.Inception, "apply", lambda *arguments: taps[0][0])
    loaded = inception.load(str(weights_file), "clean", layer, verified=False)
    features, logits = loaded.apply(loaded.variables, np.zeros((2, *loaded.shape), np.float32))
    assert (loaded.layer, features.shape) == (layer, (2, loaded.dimension))
    assert features is getattr(taps[0][0], layer)
    assert logits is taps[0][0].unbiased


def test_an_extractor_is_published_only_with_the_published_weights_layer_and_resize(extractor):
    assert extractor.id == "inception_unverified"
    assert not is_published(extractor)
    real = dataclasses.replace(extractor, id="inception", sha256=inception.WEIGHTS.sha256)
    assert is_published(real)
    assert is_published(dataclasses.replace(real, resize="clean", layer="spatial"))
    for other in ({"sha256": extractor.sha256}, {"id": "mine"}, {"layer": "logits"}, {"resize": "none"}):
        assert not is_published(dataclasses.replace(real, **other))

    class Impostor:
        def __init__(self):
            self.__dict__ |= {field.name: getattr(real, field.name) for field in dataclasses.fields(NetworkExtractor)}

        def __call__(self, images):
            return real(images)

    assert not is_published(Impostor())


def test_other_weights_are_refused_by_hash(extractor, weights_file):
    with pytest.raises(DataError, match=str(weights_file)) as caught:
        ExtractorSpec(f"inception:{weights_file}", "tf1").load()
    assert inception.WEIGHTS.sha256 in str(caught.value)
    assert extractor.sha256 in str(caught.value)


def test_a_truncated_file_is_refused(tmp_path):
    path = torch_writer.save(tmp_path / "cut.pth", "zip", {"fc.bias": np.zeros(1008, np.float32)})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=f"^{path}: is truncated") as caught:
        ExtractorSpec(f"inception_unverified:{path}").load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["inception", "inception_unverified"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(DataError, match=f"{tmp_path}/none.pth"):
        ExtractorSpec(f"{name}:{tmp_path}/none.pth").load()


def test_counters_of_batches_are_ignored(state, params):
    name = "Mixed_5b.branch1x1.bn.num_batches_tracked"
    found = inception.folded(state | {name: np.array(7)})
    jax.tree.map(np.testing.assert_array_equal, found, params)


@pytest.mark.parametrize(
    "key", ["fc.weight", "fc.bias", "Mixed_7c.branch_pool.bn.running_var", "Mixed_6b.branch7x7_2.conv.weight"]
)
def test_a_missing_entry_is_named(state, key):
    left = {name: value for name, value in state.items() if name != key}
    with pytest.raises(ValueError, match=re.escape(key)):
        inception.folded(left)


@pytest.mark.parametrize("key", ["AuxLogits.fc.weight", "Mixed_5b.branch1x1.conv.bias", "step"])
def test_an_unknown_entry_is_named(state, key):
    with pytest.raises(ValueError, match=re.escape(key)):
        inception.folded(state | {key: np.zeros(1, np.float32)})


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("fc.weight", (1000, 2048)),
        ("fc.bias", (1,)),
        ("Mixed_5b.branch1x1.conv.weight", (64, 192, 3, 3)),
        ("Mixed_5b.branch1x1.conv.weight", (64, 192)),
        ("Mixed_5b.branch1x1.bn.bias", (32,)),
        ("Mixed_5b.branch1x1.bn.weight", (1,)),
        ("Mixed_5b.branch1x1.bn.running_var", ()),
    ],
)
def test_a_wrong_shape_is_named(state, key, shape):
    with pytest.raises(ValueError, match=re.escape(key)):
        inception.folded(state | {key: np.ones(shape, np.float32)})
