"""The shipped classifiers: the bytes that were released, and how often they are right."""

import hashlib
import importlib.resources
import shutil

import numpy as np
import pytest

from genmodels.data.sources import make_source
from genmodels.errors import DataError
from genmodels.extractors import classifiers

WEIGHTS = importlib.resources.files("genmodels.extractors") / "weights"
RIGHT = {"digits": (297, 0.98), "mnist": (10_000, 0.99), "fashion_mnist": (10_000, 0.91)}
shipped = pytest.mark.parametrize("name", classifiers.SHIPPED)


def source_of(name, shared):
    return make_source("digits" if name == "digits" else f"idx:{shared / 'data' / name}", "test")


def test_the_package_data_is_small():
    assert {file.name for file in WEIGHTS.iterdir()} == {f"{name}.npz" for name in classifiers.SHIPPED}
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 1_000_000


@shipped
def test_a_changed_byte_is_refused(name, tmp_path, monkeypatch):
    shutil.copytree(WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    path = tmp_path / "weights" / f"{name}.npz"
    data = bytearray(path.read_bytes())
    assert classifiers.load(name).sha256 == hashlib.sha256(data).hexdigest()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"{name}.npz has sha256 {hashlib.sha256(data).hexdigest()}"):
        classifiers.load(name)


@shipped
def test_a_classifier_has_its_stated_accuracy_on_the_test_split(name, request):
    shared = None if name == "digits" else request.getfixturevalue("shared")
    source = source_of(name, shared)
    found = classifiers.load(name)(np.asarray(source.images))
    count, least = RIGHT[name]
    assert found.features.shape == (count, 64)
    assert found.logits.shape == (count, 10)
    assert np.mean(found.logits.argmax(axis=1) == source.labels) >= least


def test_features_depend_on_the_image_only():
    images = np.asarray(source_of("digits", None).images)
    extractor = classifiers.load("digits")
    features = extractor(images).features
    assert features.std(axis=0).min() > 0
    for count in (1, 8, 100):
        np.testing.assert_allclose(extractor(images[:count]).features, features[:count], atol=1e-5)
    many = extractor(np.concatenate([images, images[::-1]])).features  # more than a batch
    np.testing.assert_allclose(many, np.concatenate([features, features[::-1]]), atol=1e-5)


@shipped
def test_images_of_other_shapes_are_refused(name):
    images = np.zeros((2, 12, 9, 1), np.uint8)
    with pytest.raises(DataError, match="--resize=clean"):
        classifiers.load(name)(images)
    with pytest.raises(DataError, match='convert="grey"'):
        classifiers.load(name, "clean")(images.repeat(3, axis=3))


@pytest.mark.parametrize("resize", ["tf1", "clean"])
def test_resized_digits_are_still_classified_correctly(resize):
    source = source_of("digits", None)
    large = np.asarray(source.images).repeat(4, axis=1).repeat(4, axis=2)
    extractor = classifiers.load("digits", resize)
    found = extractor(large)
    assert extractor.resize == resize
    np.testing.assert_allclose(extractor.mixed(list(large)).features, found.features, atol=1e-4)
    assert np.mean(found.logits.argmax(axis=1) == source.labels) > 0.9
