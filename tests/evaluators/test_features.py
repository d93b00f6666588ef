"""One pass over the images gives the same result for all chunks and processes, in memory that does not grow."""

import dataclasses
import json
import socket
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from genmodels.data.sources import make_source
from genmodels.errors import DataError
from genmodels.evaluators import features
from genmodels.evaluators.base import ImageSet
from genmodels.extractors import ExtractorSpec
from genmodels.metrics.frechet import frechet_distance
from tests.evaluators.sanity import distances
from tests.helpers import ROOT


@dataclasses.dataclass
class Endless:
    """Images made up when they are asked for."""

    count: int

    @property
    def shape(self):
        return (self.count, 8, 8, 1)

    def __len__(self):
        return self.count

    def __getitem__(self, indices):
        return np.random.default_rng(indices[0]).integers(0, 256, (len(indices), 8, 8, 1), dtype=np.uint8)


def summary(pixels, wants, splits=10):
    return features.summarise("generated", ImageSet(pixels, None, {}), ExtractorSpec("digits").load(), wants, splits)


def peak(count):
    tracemalloc.start()
    summary(Endless(count), {features.MOMENTS, features.SCORES})
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_moments_and_scores_of_eight_times_as_many_images_take_no_more_memory():
    peak(2048)  # compiles
    few, many = peak(2048), peak(8 * 2048)
    assert many < 1.1 * few
    assert few < 20e6


def test_a_summary_does_not_depend_on_the_chunk_size(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (333, 8, 8, 1), dtype=np.uint8)
    whole = summary(pixels, features.WANTS, splits=7)
    monkeypatch.setattr(features, "CHUNK_IMAGES", 50)
    parts = summary(pixels, features.WANTS, splits=7)
    assert frechet_distance(whole.gaussian, parts.gaussian).value < 1e-8
    np.testing.assert_allclose(parts.gaussian.full(), whole.gaussian.full(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(parts.scores.result(), whole.scores.result(), rtol=1e-6)
    np.testing.assert_allclose(parts.features, whole.features, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(parts.classes, whole.classes)


def test_parts_that_are_packed_and_unpacked_are_unchanged():
    extractor, wants = ExtractorSpec("digits").load(), set(features.WANTS)
    pixels = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), dtype=np.uint8)
    for count in (40, 100):  # fewer and more images than dimensions
        one = features._pass("generated", ImageSet(pixels[:count], None, {}), extractor, wants, 5)
        other = features._Parts.unpacked(one.packed())
        np.testing.assert_array_equal(other.moments.gaussian().full(), one.moments.gaussian().full())
        assert other.scores.result() == one.scores.result()
        np.testing.assert_array_equal(np.concatenate(other.features), np.concatenate(one.features))
        np.testing.assert_array_equal(np.concatenate(other.classes), np.concatenate(one.classes))


def test_a_part_that_no_metric_wants_cannot_be_read():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    found = summary(pixels, {features.FEATURES})
    assert features.present(found.features).shape == (20, 64)
    with pytest.raises(LookupError, match="does not want"):
        features.present(found.gaussian)


def test_a_set_without_images_is_refused():
    with pytest.raises(DataError, match="generated: there are no images"):
        summary(np.zeros((0, 8, 8, 1), np.uint8), {features.MOMENTS})


TWO = """
import sys
index, count, port, folder = *map(int, sys.argv[1:4]), sys.argv[4]
import jax
jax.config.update("jax_platforms", "cpu")
if count > 1:
    jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
import json
from genmodels import scoring
names = ("fd_digits", "kd_digits", "cs_digits", "precision_digits", "agreement_digits")
results = scoring.of_paths(f"{folder}/a.npz", f"{folder}/b.npz", names, {"subset_size": 100})
print(json.dumps([result.value for result in results]))
"""


@pytest.mark.slow
def test_two_processes_measure_the_same_as_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    test = make_source("digits", "test")
    np.savez(tmp_path / "a.npz", images=test.images[:149], labels=test.labels[:149])
    np.savez(tmp_path / "b.npz", images=test.images[149:])

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def run(count):
        monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / f"cache{count}"))
        calls = [
            subprocess.Popen(
                [sys.executable, "-c", TWO, str(index), str(count), port, str(tmp_path)],
                cwd=ROOT,
                text=True,
                stdout=subprocess.PIPE,
            )
            for index in range(count)
        ]
        return [json.loads(call.communicate(timeout=200)[0].splitlines()[-1]) for call in calls]

    ((one,), (first, second)) = run(1), run(2)
    assert first == second
    np.testing.assert_allclose(first, one, rtol=1e-6)


def check_sanity(extractor, source):
    found = {
        kind: [value for _, value in rows] for kind, rows in distances(extractor, source.images, source.labels).items()
    }
    (untouched,) = found.pop("untouched")
    for kind, values in found.items():
        assert untouched < values[0], kind
        assert values == sorted(values), kind


def test_the_distance_of_digits_increases_with_their_distortion():
    check_sanity(ExtractorSpec("digits").load(), make_source("digits", "train"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_distance_of_mnist_images_increases_with_their_distortion(name, shared):
    check_sanity(ExtractorSpec(name).load(), make_source(f"idx:{shared}/data/{name}", "test"))
