"""An extractor that runs a network: the features of an image depend on that image only."""

import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.errors import DataError
from genmodels.extractors import Extractor, NetworkExtractor
from genmodels.metrics.resize import resize_on_host


def make(shape=(4, 4, 3), resize="none", batch_size=5):
    """Its features are the pixels, weighted."""

    def apply(variables, images):
        flat = images.reshape(len(images), -1)
        return flat * variables, flat[:, :2] / 255

    size = int(np.prod(shape))
    weights = np.linspace(0, 1, size, dtype=np.float32)
    return NetworkExtractor("own", "0" * 64, "pixels", size, resize, shape, apply, weights, "0-255", batch_size)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def weighted(images):
    flat = images.reshape(len(images), -1).astype(np.float32)
    return flat * np.linspace(0, 1, flat.shape[1], dtype=np.float32)


def test_a_network_extractor_fulfils_the_protocol():
    assert isinstance(make(), Extractor)
    assert not isinstance(weighted, Extractor)


@pytest.mark.parametrize("batch_size", [1, 5, 8, 20])  # on eight devices: 8, 8, 8 and 24 rows
@pytest.mark.parametrize("count", [1, 7, 8, 9, 17])
def test_batches_and_padding_do_not_change_features(batch_size, count):
    images = noise(count, 4, 4, 3)
    found = make(batch_size=batch_size)(images)
    np.testing.assert_allclose(found.features, weighted(images), rtol=1e-6)
    assert found.logits.shape == (count, 2)
    assert found.features.dtype == found.logits.dtype == np.float32


def test_grey_images_are_repeated_for_three_channels():
    grey = noise(3, 4, 4, 1)
    np.testing.assert_array_equal(make()(grey).features, make()(grey.repeat(3, axis=3)).features)
    np.testing.assert_array_equal(make().mixed(list(grey)).features, make()(grey).features)


@pytest.mark.parametrize("resize", ["tf1", "clean"])
def test_images_of_different_sizes_have_the_features_of_single_images(resize):
    images = [
        noise(height, width, channels, seed=height) for height, width, channels in [(4, 4, 3), (9, 3, 3), (5, 8, 1)]
    ]
    extractor = make(resize=resize)
    found = extractor.mixed(images)
    for index, image in enumerate(images):
        for alone in (extractor(image[None]), extractor.mixed([image])):
            np.testing.assert_allclose(found.features[index], alone.features[0], atol=1e-4)
            np.testing.assert_allclose(found.logits[index], alone.logits[0], atol=1e-6)
    expected = resize_on_host(resize, images[1], 4)
    np.testing.assert_allclose(found.features[1], weighted(expected[None])[0], rtol=1e-6)


def test_images_of_its_size_are_not_resized():
    images = noise(3, 4, 4, 3)
    for resize in ("tf1", "clean"):
        np.testing.assert_allclose(make(resize=resize)(images).features, weighted(images), atol=1e-4)


def test_a_network_without_classes_has_no_logits():
    silent = NetworkExtractor("own", "", "", 3, "none", (1, 1, 3), lambda v, x: (jnp.mean(x, (1, 2)), None), 0.0, "", 8)
    found = silent(noise(9, 1, 1, 3))
    assert found.logits is None
    assert found.features.shape == (9, 3)


@pytest.mark.parametrize(
    ("shape", "resize", "images", "remedy"),
    [
        ((4, 4, 3), "none", (5, 4, 3), "--resize=clean"),
        ((4, 4, 3), "none", (4, 5, 3), "--resize=clean"),
        ((4, 4, 3), "none", (4, 4, 4), 'convert="rgb"'),
        ((4, 4, 3), "clean", (4, 4, 2), 'convert="rgb"'),
        ((4, 4, 1), "tf1", (4, 4, 3), 'convert="grey"'),
    ],
)
def test_images_that_the_network_cannot_take_are_refused(shape, resize, images, remedy):
    extractor = make(shape, resize)
    for call in (lambda: extractor(noise(2, *images)), lambda: extractor.mixed([noise(*images)])):
        with pytest.raises(DataError, match=r"takes .* these are " + "x".join(map(str, images))) as caught:
            call()
        assert remedy in str(caught.value)
